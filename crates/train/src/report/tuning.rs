//! What a search for hyperparameters found.
//!
//! **Invariant.** All figures are those of the same validation rows. Deliberately absent: a figure of
//! held-out rows; `monitor retrain` measures the model of the best settings on them, once.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::fit::Hyperparameters;
use crate::progress::training_time;

/// What a trial is trained with.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TrialSettings {
    /// Hyperparameters.
    #[serde(flatten)]
    pub hyper: Hyperparameters,
    /// Weights of the rows of the files after the first one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<f32>,
}

/// One training of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TrialRun {
    /// From 0, the one with the fewest rows.
    pub rung: usize,
    /// Rows that it was trained on.
    pub rows: usize,
    /// Mean cross-entropy on the validation rows; absent if the training diverged.
    pub loss: Option<f64>,
    /// Macro recall or ROC AUC on the validation rows, as [`Tuning::figure`] says.
    pub value: Option<f64>,
    /// How long it took.
    pub minutes: f64,
}

/// One set of hyperparameters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial {
    /// From 1; the first one has the defaults.
    pub trial: usize,
    /// What it was trained with.
    pub settings: TrialSettings,
    /// Fewest rows first.
    pub runs: Vec<TrialRun>,
}

impl Trial {
    /// The training on the most rows.
    pub fn last(&self) -> TrialRun {
        *self.runs.last().expect("a trial is made of its runs")
    }
}

/// A search.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tuning {
    /// The family.
    pub family: String,
    /// The training file.
    pub file: String,
    /// Names of the files whose weights [`TrialSettings::weights`] has.
    pub weighted: Vec<String>,
    /// What [`TrialRun::value`] is: macro recall with three classes, else ROC AUC.
    pub figure: &'static str,
    /// Validation rows that decide.
    pub validation: usize,
    /// Rows of the whole training set.
    pub rows: usize,
    /// Best first: those trained on more rows, then those with the lower loss.
    pub trials: Vec<Trial>,
    /// Whether the search came to its end.
    pub complete: bool,
}

impl Tuning {
    /// Sorts the trials, the best one first.
    pub(crate) fn sort(&mut self) {
        let loss = |run: TrialRun| run.loss.unwrap_or(f64::INFINITY);
        self.trials.sort_by(|a, b| {
            let (a, b) = (a.last(), b.last());
            b.rung.cmp(&a.rung).then(loss(a).total_cmp(&loss(b)))
        });
    }

    /// The trial with the lowest loss among those trained on the most rows; `None` if all diverged.
    pub fn best(&self) -> Option<&Trial> {
        self.trials.iter().find(|trial| trial.last().loss.is_some())
    }

    /// The first trial, if it was trained on as many rows as the best one.
    pub fn defaults(&self) -> Option<&Trial> {
        let first = self.trials.iter().find(|trial| trial.trial == 1)?;
        (first.last().rung == self.best()?.last().rung).then_some(first)
    }
}

impl TrialSettings {
    /// Names and values, with those of the files' weights.
    pub(crate) fn named(&self, weighted: &[String]) -> Vec<(String, String)> {
        let weights = weighted.iter().zip(&self.weights);
        let weights =
            weights.map(|(file, weight)| (format!("weight of {file}"), weight.to_string()));
        let hyper = self.hyper.given().into_iter().map(|(name, value)| (name.to_owned(), value));
        hyper.chain(weights).collect()
    }
}

impl fmt::Display for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, file, weighted, figure, validation, rows, trials, complete } = self;
        writeln!(
            f,
            "{} of {family} on {file}, by the loss on {validation} validation rows; all training rows \
             are {rows}",
            if *complete { "search for hyperparameters" } else { "unfinished search" }
        )?;
        let named: Vec<Vec<(String, String)>> =
            trials.iter().map(|trial| trial.settings.named(weighted)).collect();
        let differs = |at: usize| named.iter().any(|it| it[at].1 != named[0][at].1);
        let count = named.first().map_or(0, Vec::len);
        let shown: Vec<usize> = (0..count).filter(|at| differs(*at)).collect();
        let head = ["trial", "rows", "loss", figure, "took"].map(str::to_owned).into_iter();
        let mut table: Vec<Vec<String>> =
            vec![head.chain(shown.iter().map(|at| named[0][*at].0.clone())).collect()];
        for (trial, named) in trials.iter().zip(&named) {
            let TrialRun { rows, loss, value, .. } = trial.last();
            let number = |it: Option<f64>| it.map_or("diverged".into(), |it| format!("{it:.4}"));
            let minutes = trial.runs.iter().map(|run| run.minutes).sum();
            let cells = [
                trial.trial.to_string(),
                rows.to_string(),
                number(loss),
                number(value),
                training_time(minutes),
            ];
            let values = shown.iter().map(|at| named[*at].1.clone());
            table.push(cells.into_iter().chain(values).collect());
        }
        let width = |at: usize| table.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..table[0].len()).map(width).collect();
        for row in &table {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}"));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  "))?;
        }
        if trials.iter().any(|trial| trial.trial == 1) {
            writeln!(f, "trial 1 has the defaults")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(trial: usize, dropout: f64, losses: &[Option<f64>]) -> Trial {
        let hyper =
            Hyperparameters { dropout: Some(dropout), hidden: Some(64), ..Default::default() };
        let run = |(rung, loss): (usize, &Option<f64>)| TrialRun {
            rung,
            rows: 100 * (rung + 1),
            loss: *loss,
            value: loss.map(|loss| 1.0 - loss),
            minutes: 0.1,
        };
        let runs = losses.iter().enumerate().map(run).collect();
        Trial { trial, settings: TrialSettings { hyper, weights: vec![0.5] }, runs }
    }

    fn tuning() -> Tuning {
        let trials = vec![
            trial(1, 0.5, &[Some(0.6), Some(0.5)]),
            trial(2, 0.1, &[Some(0.2)]),
            trial(3, 0.25, &[Some(0.6), Some(0.4)]),
            trial(4, 0.6, &[None]),
        ];
        let mut tuning = Tuning {
            family: "lstm".into(),
            file: "a.csv".into(),
            weighted: vec!["b.csv".into()],
            figure: "macro recall",
            validation: 50,
            rows: 200,
            trials,
            complete: true,
        };
        tuning.sort();
        tuning
    }

    #[test]
    fn more_rows_come_before_a_lower_loss() {
        let tuning = tuning();
        let order: Vec<usize> = tuning.trials.iter().map(|trial| trial.trial).collect();
        assert_eq!(order, [3, 1, 2, 4]);
        assert_eq!(tuning.best().unwrap().trial, 3);
        assert_eq!(tuning.defaults().unwrap().last().loss, Some(0.5));
    }

    #[test]
    fn the_table_has_what_differs() {
        let text = tuning().to_string();
        let rows: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            rows[1],
            ["trial", "rows", "loss", "macro", "recall", "took", "dropout"],
            "{text}"
        );
        assert_eq!(rows[2], ["3", "200", "0.4000", "0.6000", "12.0", "s", "0.25"]);
        assert_eq!(rows[5], ["4", "100", "diverged", "diverged", "6.0", "s", "0.6"]);
        assert!(!text.contains("hidden"), "the same in all: {text}");
    }
}
