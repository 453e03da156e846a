//! Writes rows with what a model says of them, for the analysis of its errors.

use anyhow::Context;

use monitor_core::domain::{Classes, Label, LabelThresholds};
use monitor_core::table::{Cell, Column, Kind, Table};
use monitor_train::data::{Dataset, Row};
use monitor_train::report::Scored;

use crate::parquet::ParquetWriter;

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

    /// All rows as a file, in the order of theirs.
    pub(super) fn predictions(&self, as_parquet: bool) -> anyhow::Result<Vec<u8>> {
        self.file(as_parquet, (0..self.rows.len()).collect())
    }

    /// The rows that are called wrong as a file, the most confident ones first.
    pub(super) fn errors(&self, as_parquet: bool) -> anyhow::Result<Vec<u8>> {
        let wrong = |at: &usize| self.called(*at) != self.rows[*at].label;
        let mut wrong: Vec<usize> = (0..self.rows.len()).filter(wrong).collect();
        let certainty =
            |at: &usize| self.scored[*at].prediction.probabilities.of(self.called(*at)).get();
        wrong.sort_by(|a, b| certainty(b).total_cmp(&certainty(a)));
        self.file(as_parquet, wrong)
    }

    fn file(&self, as_parquet: bool, rows: Vec<usize>) -> anyhow::Result<Vec<u8>> {
        if as_parquet { self.parquet(&rows) } else { self.csv(&rows) }
    }

    /// Names of the columns.
    fn columns(&self) -> impl Iterator<Item = String> {
        // A column of the file that has the name of one of ours gets another name.
        let theirs = self.data.columns.iter().map(|name| match OURS.contains(&name.as_str()) {
            true => format!("{name} in the file"),
            false => name.clone(),
        });
        OURS.map(str::to_owned).into_iter().chain(theirs)
    }

    fn csv(&self, rows: &[usize]) -> anyhow::Result<Vec<u8>> {
        let mut csv = csv::Writer::from_writer(Vec::new());
        csv.write_record(self.columns())?;
        for &at in rows {
            let (row, scored) = (self.rows[at], &self.scored[at]);
            let said = Label::ALL
                .map(|label| format!("{:.4}", scored.prediction.probabilities.of(label).get()));
            let [negative, neutral, positive] = said.each_ref().map(String::as_str);
            let called = self.called(at).word();
            let ours = [row.text.as_str(), row.label.word(), called, negative, neutral, positive];
            csv.write_record(ours.into_iter().chain(row.columns.iter().map(String::as_str)))?;
        }
        csv.into_inner().context("writing to memory")
    }

    fn parquet(&self, rows: &[usize]) -> anyhow::Result<Vec<u8>> {
        let probabilities = 3..OURS.len();
        let kind = |at| if probabilities.contains(&at) { Kind::Single } else { Kind::Text };
        let columns = self.columns().enumerate().map(|(at, name)| Column { name, kind: kind(at) });
        let mut parquet = ParquetWriter::new(Vec::new());
        parquet.begin(&columns.collect::<Vec<_>>())?;
        for &at in rows {
            let (row, scored) = (self.rows[at], &self.scored[at]);
            let texts = [row.text.as_str(), row.label.word(), self.called(at).word()];
            let said = Label::ALL.map(|label| scored.prediction.probabilities.of(label).get());
            let text = |text: &str| Cell::Text(text.to_owned());
            let ours = texts.into_iter().map(text).chain(said.into_iter().map(Cell::Single));
            parquet.row(ours.chain(row.columns.iter().map(|it| text(it))).collect())?;
        }
        Ok(parquet.finish()?)
    }
}
