//! Another version of this benchmark, built by `scripts/bench`: its own pipeline and models, on a broker and a server of
//! its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

/// The benchmark in the folder of the other version.
const PROGRAM: &str = "pipeline-bench";

/// The revision, which the name of its folder ends with.
pub fn revision(folder: &Path) -> Option<String> {
    let (_, revision) = folder.file_name()?.to_str()?.rsplit_once('-')?;
    Some(revision.to_owned())
}

/// Runs a round of it; returns the rows a second of each side.
pub fn round(folder: &Path, args: &super::Args) -> anyhow::Result<BTreeMap<String, f64>> {
    let program = folder.join(PROGRAM);
    let models = args.names.iter().flat_map(|name| ["--model", name]);
    let output = Command::new(&program)
        .args(["--rounds", "1", "--rows", &args.rows.to_string()])
        .args(models)
        .current_dir(folder)
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed:\n{said}", program.display());
    Ok(sides(&String::from_utf8_lossy(&output.stdout)))
}

/// The first two columns of the printed table.
fn sides(printed: &str) -> BTreeMap<String, f64> {
    let rows = printed.lines().filter_map(|line| line.strip_prefix("| "));
    let side = |row: &str| {
        let mut cells = row.split('|').map(str::trim);
        Some((cells.next()?.to_owned(), cells.next()?.parse().ok()?))
    };
    rows.filter_map(side).collect()
}
