//! Checkpoints, scores and counts.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use super::Tables;
use super::outbox::QueuedState;
use crate::batch::Changes;
use crate::sampling::minutes_to_read;
use crate::{
    Batch, Claim, Committed, DeadLetter, DrawnTweet, ModelScore, NewTweets, PartitionProgress,
    ScoredTweet, StoreError, StoredTweet, Totals,
};
use monitor_core::alerting::Heard;
use monitor_core::domain::{
    Counts, Label, Language, Minute, Offset, Resume, StartAt, TopicPartition,
};

#[derive(Debug)]
pub(super) struct Checkpoint {
    position: Offset,
    pub(super) event_time_max: Option<DateTime<Utc>>,
    record_time_max: Option<DateTime<Utc>>,
    at_end: bool,
}

impl Tables {
    pub(super) fn claim(
        &mut self,
        claims: &[Claim],
        start_at: StartAt,
    ) -> Result<Vec<Resume>, StoreError> {
        let mut resumes = Vec::with_capacity(claims.len());
        for claim in claims {
            let stored = self.checkpoints.get(&claim.partition).map(|c| c.position);
            let resume = claim.resume(stored, start_at);
            let checkpoint =
                self.checkpoints.entry(claim.partition.clone()).or_insert(Checkpoint {
                    position: resume.position,
                    event_time_max: None,
                    record_time_max: None,
                    at_end: false,
                });
            checkpoint.position = resume.position;
            checkpoint.at_end = false;
            resumes.push(resume);
        }
        Ok(resumes)
    }

    pub(super) fn commit(&mut self, batch: &Batch) -> Result<Committed, StoreError> {
        for advance in &batch.advances {
            let stored = self.checkpoints.get(&advance.partition).map(|c| c.position);
            if stored != Some(advance.from) {
                return Err(StoreError::Fenced {
                    partition: advance.partition.clone(),
                    held: advance.from,
                    stored,
                });
            }
        }
        batch.check_models(&self.switches)?;
        let committed = self.write(batch);
        for letter in &batch.dead_letters {
            let same = |it: &DeadLetter| {
                let of = |it: &DeadLetter| (it.offset, it.record_time, it.payload_bytes);
                it.partition == letter.partition
                    && of(it) == of(letter)
                    && it.payload == letter.payload
            };
            if !self.dead_letters.iter().any(same) {
                self.dead_letters.push(letter.clone());
            }
        }
        for advance in &batch.advances {
            let checkpoint = self
                .checkpoints
                .get_mut(&advance.partition)
                .expect("the fence above saw this checkpoint under the same lock");
            checkpoint.position = advance.to;
            checkpoint.event_time_max = checkpoint.event_time_max.max(advance.event_time_max);
            checkpoint.record_time_max = checkpoint.record_time_max.max(advance.record_time_max);
            checkpoint.at_end = false;
        }
        Ok(committed)
    }

    fn write(&mut self, batch: &Batch) -> Committed {
        let Changes { tweets, removals } = batch.changes();
        let mut committed = Committed::default();
        let mut by_brand: BTreeMap<(&String, Option<&str>, Option<Language>), u64> =
            BTreeMap::new();
        let mut rows: Vec<_> = tweets.into_values().collect();
        rows.sort_by_key(|(row, _)| (row.tweet.created_at, &row.tweet.id));
        for (row, replaces) in rows {
            let id = row.tweet.id.as_str();
            match self.scores.get(id) {
                None if !self.removed.contains(id) => {
                    let is_echo = self.is_echo(row);
                    committed.echoes += u64::from(is_echo);
                    match row.score {
                        Some(_) => committed.new += 1,
                        None => committed.not_judged += 1,
                    }
                    let model = row.score.as_ref().map(|of| of.model.as_str());
                    for brand in &row.brands {
                        *by_brand.entry((brand, model, row.tweet.language)).or_default() += 1;
                    }
                    self.store(row.clone(), is_echo);
                }
                Some(old) if replaces => {
                    // It stays in the minute in which it was written.
                    let mut row = row.clone();
                    row.tweet.created_at = old.tweet.created_at;
                    self.take_out(id, false);
                    committed.removed += 1;
                    let is_echo = row.score.is_some() && row.heard == Heard::Never;
                    self.store(row, is_echo);
                }
                _ => {}
            }
        }
        for (id, change) in removals {
            let id = id.as_str();
            if self.take_out(id, change.keeps_count) {
                committed.removed += 1;
                self.removed.insert(id.to_owned());
            } else if change.edited_at.is_some() {
                self.removed.insert(id.to_owned());
            }
        }
        let of_brand = |((brand, model, language), tweets): ((&String, Option<&str>, _), u64)| {
            NewTweets { brand: brand.clone(), model: model.map(str::to_owned), language, tweets }
        };
        committed.by_brand = by_brand.into_iter().map(of_brand).collect();
        self.committed.new += committed.new;
        self.committed.not_judged += committed.not_judged;
        let stored = committed.new + committed.not_judged;
        committed.duplicate = (batch.scores.len() as u64).saturating_sub(stored);
        committed
    }

    /// Whether the detector does not hear it: its hour has heard it, or its author is left out. Remembers it if it
    /// does.
    fn is_echo(&mut self, row: &ScoredTweet) -> bool {
        let Some(of) = &row.score else { return false };
        match row.heard {
            Heard::Always => false,
            Heard::OnceAnHour(voice) => {
                let hour = Minute::of(row.tweet.created_at).hour();
                !self.voices.insert((hour, voice, of.score.label == Label::Negative))
            }
            Heard::Never => true,
        }
    }

    fn store(&mut self, row: ScoredTweet, is_echo: bool) {
        let id = row.tweet.id.as_str().to_owned();
        self.count(&row, is_echo, |counts, one| *counts += one, |tweets| *tweets += 1);
        if is_echo {
            self.echoes.insert(id.clone());
        }
        self.scores.insert(id, row);
    }

    /// Takes a tweet out of the store; returns whether it was there.
    fn take_out(&mut self, id: &str, keeps_count: bool) -> bool {
        let Some(row) = self.scores.remove(id) else { return false };
        let is_echo = self.echoes.remove(id);
        if !keeps_count {
            self.count(&row, is_echo, |counts, one| *counts = *counts - one, |tweets| *tweets -= 1);
        } else if let Some(of) = row.score.filter(|_| !is_echo) {
            let minute = Minute::of(row.tweet.created_at);
            for brand in row.brands {
                *self.gone.entry((brand, minute, of.model.clone())).or_default() += 1;
            }
        }
        true
    }

    /// Changes the counts that a tweet is in.
    fn count(
        &mut self,
        row: &ScoredTweet,
        is_echo: bool,
        judged: fn(&mut Counts, Counts),
        not_judged: fn(&mut u64),
    ) {
        let minute = Minute::of(row.tweet.created_at);
        match &row.score {
            Some(ModelScore { score, model, .. }) => {
                let negative = u64::from(score.label == Label::Negative);
                for brand in row.brands.iter().filter(|_| !is_echo) {
                    let key = (brand.clone(), minute, model.clone());
                    judged(
                        self.minute_counts.entry(key).or_default(),
                        Counts { total: 1, negative },
                    );
                }
            }
            None => {
                for (brand, language) in brands_and_language(row) {
                    let key = (brand.clone(), minute, language);
                    not_judged(self.not_judged_counts.entry(key).or_default());
                }
            }
        }
    }

    pub(super) fn mark_at_end(
        &mut self,
        partition: &TopicPartition,
        position: Offset,
        at_end: bool,
    ) -> Result<(), StoreError> {
        match self.checkpoints.get_mut(partition) {
            Some(checkpoint) if checkpoint.position == position => checkpoint.at_end = at_end,
            other => {
                let stored = other.map(|checkpoint| checkpoint.position);
                let partition = partition.clone();
                return Err(StoreError::Fenced { partition, held: position, stored });
            }
        }
        Ok(())
    }

    pub(super) fn progress(&self, topic: &str) -> Result<Vec<PartitionProgress>, StoreError> {
        Ok(self
            .checkpoints
            .iter()
            .filter(|(partition, _)| &*partition.topic == topic)
            .map(|(partition, c)| PartitionProgress {
                partition: partition.clone(),
                position: c.position,
                event_time_max: c.event_time_max,
                record_time_max: c.record_time_max,
                at_end: c.at_end,
            })
            .collect())
    }

    pub(super) fn totals(&self) -> Result<Totals, StoreError> {
        let in_state = |wanted: fn(&QueuedState) -> bool| {
            self.outbox.iter().filter(|row| wanted(&row.state)).count() as u64
        };
        Ok(Totals {
            scores: self.committed.new,
            not_judged: self.committed.not_judged,
            dead_letters: self.dead_letters.len() as u64,
            outbox_pending: in_state(|s| matches!(s, QueuedState::Pending { .. })),
            outbox_dead: in_state(|s| matches!(s, QueuedState::Dead { .. })),
        })
    }

    pub(super) fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    pub(super) fn minute_counts(
        &self,
        brand: &str,
        from: Minute,
        to: Minute,
    ) -> Result<Vec<(Minute, Counts)>, StoreError> {
        if from > to {
            return Ok(Vec::new());
        }
        let mut sums: BTreeMap<Minute, Counts> = BTreeMap::new();
        let first = (brand.to_owned(), from, String::new());
        let all = self.minute_counts.range(first..);
        for ((_, minute, _), counts) in all.take_while(|((of, m, _), _)| of == brand && *m <= to) {
            *sums.entry(*minute).or_default() += *counts;
        }
        sums.retain(|_, counts| counts.total > 0);
        Ok(sums.into_iter().collect())
    }

    pub(super) fn hour_counts(
        &self,
        brand: Option<&str>,
        from: Minute,
        to: Minute,
    ) -> Result<Vec<(Minute, Counts)>, StoreError> {
        let hour = |minute: Minute| minute.plus(-minute.0.rem_euclid(60));
        let mut hours: BTreeMap<Minute, Counts> = BTreeMap::new();
        for ((of, minute, _), counts) in &self.minute_counts {
            if brand.is_none_or(|brand| of == brand)
                && (hour(from)..=hour(to)).contains(&hour(*minute))
            {
                *hours.entry(hour(*minute)).or_default() += *counts;
            }
        }
        hours.retain(|_, counts| counts.total > 0);
        Ok(hours.into_iter().collect())
    }

    pub(super) fn echoes(&self, brand: &str, from: Minute, to: Minute) -> Result<u64, StoreError> {
        let echoes = self.echoes.iter().filter_map(|id| self.scores.get(id));
        let of_it = |row: &&ScoredTweet| {
            row.brands.iter().any(|of| of == brand)
                && (from..=to).contains(&Minute::of(row.tweet.created_at))
        };
        Ok(echoes.filter(of_it).count() as u64)
    }

    pub(super) fn not_judged(
        &self,
        brand: &str,
        from: Minute,
        to: Minute,
    ) -> Result<Vec<(Language, u64)>, StoreError> {
        let mut tweets: BTreeMap<Language, u64> = BTreeMap::new();
        for ((of, minute, language), count) in &self.not_judged_counts {
            if of == brand && (from..=to).contains(minute) {
                *tweets.entry(*language).or_default() += count;
            }
        }
        let mut tweets: Vec<_> = tweets.into_iter().filter(|(_, tweets)| *tweets > 0).collect();
        tweets.sort_by_key(|(language, tweets)| (Reverse(*tweets), *language));
        Ok(tweets)
    }

    pub(super) fn first_minute(&self, brand: &str) -> Result<Option<Minute>, StoreError> {
        let counts = self.minute_counts(brand, Minute(i64::MIN), Minute(i64::MAX))?;
        Ok(counts.first().map(|(minute, _)| *minute))
    }

    pub(super) fn last_minute(&self, brand: &str) -> Result<Option<Minute>, StoreError> {
        let counts = self.minute_counts(brand, Minute(i64::MIN), Minute(i64::MAX))?;
        Ok(counts.last().map(|(minute, _)| *minute))
    }

    pub(super) fn newest(&self, brands: &[String]) -> Result<Vec<(String, Minute)>, StoreError> {
        let newest = |brand: &String| {
            let scored = self.minute_counts.keys().filter(|key| key.0 == *brand).map(|key| key.1);
            let others =
                self.not_judged_counts.keys().filter(|key| key.0 == *brand).map(|key| key.1);
            Some((brand.clone(), scored.chain(others).max()?))
        };
        Ok(brands.iter().filter_map(newest).collect())
    }

    pub(super) fn window_tweets(
        &self,
        brand: &str,
        from: Minute,
        to: Minute,
        limit: u32,
    ) -> Result<Vec<StoredTweet>, StoreError> {
        let hours = self.hour_counts(Some(brand), from, to)?;
        let tweets = hours.iter().map(|(_, counts)| counts.total).sum();
        let minutes = minutes_to_read(from, to, tweets, limit);
        let is_read =
            |minute| minutes.as_ref().is_none_or(|all| all.binary_search(&minute).is_ok());
        let mut found: Vec<_> = self
            .scores
            .values()
            .filter(|row| row.brands.iter().any(|b| b == brand))
            .filter(|row| (from..=to).contains(&Minute::of(row.tweet.created_at)))
            .filter(|row| is_read(Minute::of(row.tweet.created_at)))
            .filter(|row| {
                let author = row.tweet.reach.author.as_deref();
                !author.is_some_and(|it| self.ignored_authors.contains(&plain_author(it)))
            })
            .filter_map(|row| Some((row, row.score.as_ref()?)))
            .collect();
        found.sort_by_cached_key(|(row, _)| Sha256::digest(row.tweet.id.as_str()));
        found.truncate(limit as usize);
        found.sort_by_key(|(row, _)| (row.tweet.created_at, &row.tweet.id));
        Ok(found.into_iter().map(|(row, score)| stored(row, score)).collect())
    }

    pub(super) fn random_tweets(
        &self,
        brand: Option<&str>,
        minutes: &[Minute],
        limit: u32,
    ) -> Result<Vec<DrawnTweet>, StoreError> {
        let is_of_it = |row: &&ScoredTweet| {
            row.brands.iter().any(|of| brand.is_none_or(|brand| of == brand))
                && minutes.contains(&Minute::of(row.tweet.created_at))
        };
        let mut found: Vec<_> = self.scores.values().filter(is_of_it).collect();
        found.sort_by_cached_key(|row| Sha256::digest(row.tweet.id.as_str()));
        found.truncate(limit as usize);
        let drawn = |row: &ScoredTweet| DrawnTweet {
            text: row.tweet.text.clone(),
            language: row.tweet.language,
            negative: row.score.as_ref().map(|of| of.score.probabilities.negative().get()),
            model: row.score.as_ref().map(|of| of.model.clone()),
        };
        Ok(found.into_iter().map(drawn).collect())
    }

    pub(super) fn tweet(&self, id: &str) -> Result<Option<StoredTweet>, StoreError> {
        let row = self.scores.get(id);
        Ok(row.and_then(|row| Some(stored(row, row.score.as_ref()?))))
    }
}

/// An author's name, case and `@` aside.
pub(super) fn plain_author(name: &str) -> String {
    name.trim().trim_start_matches('@').to_lowercase()
}

/// The brands of a tweet, each with its language; none if the language is unknown.
fn brands_and_language(row: &ScoredTweet) -> impl Iterator<Item = (&String, Language)> {
    let language = row.tweet.language;
    row.brands.iter().filter_map(move |brand| Some((brand, language?)))
}

/// The largest number that Postgres can store.
fn bigint(count: u64) -> u64 {
    count.min(i64::MAX.unsigned_abs())
}

pub(super) fn stored(row: &ScoredTweet, of: &ModelScore) -> StoredTweet {
    StoredTweet {
        tweet_id: row.tweet.id.as_str().to_owned(),
        created_at: row.tweet.created_at,
        text: row.tweet.text.clone(),
        negative: of.score.probabilities.negative().get(),
        is_negative: of.score.label == Label::Negative,
        truncated: of.truncated,
        author: row.tweet.reach.author.clone(),
        followers: row.tweet.reach.followers.map(bigint),
        retweets: row.tweet.reach.retweets.map(bigint),
        retweet_of: row.tweet.reach.retweet_of.as_ref().map(|id| id.as_str().to_owned()),
        model: of.model.clone(),
    }
}
