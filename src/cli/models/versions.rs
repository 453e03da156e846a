//! The versions of one model side by side.
//!
//! **Invariant.** Figures in one line are those of the same rows, by their SHA-256.

use std::collections::BTreeMap;

use monitor_model::Manifest;
use monitor_train::data::HELD_OUT;

use super::{Listed, aligned, megabytes};

/// Digits of the SHA-256 of rows that are shown.
const DIGITS: usize = 6;
/// The figures by their names in a manifest. Models of two classes have no macro recall.
const FIGURES: [(&str, &str); 3] =
    [("macro_recall", "macro recall"), ("accuracy", "accuracy"), ("roc_auc", "ROC AUC")];

/// A set of rows: whether it is another one than those held out, its name, and its SHA-256.
type Rows<'a> = (bool, &'a str, &'a str);

/// A column for each version, a line for each figure.
pub(super) fn side_by_side(models: &[Listed]) -> String {
    let line = |name: &str, of: &dyn Fn(&Listed) -> Option<String>| -> Vec<String> {
        let cells = models.iter().map(|model| of(model).unwrap_or_else(|| "-".to_owned()));
        [name.to_owned()].into_iter().chain(cells).collect()
    };
    let about = |name: &str, of: &dyn Fn(&Manifest) -> String| -> Vec<String> {
        line(name, &|model| model.manifest.as_ref().map(of))
    };
    let mut table = vec![
        line("", &|model| Some(model.model.clone())),
        line("promoted", &|model| Some(if model.promoted { "yes" } else { "no" }.to_owned())),
        about("trained", &|it| it.trained_at.date_naive().to_string()),
        about("trained on", &|it| it.data.file.clone()),
        about("rows learned from", &|it| it.data.rows_train.to_string()),
        line("size", &|model| Some(megabytes(model.bytes))),
    ];
    let mut measured: BTreeMap<Rows<'_>, f64> = BTreeMap::new();
    for manifest in models.iter().filter_map(|model| model.manifest.as_ref()) {
        for (name, figures) in &manifest.metrics {
            let sha256 = manifest.rows_sha256.get(name).map_or("", String::as_str);
            let rows = figures.get("rows").copied().unwrap_or_default();
            measured.insert((name != HELD_OUT, name.as_str(), sha256), rows);
        }
    }
    for ((_, name, sha256), rows) in &measured {
        let digits: String = sha256.chars().take(DIGITS).collect();
        for (key, figure) in FIGURES {
            let cells = line(&format!("{figure} on {name}, {rows} rows {digits}"), &|model| {
                let manifest = model.manifest.as_ref()?;
                let same = manifest.rows_sha256.get(*name).map_or("", String::as_str) == *sha256;
                let value = manifest.metrics.get(*name)?.get(key).filter(|_| same)?;
                Some(format!("{value:.4}"))
            });
            if cells[1..].iter().any(|cell| cell != "-") {
                table.push(cells);
            }
        }
    }
    let problems = models.iter().filter_map(|model| model.problem.as_ref());
    let problems: String = problems.map(|problem| format!("{problem}\n")).collect();
    aligned(&table) + &problems
}
