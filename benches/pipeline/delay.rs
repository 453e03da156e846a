//! How long a record takes from the broker to the database at half the rate that the pipeline reaches.

use std::time::Duration;

use anyhow::ensure;
use monitor_core::alerting::Voice;
use monitor_core::clock::Clock;
use monitor_model::Model;
use monitor_store::Store;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::{Bench, PARTITIONS, create_topic};

/// How often records are sent, and stored positions are read.
const STEP: Duration = Duration::from_millis(5);
const DELAY_MAX: Duration = Duration::from_secs(60);
/// The first records wait for the pipeline to start: they are not measured.
const STARTED_AFTER: Duration = Duration::from_secs(3);

impl Bench {
    /// Sends `rate` records a second for that long, after a start of some seconds; returns the delay of each, in
    /// milliseconds, ascending.
    pub async fn delays(&self, model: Model, rate: f64, seconds: u64) -> anyhow::Result<Vec<f64>> {
        let topic = format!("delay-{}", self.databases.get());
        create_topic(&self.brokers, &topic).await?;
        let running = self.start(&topic, model, Voice::default()).await?;
        while running.store.progress(&topic).await?.len() < PARTITIONS as usize {
            tokio::time::sleep(STEP).await;
        }
        let until = STARTED_AFTER + Duration::from_secs(seconds);
        let rows = self.payloads.len().min((rate * until.as_secs_f64()) as usize);
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("queue.buffering.max.messages", "1000000")
            .create()?;
        let partitions = PARTITIONS as usize;
        let (mut sent, mut delays) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        let mut stored = vec![0_usize; partitions];
        let since = self.clock.elapsed();
        while stored.iter().sum::<usize>() < rows {
            let now = self.clock.elapsed();
            ensure!(now < since + until + DELAY_MAX, "records are missing");
            let due = rows.min(((now - since).as_secs_f64() * rate) as usize);
            for n in sent.len()..due {
                let record = BaseRecord::<(), _>::to(&topic)
                    .partition(i32::try_from(n % partitions)?)
                    .payload(&self.payloads[n]);
                producer.send(record).map_err(|(error, _)| error)?;
                sent.push(now);
            }
            producer.poll(Duration::ZERO);
            tokio::time::sleep(STEP).await;
            let progress = running.store.progress(&topic).await?;
            let now = self.clock.elapsed();
            for (number, read) in progress.iter().enumerate() {
                let position = usize::try_from(read.position.0)?;
                let new = (stored[number]..position).map(|at| at * partitions + number);
                let new = new.map(|n| sent[n]).filter(|sent| *sent >= since + STARTED_AFTER);
                delays.extend(new.map(|sent| (now - sent).as_secs_f64() * 1000.0));
                stored[number] = position;
            }
        }
        producer.flush(DELAY_MAX)?;
        running.stop().await?;
        ensure!(!delays.is_empty(), "{rows} records are too few: raise --rows");
        delays.sort_by(f64::total_cmp);
        Ok(delays)
    }
}
