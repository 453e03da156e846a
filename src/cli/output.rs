//! How commands print, write files and show errors.

use std::fs;
use std::io::{self, IsTerminal, Stderr, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use monitor_core::clock::{Clock, SystemClock};

/// Time between two lines of progress where it is not shown on a terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Progress of a long command: on a terminal one line that is overwritten, elsewhere a line every few
/// seconds.
pub(super) struct Progress<W> {
    out: W,
    terminal: bool,
    clock: Arc<dyn Clock>,
    /// When the last line was written.
    shown: Option<Duration>,
}

impl Progress<Stderr> {
    /// On standard error.
    pub fn stderr() -> Self {
        Self::new(io::stderr(), io::stderr().is_terminal(), Arc::new(SystemClock::new()))
    }
}

#[cfg(feature = "embedded")]
impl Progress<io::Stdout> {
    /// On standard output.
    pub fn stdout() -> Self {
        Self::new(io::stdout(), io::stdout().is_terminal(), Arc::new(SystemClock::new()))
    }
}

impl<W: Write> Progress<W> {
    fn new(out: W, terminal: bool, clock: Arc<dyn Clock>) -> Self {
        Self { out, terminal, clock, shown: None }
    }

    /// Shows `text`, if it is time. As for all progress, a failed write is no error.
    pub fn show(&mut self, text: &str) {
        let now = self.clock.elapsed();
        if self.terminal {
            let _ = write!(self.out, "\r{text}\x1b[K");
            let _ = self.out.flush();
        } else if self.shown.is_none_or(|shown| now.saturating_sub(shown) >= LINE_EVERY) {
            self.shown = Some(now);
            let _ = writeln!(self.out, "{text}");
        }
    }

    /// Removes the line from a terminal.
    pub fn clear(&mut self) {
        if self.terminal {
            let _ = write!(self.out, "\r\x1b[K");
            let _ = self.out.flush();
        }
    }

    /// Shows `text` as the last line.
    pub fn end(&mut self, text: &str) {
        self.clear();
        let _ = writeln!(self.out, "{text}");
    }
}

/// Prints an object as indented JSON.
pub(super) fn print_json(object: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(object)?))
}

/// Prints to standard output; a closed pipe (`| head`) is not an error.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    ignoring_a_closed_pipe(io::stdout().write_all(text.as_bytes()))
}

/// The outcome of writing to standard output; a closed pipe (`| head`) is not an error.
pub(super) fn ignoring_a_closed_pipe(written: io::Result<()>) -> anyhow::Result<()> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// The name of a picture to write.
pub(super) fn svg_file(name: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(name);
    let is_svg = path.extension().is_some_and(|it| it.eq_ignore_ascii_case("svg"));
    let hint = "pictures are drawn as SVG: give a name that ends in .svg (browsers show it)";
    if is_svg { Ok(path) } else { Err(hint.into()) }
}

/// Whether a file is to be Parquet, by its name; else it is CSV.
pub(super) fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("parquet"))
}

/// Writes a file atomically: whole or not at all.
pub(super) fn write_whole(
    path: &Path,
    content: &(impl AsRef<[u8]> + ?Sized),
) -> anyhow::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let write = || -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
        file.write_all(content.as_ref())?;
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644))?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// An error and its causes in one line. Many of our errors contain their cause in their own
/// text; a cause that the line already contains is not repeated.
pub fn one_line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |line, cause| {
        match (line.is_empty(), line.contains(&cause)) {
            (true, _) => cause,
            (false, true) => line,
            (false, false) => format!("{line}: {cause}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use monitor_core::clock::SimulatedClock;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Problem {
        #[error("cannot read a.csv: {source}")]
        AtTheEnd { source: io::Error },
        #[error("a.zip: {source}; fetch it again")]
        InTheMiddle { source: io::Error },
        #[error("the manifest is invalid")]
        Silent { source: io::Error },
        #[error(transparent)]
        Transparent(#[from] Box<Problem>),
    }

    #[test]
    fn progress_is_lines_where_it_is_no_terminal() {
        let check = |terminal, expected: &str| {
            let start = "2026-01-01T00:00:00Z".parse().unwrap();
            let clock = Arc::new(SimulatedClock::at(start));
            let mut written = Vec::new();
            let mut progress = Progress::new(&mut written, terminal, clock.clone());
            for n in 0..6 {
                progress.show(&n.to_string());
                clock.advance(Duration::from_secs(2));
            }
            progress.end("done");
            assert_eq!(String::from_utf8(written).unwrap(), expected);
        };
        check(false, "0\n3\ndone\n");
        let overwritten: String = (0..6).map(|n| format!("\r{n}\x1b[K")).collect();
        check(true, &format!("{overwritten}\r\x1b[Kdone\n"));
    }

    #[test]
    fn one_line_repeats_no_cause() {
        let source = || io::Error::other("disk full");
        let check = |name, error: anyhow::Error, expected: &str| {
            assert_eq!(one_line(&error), expected, "{name}");
        };
        let at_the_end = || Problem::AtTheEnd { source: source() };
        check("alone", anyhow::anyhow!("no brands"), "no brands");
        check("at the end", at_the_end().into(), "cannot read a.csv: disk full");
        let middle = Problem::InTheMiddle { source: source() };
        check("in the middle", middle.into(), "a.zip: disk full; fetch it again");
        let silent = Problem::Silent { source: source() };
        check("not in the text", silent.into(), "the manifest is invalid: disk full");
        let within = Problem::Transparent(Box::new(at_the_end()));
        check("transparent", within.into(), "cannot read a.csv: disk full");
        let context = anyhow::Error::from(at_the_end()).context("stopped after 3 of 5");
        check("in context", context, "stopped after 3 of 5: cannot read a.csv: disk full");
    }
}
