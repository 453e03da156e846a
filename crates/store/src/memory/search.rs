//! Searches that people make.

use std::cmp::Reverse;

use super::Tables;
use super::outbox::QueuedState;
use super::scores::stored;
use crate::{FoundTweet, NotificationState, StoreError, TweetQuery};
use monitor_core::domain::{IncidentId, Minute};

impl Tables {
    pub(super) fn search_tweets(&self, query: &TweetQuery) -> Result<Vec<FoundTweet>, StoreError> {
        let text = query.text.as_ref().map(|text| text.to_lowercase());
        let mut found: Vec<FoundTweet> = (self.scores.values())
            .filter(|row| row.brands.contains(&query.brand))
            .filter(|row| (query.from..=query.to).contains(&Minute::of(row.tweet.created_at)))
            .filter(|row| {
                let tweet = &row.tweet;
                text.as_ref().is_none_or(|text| tweet.text.to_lowercase().contains(text))
            })
            .filter_map(|row| {
                let of = row.score.as_ref()?;
                let correction = self.corrections.get(row.tweet.id.as_str());
                Some(FoundTweet {
                    tweet: stored(row, of),
                    label: of.score.label,
                    corrected: correction.map(|it| (it.label, it.by.clone(), it.at)),
                })
            })
            .filter(|found| query.label.is_none_or(|label| found.label == label))
            .filter(|FoundTweet { tweet, .. }| {
                let place = (tweet.created_at, &tweet.tweet_id);
                query.after.as_ref().is_none_or(|(at, id)| place < (*at, id))
            })
            .collect();
        found.sort_by_key(|it| Reverse((it.tweet.created_at, it.tweet.tweet_id.clone())));
        found.truncate(query.limit as usize);
        Ok(found)
    }

    pub(super) fn notifications_of(
        &self,
        id: IncidentId,
    ) -> Result<Vec<NotificationState>, StoreError> {
        let of_it = self.outbox.iter().filter(|row| row.notification.incident_id == id.0);
        Ok(of_it
            .map(|row| {
                let (state, ended_at) = match row.state {
                    QueuedState::Pending { .. } => ("pending", None),
                    QueuedState::Sent => ("sent", None),
                    QueuedState::Dead { at } => ("dead", Some(at)),
                };
                NotificationState {
                    receiver: row.receiver.clone(),
                    transition: row.notification.transition.clone(),
                    state: state.into(),
                    attempts: row.attempts,
                    error: row.error.clone(),
                    ended_at,
                    drivers: row.notification.drivers.clone(),
                }
            })
            .collect())
    }
}
