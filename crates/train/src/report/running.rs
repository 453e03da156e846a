//! Lets a model score rows, and takes its time.
//!
//! **Invariant.** The one file here that touches a model or a clock; every other is pure.
//! Deliberately absent: the daemon's batching and threads; a rate measured here is that of
//! one caller who encodes and scores in turn.

use std::time::Duration;

use serde::Serialize;

use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::Probability;
use monitor_model::{ClassifyError, Model};

use crate::data::Row;
use crate::fit::scores;

/// Texts scored at once.
const BATCH_ROWS: usize = 2_048;
/// A round goes on for this long at least, over the same texts again if need be.
const ROUND_MIN: Duration = Duration::from_millis(500);
/// Rounds whose median counts.
const ROUNDS: usize = 3;
/// Texts of a pass at most; more would not change the rate.
const SPEED_ROWS_MAX: usize = 8_192;

/// A row, and the model's score for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored<'a> {
    /// The text as written.
    pub text: &'a str,
    /// Probability of "negative".
    pub score: Probability,
    /// Its label.
    pub negative: bool,
}

impl Scored<'_> {
    /// Whether the verdict agrees with the label.
    pub fn is_right(&self, threshold: Probability) -> bool {
        (self.score >= threshold) == self.negative
    }
}

/// Scores rows, in order.
///
/// # Errors
/// The model failed on a row.
pub fn score<'a>(model: &mut Model, rows: &[&'a Row]) -> Result<Vec<Scored<'a>>, ClassifyError> {
    let scored = scores(model, rows)?.into_iter().zip(rows);
    Ok(scored.map(|((score, negative), row)| Scored { text: &row.text, score, negative }).collect())
}

/// How fast a model answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Speed {
    /// From text to score; the median of the rounds.
    pub tweets_per_s: f64,
    /// Threads libtorch may use; text is encoded on one.
    pub threads: usize,
    /// Rounds taken.
    pub rounds: usize,
}

/// Measures `models` in turn, round by round, so that whatever else the machine does meets
/// all of them alike. They should have scored `rows` before, as a warm-up.
///
/// # Errors
/// A model failed on a row.
pub fn speeds(
    models: &mut [Model],
    rows: &[&Row],
    threads: usize,
) -> Result<Vec<Speed>, ClassifyError> {
    let texts: Vec<&str> = rows.iter().take(SPEED_ROWS_MAX).map(|row| row.text.as_str()).collect();
    let mut rates = vec![Vec::with_capacity(ROUNDS); models.len()];
    for _ in 0..ROUNDS {
        for (model, rates) in models.iter_mut().zip(&mut rates) {
            rates.push(round(model, &texts)?);
        }
    }
    let median = |mut rates: Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        Speed { tweets_per_s: rates[ROUNDS / 2], threads, rounds: ROUNDS }
    };
    Ok(rates.into_iter().map(median).collect())
}

/// Texts a second.
fn round(model: &mut Model, texts: &[&str]) -> Result<f64, ClassifyError> {
    let (clock, mut scored) = (SystemClock::new(), 0);
    loop {
        for batch in texts.chunks(BATCH_ROWS) {
            scored += model.score(batch)?.len();
        }
        let elapsed = clock.elapsed();
        if elapsed >= ROUND_MIN {
            return Ok(scored as f64 / elapsed.as_secs_f64());
        }
    }
}
