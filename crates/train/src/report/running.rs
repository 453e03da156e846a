//! Scores rows with a model and measures its speed.
//!
//! **Invariant.** With `measure.rs` and `faithfulness.rs` the only file here that uses a model; the
//! only one with a clock. Deliberately absent: the daemon's batching and threads; the measured rate is that of one
//! caller who encodes and scores in turn.

use std::time::Duration;

use serde::Serialize;

use monitor_core::clock::{Clock, SystemClock};
use monitor_model::{ClassifyError, Model};

use crate::data::Row;
use crate::fit::{Prediction, scores};

/// Texts scored at once.
const BATCH_ROWS: usize = 2_048;
/// Shortest duration of a round; the texts are repeated if necessary.
const ROUND_MIN: Duration = Duration::from_millis(500);
/// Number of rounds; the median is reported.
const ROUNDS: usize = 3;
/// Most texts per pass; more would not change the rate.
const SPEED_ROWS_MAX: usize = 8_192;

/// A row, and the model's score for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored<'a> {
    /// The text as written.
    pub text: &'a str,
    /// The model's probabilities, and its label.
    pub prediction: Prediction,
}

/// Scores rows, in order.
///
/// # Errors
/// The model failed on a row.
pub fn score<'a>(model: &mut Model, rows: &[&'a Row]) -> Result<Vec<Scored<'a>>, ClassifyError> {
    let scored = scores(model, rows)?.into_iter().zip(rows);
    Ok(scored.map(|(prediction, row)| Scored { text: &row.text, prediction }).collect())
}

/// The speed of a model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Speed {
    /// Tweets per second from text to score; the median of the rounds.
    pub tweets_per_s: f64,
    /// Number of libtorch's threads; text is encoded on one.
    pub threads: usize,
    /// Number of rounds.
    pub rounds: usize,
}

/// Measures `models` in turn, round by round, so that other load on the machine
/// affects all of them equally. As a warm-up, they should have scored `rows` before.
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

/// Texts per second.
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
