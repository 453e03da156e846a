use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Print the manual page, or write one for each command into a folder
///
///   monitor man | man -l -
///   monitor man --output /usr/local/share/man/man1
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder for monitor.1, monitor-run.1 and so on; created if missing
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

pub fn run(args: &Args, mut command: clap::Command) -> anyhow::Result<()> {
    let Some(folder) = &args.output else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        return super::output::ignoring_a_closed_pipe(io::stdout().write_all(&page));
    };
    let named = || format!("cannot write manual pages into {}", folder.display());
    fs::create_dir_all(folder).with_context(named)?;
    // Names each command by its whole path, and gives it the global flags.
    command.build();
    let count = write(folder, "monitor", &command).with_context(named)?;
    super::output::print(&format!("{count} manual pages in {}\n", folder.display()))
}

/// Writes the page of a command and of those below it; returns how many.
fn write(folder: &Path, name: &str, command: &clap::Command) -> io::Result<usize> {
    let mut page = Vec::new();
    // The title in the head of a page is the command's name.
    let named = command.clone().name(name.to_owned().leak() as &'static str);
    clap_mangen::Man::new(named).render(&mut page)?;
    fs::write(folder.join(format!("{name}.1")), page)?;
    let mut count = 1;
    for below in command.get_subcommands().filter(|it| it.get_name() != "help") {
        count += write(folder, &format!("{name}-{}", below.get_name()), below)?;
    }
    Ok(count)
}
