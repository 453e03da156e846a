use std::io::{self, Write};

use clap_complete::Shell;

/// Print a script that completes this program's commands and flags in a shell
///
///   monitor completions bash > ~/.local/share/bash-completion/completions/monitor
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(args: &Args, mut command: clap::Command) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "monitor", &mut script);
    super::output::ignoring_a_closed_pipe(io::stdout().write_all(&script))
}
