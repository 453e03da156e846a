//! How commands print, write files and show errors.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Prints an object as indented JSON.
pub(super) fn print_json(object: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(object)?))
}

/// Prints to standard output; a closed pipe (`| head`) is not an error.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
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

/// Writes a file atomically: whole or not at all.
pub(super) fn write_whole(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let write = || -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
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
