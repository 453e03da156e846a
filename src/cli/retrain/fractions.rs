//! `--fractions`: how a model improves with more training rows.

use std::path::PathBuf;

use anyhow::ensure;

use monitor_train::fit::Family;
use monitor_train::report::{self, LearningCurve};
use monitor_train::{Registered, TrainingError, TrainingRequest, TrainingRows};

use super::Args;
use crate::cli::output::{print, print_json, write_whole};

#[derive(Debug, clap::Args)]
pub(super) struct Fractions {
    /// Train on these shares of the training rows, such as 0.1,0.3,1, and print how the figures of
    /// the held-out rows improve (a learning curve). Registers nothing
    #[arg(long, value_name = "SHARES", value_delimiter = ',', value_parser = share)]
    fractions: Vec<f64>,

    /// Print the learning curve of --fractions as JSON
    #[arg(long, requires = "fractions")]
    json: bool,

    /// Draw the learning curve of --fractions
    #[arg(long, value_name = "FILE.svg", requires = "fractions")]
    picture: Option<PathBuf>,
}

/// What a training gives.
pub(super) enum Trained {
    Registered(Box<Registered>),
    Curve(LearningCurve),
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err(format!("{text:?} is not a share above 0, up to 1, such as 0.3")),
    }
}

impl Fractions {
    pub(super) fn are_given(&self) -> bool {
        !self.fractions.is_empty()
    }

    /// Refuses what does not go together.
    pub(super) fn check(&self, args: &Args, families: &[Family]) -> anyhow::Result<()> {
        let given = self.are_given();
        ensure!(!given || families.len() == 1, "--fractions measures one family: say which");
        ensure!(
            !given || args.training.teacher.is_empty(),
            "--fractions trains from the labels alone: leave --teacher out"
        );
        ensure!(!given || !args.resume, "--fractions keeps no progress: leave --resume out");
        Ok(())
    }

    /// Trains on each share, in a folder that is removed afterwards.
    pub(super) fn measure(
        &self,
        request: &TrainingRequest<'_>,
        rows: TrainingRows<'_>,
    ) -> Result<Trained, TrainingError> {
        let folder = tempfile::tempdir().map_err(TrainingError::Temporary)?;
        let mut trained = Vec::with_capacity(self.fractions.len());
        for share in &self.fractions {
            let part = TrainingRequest {
                train_share: *share,
                output: folder.path().to_owned(),
                promote: false,
                teachers: Vec::new(),
                ..request.clone()
            };
            eprintln!("{}: on {share} of the training rows", request.name);
            trained.push((*share, monitor_train::train(&part, rows)?.manifest));
        }
        Ok(Trained::Curve(LearningCurve::of(&trained).expect("each version is measured")))
    }

    pub(super) fn print(&self, curve: &LearningCurve) -> anyhow::Result<()> {
        if let Some(path) = &self.picture {
            write_whole(path, &report::learning_curve_svg(curve))?;
        }
        if self.json { print_json(curve) } else { print(&curve.to_string()) }
    }
}
