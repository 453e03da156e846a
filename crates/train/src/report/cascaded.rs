//! Compares a cascade with its two models: how much time it saves, and how much accuracy it loses.
//!
//! **Invariant.** All three were measured on the same rows, in the same run. Deliberately
//! absent: figures of the manifest, which come from another run.

use std::fmt;

use serde::Serialize;

use super::{Scored, Speed, figures, predictions};
use monitor_core::domain::LabelThresholds;
use monitor_core::format::percent_tenths;
use monitor_model::CascadeShape;

/// Evaluation results of one model.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// Its scores.
    pub scored: &'a [Scored<'a>],
    /// Its own thresholds.
    pub thresholds: LabelThresholds,
    /// Its speed.
    pub speed: Speed,
}

/// A cascade compared with its two models.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cascaded {
    /// `name@version` of the cascade.
    pub cascade: String,
    /// `name@version` of the model that scores every row.
    pub cheap: String,
    /// `name@version` of the model that scores the escalated rows.
    pub costly: String,
    /// Share of the rows that were escalated.
    pub escalated_share: f64,
    /// The cascade's tweets per second over those of the costly model alone.
    pub speed_up: f64,
    /// Tweets per second of the cheap and of the costly model alone.
    pub tweets_per_s: [f64; 2],
    /// Accuracy of the cheap and of the costly model alone, each with its own threshold.
    pub accuracy: [f64; 2],
    /// Points (hundredths) of accuracy lost against the costly model alone.
    pub accuracy_loss: f64,
}

impl Cascaded {
    /// `cascade` is the cascade's `name@version`.
    pub fn of(
        cascade: String,
        shape: &CascadeShape,
        found: Found<'_>,
        [cheap, costly]: [Found<'_>; 2],
    ) -> Self {
        let escalates =
            |row: &&Scored<'_>| shape.escalates(row.prediction.probabilities, cheap.thresholds);
        let escalated = cheap.scored.iter().filter(escalates).count();
        let accuracy = |found: Found<'_>| {
            let figures = figures(&predictions(found.scored), found.thresholds);
            figures.get("accuracy").copied().unwrap_or(0.0)
        };
        Self {
            cascade,
            cheap: shape.cheap.model.to_string(),
            costly: shape.costly.model.to_string(),
            escalated_share: escalated as f64 / cheap.scored.len().max(1) as f64,
            speed_up: found.speed.tweets_per_s / costly.speed.tweets_per_s,
            tweets_per_s: [cheap, costly].map(|found| found.speed.tweets_per_s),
            accuracy: [cheap, costly].map(accuracy),
            accuracy_loss: (accuracy(costly) - accuracy(found)) * 100.0,
        }
    }
}

impl fmt::Display for Cascaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cascade, cheap, costly, escalated_share, speed_up, .. } = self;
        let ([cheap_accuracy, costly_accuracy], loss) = (self.accuracy, self.accuracy_loss);
        let [cheap_speed, costly_speed] = self.tweets_per_s;
        let (points, more_or_less) = (loss.abs(), if loss < 0.0 { "more" } else { "less" });
        write!(
            f,
            "{cascade} escalates {} of the rows from {cheap} to {costly}: {speed_up:.2} x as \
             fast as {costly} alone, at {points:.2} points {more_or_less} accuracy. Alone: {cheap} \
             {cheap_accuracy:.4} at {cheap_speed:.0} tweets/s, {costly} {costly_accuracy:.4} at \
             {costly_speed:.0} tweets/s",
            percent_tenths(*escalated_share)
        )
    }
}
