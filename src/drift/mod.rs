//! Reads tweets of the store or of files, and compares recent ones with those before
//! ([`monitor_core::drift`]).
//!
//! **Invariant.** Memory is bounded by `drift.tweets_per_day` tweets of each period. The scores of a
//! period are compared only as far as the model in force gave them. Deliberately absent: consequences;
//! nobody is notified of drift.

mod files;
mod picture;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use monitor_config as config;
use monitor_core::domain::Minute;
use monitor_core::drift::{Budget, Observed, Period, Report, assess};
use monitor_core::format::utc_minute;
use monitor_model::{ClassifyError, Encoder};
use monitor_store::{DrawnTweet, Store, StoreError};
use monitor_train::data::{DatasetError, TweetFileError};
use tokio::task::{JoinError, spawn_blocking};

pub use files::of_files;
pub use picture::{about, picture};

const DAY_MINUTES: i64 = 1440;

/// Tweets could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum DriftError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of tweets cannot be read.
    #[error(transparent)]
    Tweets(#[from] TweetFileError),
    /// A file of labelled tweets cannot be read.
    #[error(transparent)]
    Labelled(#[from] DatasetError),
    /// The model failed.
    #[error(transparent)]
    Model(#[from] ClassifyError),
    /// A thread panicked.
    #[error("a part of the program failed: {0}")]
    Panic(#[from] JoinError),
}

/// The period that is judged; those before it are the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its first minute.
    pub from: Minute,
    /// The minute after its last one.
    pub to: Minute,
}

impl Window {
    /// The last whole day of UTC before `at`.
    pub fn last_day(at: DateTime<Utc>) -> Self {
        let to = Minute(Minute::of(at).0.div_euclid(DAY_MINUTES) * DAY_MINUTES);
        Self { from: to.plus(-DAY_MINUTES), to }
    }

    fn minutes(self) -> i64 {
        self.to.0 - self.from.0
    }

    /// The period of the same length that ends `count` periods before this one's end.
    fn before(self, count: u32) -> Self {
        let minutes = self.minutes() * i64::from(count);
        Self { from: self.from.plus(-minutes), to: self.to.plus(-minutes) }
    }

    fn name(self) -> String {
        let is_day = self.minutes() == DAY_MINUTES && self.from.0 % DAY_MINUTES == 0;
        if is_day {
            return self.from.start().format("%Y-%m-%d").to_string();
        }
        format!("{} to {}", utc_minute(self.from.start()), utc_minute(self.to.start()))
    }
}

/// The model whose words and scores are compared.
#[derive(Clone)]
pub struct InForce {
    /// `name@version`.
    pub id: String,
    /// Its encoder.
    pub encoder: Arc<dyn Encoder>,
}

/// Compares the stored tweets of `window` about `brand`, or about any brand, with those of the
/// `reference_days` periods of the same length before it.
///
/// # Errors
/// [`DriftError`].
pub async fn of_store(
    store: &dyn Store,
    brand: Option<&str>,
    window: Window,
    settings: config::Drift,
    model: &InForce,
) -> Result<Report, DriftError> {
    let mut periods = Vec::new();
    for count in (0..=settings.reference_days).rev() {
        let Window { from, to } = window.before(count);
        let drawn = monitor_store::draw(store, brand, from, to, settings.tweets_per_day).await?;
        let (model, name) = (model.clone(), window.before(count).name());
        let observe = move || {
            let tweets = drawn.into_iter().map(|tweet| observed(tweet, &model)).collect();
            Period { name, tweets }
        };
        periods.push(spawn_blocking(observe).await?);
    }
    let budget = Budget {
        false_alarms_per_month: settings.false_alarms_per_month,
        period_days: window.minutes() as f64 / DAY_MINUTES as f64,
    };
    let compare = move || {
        let recent = periods.pop().unwrap_or_default();
        let first = periods.iter().position(|period| !period.tweets.is_empty());
        assess(&periods[first.unwrap_or(periods.len())..], &recent, budget)
    };
    Ok(spawn_blocking(compare).await?)
}

fn observed(tweet: DrawnTweet, model: &InForce) -> Observed {
    let known = model.encoder.known_words(&tweet.text);
    let score = tweet.negative.filter(|_| tweet.model.as_ref() == Some(&model.id));
    Observed::new(tweet.text, tweet.language).with_known_words(known).with_score(score)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_have_one_length_and_follow_each_other() {
        let day = Window::last_day("2026-03-02T00:00:00Z".parse().unwrap());
        assert_eq!(day.name(), "2026-03-01");
        assert_eq!(Window::last_day("2026-03-02T23:59:59Z".parse().unwrap()), day);
        assert_eq!(day.before(1).name(), "2026-02-28");
        assert_eq!(day.before(0), day);
        let week = Window { from: day.to.plus(-7 * DAY_MINUTES), to: day.to };
        assert_eq!(week.before(2).name(), "2026-02-09 00:00 to 2026-02-16 00:00");
        assert_eq!(week.before(1).to, week.from);
    }
}
