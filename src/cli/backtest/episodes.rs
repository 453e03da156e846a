//! Reads a file of what really happened.

use std::path::Path;

use anyhow::{Context, ensure};
use monitor_core::domain::Minute;
use serde::Deserialize;

use super::super::times::time;
use crate::backtest::Episode;

/// A row of the file.
#[derive(Deserialize)]
struct Row {
    start: String,
    end: String,
    name: String,
    #[serde(default)]
    brand: Option<String>,
}

/// Reads episodes from a CSV file with the columns start, end, name, and possibly brand.
///
/// # Errors
/// The file cannot be read, a row is not valid (the error names its line), or there is none.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Episode>> {
    let place = || path.display().to_string();
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(path)
        .with_context(|| format!("cannot read {}", place()))?;
    let mut episodes = Vec::new();
    let headers = reader.headers().with_context(place)?.clone();
    for record in reader.records() {
        let record = record.with_context(place)?;
        let line = record.position().map_or(0, csv::Position::line);
        let context = || format!("{}, line {line}", place());
        let row: Row = record
            .deserialize(Some(&headers))
            .context("an episode needs the columns start, end and name")
            .with_context(context)?;
        let time = |text: &str| time(text).map_err(anyhow::Error::msg).with_context(context);
        let (start, end) = (Minute::of(time(&row.start)?), Minute::of(time(&row.end)?));
        ensure!(start <= end, "{}: the end {} is before the start", context(), row.end);
        let brand = row.brand.filter(|brand| !brand.is_empty());
        episodes.push(Episode { name: row.name, brand, start, end });
    }
    ensure!(!episodes.is_empty(), "{} has no episode", place());
    Ok(episodes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_the_line_of_a_bad_row() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("episodes.csv");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            super::read(&path).map_err(|error| format!("{error:#}"))
        };
        let (at, later) = ("2026-01-05T10:00:00Z", "2026-01-05T12:00:00Z");
        let good = read(&format!("name,start,end\nstorm, {at}, {later}\n")).unwrap();
        assert_eq!((good[0].name.as_str(), good[0].end.0 - good[0].start.0), ("storm", 120));
        let bad = read(&format!("start,end,name\n{at},{later},a\n{at},soon,b\n")).unwrap_err();
        assert!(bad.contains("line 3") && bad.contains("give a time"), "{bad}");
        let bad = read(&format!("start,end,name\n{later},{at},a\n")).unwrap_err();
        assert!(bad.contains("before the start"), "{bad}");
        assert!(
            read(&format!("start,end\n{at},{later}\n"))
                .unwrap_err()
                .contains("start, end and name")
        );
        assert!(read("start,end,name\n").unwrap_err().contains("no episode"));
    }
}
