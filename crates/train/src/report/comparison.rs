//! A table that compares models on the same rows, as the study's closing table does.
//!
//! **Invariant.** Measured and published rows are separate: the published ones are marked, come
//! last, and have gaps where nothing was published. Deliberately absent: a winner; the reader
//! weighs accuracy, speed and cost.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use serde::Serialize;

use monitor_model::Manifest;

use super::{Cascaded, Measured, Speed};
use crate::progress::{threads, training_time};

/// Models measured on the same rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The rows.
    pub data: Measured,
    /// Price of the machine, in EUR.
    pub price_per_hour: f64,
    /// The models, best accuracy first.
    pub models: Vec<Compared>,
    /// Comparison of each cascade with its two models.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cascades: Vec<Cascaded>,
    /// The study's published figures, for orientation only.
    pub published: Vec<Published>,
}

/// One model of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// `name@version`
    pub model: String,
    /// Its family.
    pub family: String,
    /// Figures of the binary summary, by the names that manifests use.
    pub figures: BTreeMap<String, f64>,
    /// Duration of its training.
    pub training_minutes: f64,
    /// Its speed.
    pub speed: Speed,
    /// Number of its parameters.
    pub parameters: usize,
    /// Size of its files, in bytes.
    pub bytes: u64,
    /// Cost of its training, in EUR.
    pub training_cost: f64,
    /// Cost of scoring a million tweets, in EUR.
    pub cost_per_million: f64,
}

impl Compared {
    /// One model; `price_per_hour` is the price of the machine, in EUR.
    pub fn of(
        model: &Manifest,
        figures: BTreeMap<String, f64>,
        speed: Speed,
        bytes: u64,
        price_per_hour: f64,
    ) -> Self {
        Self {
            model: model.id().to_string(),
            family: model.architecture.family().to_owned(),
            figures,
            training_minutes: model.minutes,
            speed,
            parameters: model.parameters,
            bytes,
            training_cost: model.minutes / 60.0 * price_per_hour,
            cost_per_million: 1e6 / speed.tweets_per_s / 3600.0 * price_per_hour,
        }
    }

    pub(super) fn figure(&self, name: &str) -> Option<f64> {
        self.figures.get(name).copied()
    }
}

/// A row of the study's own table, which was measured on other rows and machines.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Published {
    /// The model.
    pub model: &'static str,
    /// Accuracy, from and to.
    pub accuracy: (f64, f64),
    /// Minutes of training, from and to, where published.
    pub training_minutes: Option<(f64, f64)>,
    /// Parameters, where published.
    pub parameters: Option<u64>,
    /// EUR for a million tweets, where published.
    pub cost_per_million: Option<f64>,
}

/// The study of 2022 on sentiment140; training on a GPU of 8 GB.
const PUBLISHED: [Published; 4] = [
    Published {
        model: "DistilBERT",
        accuracy: (0.81, 0.81),
        training_minutes: Some((360.0, 360.0)), // four epochs of 1.5 hours
        parameters: Some(66_955_010),
        cost_per_million: None,
    },
    Published {
        model: "LSTM, 300 d",
        accuracy: (0.75, 0.75),
        training_minutes: Some((17.0, 33.0)), // five to ten epochs of 200 seconds
        parameters: Some(10_756_802),
        cost_per_million: None,
    },
    Published {
        model: "bought API",
        accuracy: (0.59, 0.73),
        training_minutes: None,
        parameters: None,
        cost_per_million: Some(900.0), // 0.90 a thousand
    },
    Published {
        model: "logistic (designer)",
        accuracy: (0.5, 0.6),
        training_minutes: None,
        parameters: None,
        cost_per_million: None,
    },
];

const COLUMNS: [&str; 12] = [
    "model",
    "family",
    "accuracy",
    "95 %",
    "ROC AUC",
    "F1 negative",
    "training",
    "tweets/s",
    "MB",
    "parameters",
    "training EUR",
    "EUR/million",
];

impl Comparison {
    /// Sorts the models and adds the study's published figures.
    pub fn of(
        data: Measured,
        price_per_hour: f64,
        mut models: Vec<Compared>,
        cascades: Vec<Cascaded>,
    ) -> Self {
        let accuracy = |model: &Compared| model.figure("accuracy").unwrap_or(0.0);
        models.sort_by(|a, b| accuracy(b).total_cmp(&accuracy(a)));
        Self { data, price_per_hour, models, cascades, published: PUBLISHED.to_vec() }
    }

    /// The table in Markdown.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut table = line(&COLUMNS.map(str::to_owned));
        table.push_str(&line(&COLUMNS.map(|_| "---".to_owned())));
        self.measured_cells().iter().for_each(|cells| table.push_str(&line(cells)));
        for cells in self.published_cells() {
            let slanted =
                cells.map(|cell| if cell.is_empty() { cell } else { format!("*{cell}*") });
            table.push_str(&line(&slanted));
        }
        format!("{table}\n{}\n", self.caption())
    }

    /// The notes below the table.
    fn caption(&self) -> String {
        let mut caption = self.data.to_string();
        let threads = threads(self.models.first().map_or(0, |model| model.speed.threads));
        let rounds = self.models.first().map_or(0, |model| model.speed.rounds);
        write!(
            caption,
            "Intervals after Wilson. tweets/s: from text to score on {threads}, median of \
             {rounds} rounds, the models in turn. Costs at {:.2} EUR an hour.\n\
             As published: the study's own figures of 2022, on other rows and another machine; \
             the bought API's are with its neutral answers counted as wrong, and without them.\n",
            self.price_per_hour
        )
        .expect("writing to a String cannot fail");
        self.cascades.iter().for_each(|cascade| caption.push_str(&format!("{cascade}.\n")));
        caption
    }

    fn measured_cells(&self) -> Vec<[String; COLUMNS.len()]> {
        let each = self.models.iter().map(|model| {
            let figure = |name: &str| model.figure(name).map_or("-".into(), |v| format!("{v:.4}"));
            [
                model.model.clone(),
                model.family.clone(),
                figure("accuracy"),
                format!("{} to {}", figure("accuracy_low"), figure("accuracy_high")),
                figure("roc_auc"),
                figure("negative_f1"),
                training_time(model.training_minutes),
                thousands(model.speed.tweets_per_s),
                format!("{:.1}", model.bytes as f64 / 1e6),
                thousands(model.parameters as f64),
                format!("{:.4}", model.training_cost),
                format!("{:.4}", model.cost_per_million),
            ]
        });
        each.collect()
    }

    fn published_cells(&self) -> Vec<[String; COLUMNS.len()]> {
        let span = |(low, high): (f64, f64), places: usize| {
            if low == high {
                format!("{low:.places$}")
            } else {
                format!("{low:.places$} to {high:.places$}")
            }
        };
        let each = self.published.iter().map(|row| {
            let mut cells = COLUMNS.map(|_| String::new());
            cells[0] = row.model.to_owned();
            cells[1] = "as published".to_owned();
            cells[2] = span(row.accuracy, 2);
            cells[6] = row
                .training_minutes
                .map_or(String::new(), |minutes| format!("{} min", span(minutes, 0)));
            cells[9] = row.parameters.map_or(String::new(), |count| thousands(count as f64));
            cells[11] = row.cost_per_million.map_or(String::new(), |cost| format!("{cost:.0}"));
            cells
        });
        each.collect()
    }
}

/// Commas between thousands, no places.
pub(super) fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![COLUMNS.map(str::to_owned)];
        lines.extend(self.measured_cells());
        lines.extend(self.published_cells());
        let width = |at: usize| lines.iter().map(|cells| cells[at].chars().count()).max();
        let widths: Vec<usize> = (0..COLUMNS.len()).map(|at| width(at).unwrap_or(0)).collect();
        for cells in &lines {
            let mut line = String::new();
            for (at, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                // Text is aligned left, numbers right.
                if at < 2 {
                    write!(line, "{cell:<width$}  ")?;
                } else {
                    write!(line, "{cell:>width$}  ")?;
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        write!(f, "\n{}", self.caption())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Part;

    fn compared(model: &str, accuracy: f64, minutes: f64, tweets_per_s: f64) -> Compared {
        Compared {
            model: model.into(),
            family: "lstm".into(),
            figures: BTreeMap::from([
                ("accuracy".into(), accuracy),
                ("accuracy_low".into(), accuracy - 0.01),
                ("accuracy_high".into(), accuracy + 0.01),
            ]),
            training_minutes: minutes,
            speed: Speed { tweets_per_s, threads: 2, rounds: 3 },
            parameters: 2_375_000,
            bytes: 4_750_000,
            training_cost: 0.04,
            cost_per_million: 0.01,
        }
    }

    fn comparison() -> Comparison {
        let data = Measured {
            file: "tweets.csv".into(),
            sha256: "00".into(),
            rows: 90,
            part: Part::All,
            note: "all rows are measured".into(),
            read: 100,
            left_out: BTreeMap::from([("neutral", 10), ("malformed", 0)]),
            learned_from: 0,
            learned_by_mistake: 0.0,
        };
        let models =
            vec![compared("slow@1", 0.81, 12.0, 1_234.5), compared("fast@2", 0.79, 0.012, 1e6)];
        Comparison::of(data, 0.2, models.into_iter().rev().collect(), Vec::new())
    }

    #[test]
    fn prints_the_table_as_text_and_markdown() {
        let found = comparison();
        insta::assert_snapshot!("text", found.to_string());
        insta::assert_snapshot!("markdown", found.markdown());
        let lines = found.markdown();
        let table: Vec<&str> = lines.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(table.len(), 2 + 2 + found.published.len());
        for line in table {
            assert_eq!(line.matches('|').count(), COLUMNS.len() + 1, "{line}");
        }
    }

    #[test]
    fn thousands_have_commas() {
        let check = |value, expected: &str| assert_eq!(thousands(value), expected);
        check(0.0, "0");
        check(999.4, "999");
        check(999.5, "1,000");
        check(66_955_010.0, "66,955,010");
    }
}
