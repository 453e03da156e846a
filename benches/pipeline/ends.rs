//! The two ends of the pipeline, each alone: reading the topic, and writing finished rows.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use monitor_config as config;
use monitor_core::alerting::Heard;
use monitor_core::clock::Clock;
use monitor_core::domain::{
    Label, Offset, Probabilities, Probability, Score, StartAt, TopicPartition, Tweet,
};
use monitor_ingest::{Content, Headers, Raw, decode};
use monitor_store::{Advance, Batch, Claim, ModelScore, ScoredTweet, Store};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, TopicPartitionList};

use super::{Bench, LIMITS, PARTITIONS, TOPIC, brands, copy};

impl Bench {
    /// Only reads the topic with librdkafka.
    pub fn bare_consume(&self) -> anyhow::Result<f64> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", "bare")
            .set("enable.auto.commit", "false")
            .create()?;
        let mut partitions = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            partitions.add_partition_offset(TOPIC, partition, rdkafka::Offset::Beginning)?;
        }
        consumer.assign(&partitions)?;
        let (mut rows, mut bytes, mut since) = (0, 0, Duration::ZERO);
        while rows < self.payloads.len() {
            let record = consumer
                .poll(Duration::from_secs(10))
                .context("the broker sends no more records")??;
            if rows == 0 {
                since = self.clock.elapsed();
            }
            rows += 1;
            bytes += record.payload_len();
        }
        ensure!(bytes == self.payloads.iter().map(Vec::len).sum::<usize>(), "records differ");
        Ok(self.rate(rows, since))
    }

    /// Finished rows, in batches like the pipeline's.
    fn batches(&self) -> anyhow::Result<Vec<Batch>> {
        let brands = brands()?;
        let half = Probability::new(0.5)?;
        let now = self.clock.now();
        let scored: Vec<ScoredTweet> = self
            .payloads
            .iter()
            .map(|payload| {
                let headers = Headers::default();
                let raw = Raw {
                    payload,
                    payload_bytes: payload.len(),
                    headers: &headers,
                    timestamp: None,
                };
                let tweet: Tweet = match decode(&raw, &LIMITS, now).content? {
                    Content::Tweet(tweet) => tweet,
                    Content::Notice(notice) => bail!("a notice: {notice:?}"),
                };
                Ok(ScoredTweet {
                    brands: brands.matches(&tweet.text, &[]),
                    tweet,
                    score: Some(ModelScore::new(
                        Score { probabilities: Probabilities::two(half), label: Label::Negative },
                        "null@1",
                    )),
                    heard: Heard::Always,
                })
            })
            .collect::<anyhow::Result<_>>()?;
        let mut position = Offset(0);
        let batches = scored.chunks(config::Batching::default().rows_max).map(|scores| {
            let from = position;
            position = Offset(from.0 + i64::try_from(scores.len())?);
            let advance = Advance {
                partition: TopicPartition::new(TOPIC, 0),
                from,
                to: position,
                event_time_max: scores.iter().map(|s| s.tweet.created_at).max(),
                record_time_max: None,
            };
            Ok(Batch { scores: scores.to_vec(), advances: vec![advance], ..Batch::default() })
        });
        batches.collect()
    }

    /// Only writes finished rows, in transactions like the pipeline's.
    pub async fn bare_insert(&self) -> anyhow::Result<f64> {
        let store = self.store().await?;
        let claim = Claim {
            partition: TopicPartition::new(TOPIC, 0),
            seen: None,
            low: Offset(0),
            high: Offset(i64::try_from(self.payloads.len())?),
        };
        store.claim(&[claim], StartAt::Earliest).await?;
        let batches = self.batches()?;
        let since = self.clock.elapsed();
        for batch in &batches {
            store.commit(batch).await?;
        }
        Ok(self.rate(self.payloads.len(), since))
    }

    /// Only copies finished rows into a table without an index.
    pub async fn bare_copy(&self) -> anyhow::Result<f64> {
        let store = self.store().await?;
        let connection = &mut *store.pool().acquire().await?;
        sqlx::raw_sql(copy::TABLE).execute(&mut *connection).await?;
        let batches = self.batches()?;
        let since = self.clock.elapsed();
        for batch in &batches {
            copy::copy(connection, batch).await?;
        }
        Ok(self.rate(self.payloads.len(), since))
    }
}
