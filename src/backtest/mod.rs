//! Tries alerting rules on past tweets: counts them, evaluates every minute, reports.
//!
//! Counts come from the store ([`stored`]) or from a file of tweets that is scored here
//! ([`count`]). [`evaluate`] applies a rule; [`text`], [`json`] and [`picture`] show the
//! outcome.
//!
//! **Invariant.** The rule runs as in the daemon. Deliberately absent: the command line and
//! its settings.

mod counting;
mod episodes;
mod picture;
mod report;
pub(crate) mod tweets;

use std::collections::BTreeMap;
use std::fmt;

use monitor_config as config;
use monitor_core::alerting::{SharePolicy, backtest_switched};
use monitor_core::domain::{Counts, Minute};
use monitor_core::format::utc_minute;
use monitor_core::text::BrandError;
use monitor_model::ClassifyError;
use monitor_store::{PostgresStore, Store, StoreError};
use monitor_train::data::TweetFileError;

use crate::pipeline::brand_policy;

pub use counting::{Counted, Scorer, count};
pub use episodes::Episode;
pub use picture::picture;
pub use report::{BrandOutcome, FileRead, Source, Trial, json, text};

/// A file of tweets could not be counted.
#[derive(Debug, thiserror::Error)]
pub enum BacktestError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] TweetFileError),
    /// The rules that match brands cannot be compiled.
    #[error(transparent)]
    Brands(#[from] BrandError),
    /// The model failed on a tweet.
    #[error(transparent)]
    Classify(#[from] ClassifyError),
}

/// Counts by brand; each brand's minutes ascend.
pub type ByBrand = BTreeMap<String, Vec<(Minute, Counts)>>;

/// The minutes to report; `None` means no limit.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// The first one.
    pub from: Option<Minute>,
    /// The last one, included.
    pub to: Option<Minute>,
}

impl Range {
    /// The first minute that influences what is reported: the baseline needs a season of
    /// history.
    pub fn first_needed(&self, policy: &SharePolicy) -> Option<Minute> {
        self.from.map(|from| from.plus(-policy.season_minutes()))
    }
}

/// As the end of a sentence, such as ` from 2026-01-01 00:00 on`; empty without limits.
impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(from) = self.from {
            write!(f, " from {} on", utc_minute(from.start()))?;
        }
        if let Some(to) = self.to {
            write!(f, " before {}", utc_minute(to.plus(1).start()))?;
        }
        Ok(())
    }
}

/// Reads the stored counts of the brands from `from` to `to`, both included.
///
/// # Errors
/// The store cannot be read.
pub async fn stored(
    store: &PostgresStore,
    brands: &[String],
    from: Option<Minute>,
    to: Option<Minute>,
) -> Result<Counted, StoreError> {
    let switches = store.switches().await?;
    let switches = switches.as_slice();
    let (mut by_brand, mut by_model) = (ByBrand::new(), Vec::new());
    if switches.len() > 1 {
        by_model.extend(switches.iter().map(|switch| (switch.from, ByBrand::new())));
    }
    for brand in brands {
        let bounds = (store.first_minute(brand).await?, store.last_minute(brand).await?);
        let counts = match bounds {
            (Some(first), Some(last)) => {
                let first = from.map_or(first, |from| from.max(first));
                let last = to.map_or(last, |to| to.min(last));
                for ((_, of_model), switch) in by_model.iter_mut().zip(switches) {
                    let counts = store.model_counts(&switch.model, brand, first, last).await?;
                    of_model.insert(brand.clone(), counts);
                }
                store.minute_counts(brand, first, last).await?
            }
            _ => Vec::new(),
        };
        by_brand.insert(brand.clone(), counts);
    }
    Ok(Counted { by_brand, by_model, source: Source::Store })
}

/// The minutes to report of each brand, and the brands without a tweet in the range.
#[derive(Debug, Clone, Default)]
pub struct Spans {
    /// First and last minute, both included.
    pub by_brand: BTreeMap<String, (Minute, Minute)>,
    /// Brands without a tweet in the range.
    pub empty: Vec<String>,
}

/// Finds the minutes to report. The last one is the same for all brands, because event time
/// advances while any brand has tweets.
pub fn spans(counted: &Counted, range: Range) -> Spans {
    let first = |counts: &[(Minute, Counts)]| {
        counts.iter().map(|(minute, _)| *minute).find(|m| range.from.is_none_or(|from| *m >= from))
    };
    let last = counted.by_brand.values().filter_map(|counts| counts.last()).map(|(m, _)| *m).max();
    let mut spans = Spans::default();
    for (brand, counts) in &counted.by_brand {
        match (first(counts), last) {
            (Some(first), Some(last)) => {
                let from = range.from.unwrap_or(first).max(counts[0].0);
                spans.by_brand.insert(brand.clone(), (from, last));
            }
            _ => spans.empty.push(brand.clone()),
        }
    }
    spans
}

/// Applies one rule to the counts of every brand in `spans`.
pub fn evaluate(
    counted: &Counted,
    alerting: &config::Alerting,
    brands: &BTreeMap<String, config::Brand>,
    spans: &Spans,
) -> Vec<BrandOutcome> {
    spans
        .by_brand
        .iter()
        .map(|(brand, (from, to))| BrandOutcome {
            brand: brand.clone(),
            from: *from,
            to: *to,
            outcome: backtest_switched(
                &brand_policy(alerting, brands.get(brand)),
                &counted.stretches(brand),
                *from,
                *to,
            ),
        })
        .collect()
}
