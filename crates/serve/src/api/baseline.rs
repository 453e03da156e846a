//! The expected share of a brand at any hour: what its detector compared that hour with.
//!
//! **Invariant.** Learned as the evaluator learns it, from the time before the hour and without
//! the brand's incidents, so that the band shown is the band judged by. An hour is learned once as
//! long as neither the model nor the brand's incidents change; at most [`KEPT_MAX`] are kept.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use utoipa::ToSchema;

use monitor_core::alerting::{Baseline, ResolveReason, Series, SharePolicy};
use monitor_core::domain::{Counts, Minute, Watch};
use monitor_store::{Store, StoreError, current_counts as counts};

/// Hours kept, of all brands.
const KEPT_MAX: usize = 50_000;

/// What a brand's own past leads to expect.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Expected {
    /// The expected share of negative tweets.
    pub share: f64,
    /// On 95 of 100 normal days the share is at least this ...
    pub low: f64,
    /// ... and at most this.
    pub high: f64,
}

/// Brand, the number of its incidents, and its model: what a baseline depends on besides the hour.
pub type Key = (String, usize, Option<String>);

/// The hours learned so far.
#[derive(Debug, Default)]
pub struct Baselines {
    kept: Mutex<HashMap<Key, HashMap<i64, Option<Expected>>>>,
}

impl Baselines {
    /// What is expected in each of `hours`, given by their first minutes in ascending order.
    pub async fn expected(
        &self,
        store: &dyn Store,
        policy: &SharePolicy,
        (brand, model): (&str, Option<&str>),
        hours: &[Minute],
    ) -> Result<Vec<Option<Expected>>, StoreError> {
        let (Some(first), Some(last)) = (hours.first(), hours.last()) else {
            return Ok(Vec::new());
        };
        let season = first.plus(-policy.season_minutes());
        let incidents = store.incidents_since(brand, Watch::Buzz, season).await?;
        let excluded: Vec<_> = incidents
            .iter()
            .flat_map(|incident| &incident.phases)
            .filter_map(|phase| {
                let (since, ended) = (phase.latest.share()?.since, phase.ended?);
                let excluded = match phase.ended_as {
                    Some(ResolveReason::NewNormal) => (Minute(i64::MIN), since.plus(-1)),
                    _ => (since, ended),
                };
                Some((ended, excluded))
            })
            .collect();
        let key = (brand.to_owned(), excluded.len(), model.map(str::to_owned));
        let mut known = self.known(&key, hours);
        let missing: Vec<Minute> =
            hours.iter().copied().filter(|hour| !known.contains_key(&hour.0)).collect();
        if let (Some(from), Some(to)) = (missing.first(), missing.last()) {
            let history = from.plus(-policy.history_minutes());
            let counts = counts(store, model, brand, history, *to, false).await?;
            let by_hour =
                counts_by_hour(store, model, brand, from.plus(-policy.season_minutes()), *last)
                    .await?;
            let (policy, to) = (*policy, *to);
            let learn = move || {
                let of_hour = |hour: &Minute| {
                    // Only incidents that had ended by then were known to the evaluator.
                    let excluded: Vec<_> = (excluded.iter())
                        .filter(|(resolved, _)| resolved < hour)
                        .map(|(_, period)| *period)
                        .collect();
                    let from = hour.plus(-policy.history_minutes());
                    let series = Series::new(from, *hour, within(&counts, from, *hour), &excluded);
                    let season = hour.plus(-policy.season_minutes());
                    let hours = within(&by_hour, season, *hour);
                    let learned = Baseline::learn(&policy, hours, &excluded, &series, *hour);
                    let expected = learned.map(|it| {
                        let interval = it.interval(*hour);
                        Expected {
                            share: it.expected(*hour),
                            low: interval.low,
                            high: interval.high,
                        }
                    });
                    (hour.0, expected)
                };
                missing.iter().filter(|hour| **hour <= to).map(of_hour).collect::<Vec<_>>()
            };
            // A month of hours takes a moment.
            let learned = tokio::task::spawn_blocking(learn).await.unwrap_or_default();
            self.keep(key, &learned);
            known.extend(learned);
        }
        Ok(hours.iter().map(|hour| known.get(&hour.0).copied().flatten()).collect())
    }

    /// What was learned of these hours.
    pub fn known(&self, key: &Key, hours: &[Minute]) -> HashMap<i64, Option<Expected>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = kept.get(key) else { return HashMap::new() };
        hours.iter().filter_map(|hour| Some((hour.0, *known.get(&hour.0)?))).collect()
    }

    fn keep(&self, key: Key, learned: &[(i64, Option<Expected>)]) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.values().map(HashMap::len).sum::<usize>() + learned.len() > KEPT_MAX {
            kept.clear();
        }
        // Where the stream has not gone on for a while an hour may have no baseline yet.
        let lasting = learned.iter().filter(|(_, expected)| expected.is_some());
        kept.entry(key).or_default().extend(lasting.copied());
    }
}

/// The part of ascending `counts` from `from` up to and including `to`.
fn within(counts: &[(Minute, Counts)], from: Minute, to: Minute) -> &[(Minute, Counts)] {
    let start = counts.partition_point(|(minute, _)| *minute < from);
    let end = counts.partition_point(|(minute, _)| *minute <= to);
    &counts[start..end.max(start)]
}

async fn counts_by_hour(
    store: &dyn Store,
    model: Option<&str>,
    brand: &str,
    from: Minute,
    to: Minute,
) -> Result<Vec<(Minute, Counts)>, StoreError> {
    counts(store, model, brand, from, to, true).await
}
