//! Labels that people give, and the models that have scored.

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use super::Tables;
use crate::{
    Correction, Sample, SampleRequest, SampledTweet, ScoredTweet, StoreError, StoredModel,
};
use monitor_core::domain::Label;

/// A sample, and the id and label of each of its tweets.
#[derive(Debug)]
pub(super) struct SampleRecord {
    sample: Sample,
    tweets: Vec<(String, Option<Label>)>,
}

impl Tables {
    pub(super) fn record_model(&mut self, model: &StoredModel) -> Result<(), StoreError> {
        self.models.insert(model.model.clone(), model.clone());
        Ok(())
    }

    pub(super) fn models(&self) -> Result<Vec<StoredModel>, StoreError> {
        Ok(self.models.values().cloned().collect())
    }

    pub(super) fn draw_sample(&mut self, request: &SampleRequest) -> Result<Sample, StoreError> {
        let is_of_it = |row: &&ScoredTweet| {
            row.score.is_some()
                && row.brands.contains(&request.brand)
                && (request.from..request.to).contains(&row.tweet.created_at)
        };
        let mut ids: Vec<String> = (self.scores.values().filter(is_of_it))
            .map(|row| row.tweet.id.as_str().to_owned())
            .collect();
        let population = ids.len() as u64;
        ids.sort_by_cached_key(|id| Sha256::digest(format!("{}{id}", request.seed)));
        ids.truncate(request.tweets as usize);
        let sample = Sample {
            id: self.samples.len() as i64 + 1,
            brand: request.brand.clone(),
            from: request.from,
            to: request.to,
            population,
            tweets: ids.len() as u64,
            labelled: 0,
            by: request.by.clone(),
            at: request.at,
        };
        let tweets = ids.into_iter().map(|id| (id, None)).collect();
        self.samples.push(SampleRecord { sample: sample.clone(), tweets });
        Ok(sample)
    }

    pub(super) fn samples(&self) -> Result<Vec<Sample>, StoreError> {
        let sample = |record: &SampleRecord| {
            let labelled = record.tweets.iter().filter(|(_, label)| label.is_some()).count();
            Sample { labelled: labelled as u64, ..record.sample.clone() }
        };
        Ok(self.samples.iter().map(sample).collect())
    }

    pub(super) fn sampled_tweets(&self, sample: i64) -> Result<Vec<SampledTweet>, StoreError> {
        let record = self.samples.iter().find(|record| record.sample.id == sample);
        let tweets = record.map_or(&[][..], |record| &record.tweets);
        let read = |(place, (id, label)): (u32, &(String, Option<Label>))| {
            let row = self.scores.get(id)?;
            let of = row.score.as_ref()?;
            Some(SampledTweet {
                place,
                tweet_id: id.clone(),
                created_at: row.tweet.created_at,
                text: row.tweet.text.clone(),
                label: *label,
                called: of.score.label,
                model: of.model.clone(),
            })
        };
        Ok((1..).zip(tweets).filter_map(read).collect())
    }

    pub(super) fn record_labels(
        &mut self,
        sample: i64,
        labels: &[(u32, Label)],
        _: &str,
        _: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        let mut changed = 0;
        let record = self.samples.iter_mut().find(|record| record.sample.id == sample);
        for (place, (_, old)) in (1..).zip(record.into_iter().flat_map(|it| &mut it.tweets)) {
            let new = labels.iter().find(|(of, _)| *of == place).map(|(_, label)| *label);
            if new.is_some() && *old != new {
                *old = new;
                changed += 1;
            }
        }
        Ok(changed)
    }

    pub(super) fn correct(&mut self, correction: &Correction) -> Result<bool, StoreError> {
        let Some(row) = self.scores.get(&correction.tweet_id) else { return Ok(false) };
        let correction = Correction { text: row.tweet.text.clone(), ..correction.clone() };
        self.corrections.insert(correction.tweet_id.clone(), correction);
        Ok(true)
    }

    pub(super) fn corrections(&self) -> Result<Vec<Correction>, StoreError> {
        let mut found: Vec<_> = self.corrections.values().cloned().collect();
        found.sort_by(|a, b| (a.at, &a.tweet_id).cmp(&(b.at, &b.tweet_id)));
        Ok(found)
    }
}
