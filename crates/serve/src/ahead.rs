//! Learns what is expected of the brands before somebody opens the page, as it reads a month of minutes of each.
//!
//! **Invariant.** It learns what the page asks for, and no request waits for it. Of many brands it learns nothing: they
//! would cost the store more than the wait of those who look.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use monitor_core::domain::Minute;
use monitor_store::StoreError;

use crate::Server;
use crate::api::brands;

/// Most brands that are learned ahead.
const BRANDS_MAX: usize = 50;
/// Time between two looks. What is new after an hour is little.
const EVERY: Duration = Duration::from_secs(300);

/// Looks until the server stops.
pub(crate) async fn keep(server: Arc<Server>) {
    if server.context.brands.len() > BRANDS_MAX {
        return;
    }
    let mut looked = BTreeMap::new();
    loop {
        if let Err(error) = learn(&server, &mut looked).await {
            tracing::debug!(%error, "cannot learn ahead what is expected; whoever opens the page waits for it");
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = server.stopping.cancelled() => return,
        }
    }
}

/// `looked` has the newest hour of each brand that was looked at: until the next one there is nothing to learn.
async fn learn(server: &Server, looked: &mut BTreeMap<String, Minute>) -> Result<(), StoreError> {
    // The error is told to those who open the page.
    let Ok(view) = server.view().await else { return Ok(()) };
    for brand in &view.brands {
        let Some(newest) = brand.hours.last().map(|hour| hour.start) else { continue };
        if looked.get(&brand.name) != Some(&newest) {
            brands::expected(server, brand, view.model.as_deref(), brand.hours.len()).await?;
            looked.insert(brand.name.clone(), newest);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};
    use monitor_core::alerting::{Heard, SharePolicy, ShareRule};
    use monitor_core::clock::SimulatedClock;
    use monitor_core::domain::{
        Offset, Probabilities, Probability, Score, StartAt, TopicPartition, Tweet, TweetId, Zone,
    };
    use monitor_store::{Advance, Batch, Claim, MemoryStore, ModelScore, ScoredTweet, Store};

    use super::*;
    use crate::ServeContext;

    const POLICY: SharePolicy = SharePolicy {
        rule: ShareRule::EDetector { false_alarms_per_month: 1.0 },
        tweets_min: 10,
        rise_min: 0.1,
        baseline_tweets_min: 50,
        short_minutes: 15,
        for_minutes: 1,
        resolve_minutes: 60,
        new_normal_minutes: 2880,
        zone: Zone::UTC,
    };

    /// A tweet every ten minutes of ten days.
    async fn filled(start: DateTime<Utc>) -> MemoryStore {
        let store = MemoryStore::new();
        let partition = TopicPartition::new("tweets", 0);
        let (low, high) = (Offset(0), Offset(0));
        let claim = Claim { partition: partition.clone(), seen: None, low, high };
        store.claim(&[claim], StartAt::Earliest).await.unwrap();
        let scored = |n: i64| {
            let id = TweetId::new(n.to_string()).unwrap();
            let at = start + TimeDelta::minutes(10 * n);
            let p =
                Probabilities::two(Probability::new(if n % 3 == 0 { 0.9 } else { 0.1 }).unwrap());
            ScoredTweet {
                tweet: Tweet::new(id, "a tweet", at, Vec::new()).unwrap(),
                brands: vec!["acme".into()],
                score: Some(ModelScore::new(Score::new(p, Probability::HALF.into()), "test@1")),
                heard: Heard::Always,
            }
        };
        let scores = (0..10 * 144).map(scored).collect();
        let advance = Advance {
            partition,
            from: Offset(0),
            to: Offset(1),
            event_time_max: None,
            record_time_max: None,
        };
        let batch = Batch { scores, advances: vec![advance], ..Batch::default() };
        store.commit(&batch).await.unwrap();
        store
    }

    #[tokio::test]
    async fn whoever_opens_the_page_finds_it_learned() {
        let start: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock = Arc::new(SimulatedClock::at(start + TimeDelta::days(10)));
        let brands = vec!["acme".into(), "silent".into()];
        let context = ServeContext::new(Arc::new(filled(start).await), clock, brands, POLICY);
        let server = Server::new(context, &tokio_util::sync::CancellationToken::new());
        learn(&server, &mut BTreeMap::new()).await.unwrap();
        let last = Minute::of(start + TimeDelta::days(10)).plus(-60);
        let week: Vec<Minute> = (0..171).map(|hours| last.plus(-60 * hours)).collect();
        let known = |hours| server.baselines.known(&("acme".into(), 0, None), hours).len();
        assert_eq!(known(&week), week.len());
        assert_eq!(known(&[last.plus(-60 * 24 * 9)]), 0);
    }
}
