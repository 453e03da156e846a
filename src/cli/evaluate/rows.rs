//! Writes rows with what a model says of them, for the analysis of its errors.

use anyhow::Context;

use monitor_core::domain::{Classes, Label, LabelThresholds};
use monitor_train::data::{Dataset, Row};
use monitor_train::report::Scored;

/// Columns before those of the file.
const OURS: [&str; 6] = ["text", "label", "called", "negative", "neutral", "positive"];

/// Rows, and how a model's scores are read.
pub(super) struct ScoredRows<'a> {
    pub(super) data: &'a Dataset,
    pub(super) rows: &'a [&'a Row],
    /// Beside `rows`.
    pub(super) scored: &'a [Scored<'a>],
    pub(super) thresholds: LabelThresholds,
    /// Those of the data.
    pub(super) classes: Classes,
}

impl ScoredRows<'_> {
    fn called(&self, at: usize) -> Label {
        self.scored[at].prediction.predicted(self.thresholds, self.classes)
    }

    /// All rows as CSV, in the order of the file.
    pub(super) fn predictions_csv(&self) -> anyhow::Result<String> {
        self.csv(0..self.rows.len())
    }

    /// The rows that are called wrong as CSV, the most confident ones first.
    pub(super) fn errors_csv(&self) -> anyhow::Result<String> {
        let wrong = |at: &usize| self.called(*at) != self.rows[*at].label;
        let mut wrong: Vec<usize> = (0..self.rows.len()).filter(wrong).collect();
        let certainty =
            |at: &usize| self.scored[*at].prediction.probabilities.of(self.called(*at)).get();
        wrong.sort_by(|a, b| certainty(b).total_cmp(&certainty(a)));
        self.csv(wrong)
    }

    fn csv(&self, rows: impl IntoIterator<Item = usize>) -> anyhow::Result<String> {
        let mut csv = csv::Writer::from_writer(Vec::new());
        // A column of the file that has the name of one of ours gets another name.
        let theirs = self.data.columns.iter().map(|name| match OURS.contains(&name.as_str()) {
            true => format!("{name} in the file"),
            false => name.clone(),
        });
        csv.write_record(OURS.map(str::to_owned).into_iter().chain(theirs))?;
        for at in rows {
            let (row, scored) = (self.rows[at], &self.scored[at]);
            let said = Label::ALL
                .map(|label| format!("{:.4}", scored.prediction.probabilities.of(label).get()));
            let [negative, neutral, positive] = said.each_ref().map(String::as_str);
            let called = self.called(at).word();
            let ours = [row.text.as_str(), row.label.word(), called, negative, neutral, positive];
            csv.write_record(ours.into_iter().chain(row.columns.iter().map(String::as_str)))?;
        }
        let bytes = csv.into_inner().context("writing to memory")?;
        String::from_utf8(bytes).context("rows are UTF-8")
    }
}
