//! Sends records to Kafka again, as they are.

use chrono::{DateTime, Utc};
use monitor_config as config;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseRecord, Producer};
use std::sync::atomic::Ordering;
use std::thread;
use tokio_util::sync::CancellationToken;

use super::{QUEUE_FULL_WAIT, ReplayError, flush, producer};

/// Sends payloads, each with its time, to `kafka.topic`. Blocks until the broker has accepted all of them.
///
/// # Errors
/// One was not accepted; whether the others were is then not known.
pub fn resend(
    kafka: &config::Kafka,
    records: &[(&[u8], DateTime<Utc>)],
) -> Result<(), ReplayError> {
    let producer = producer(kafka)?;
    for (number, (payload, at)) in records.iter().enumerate() {
        let mut next = BaseRecord::<(), [u8]>::to(&kafka.topic)
            .payload(payload)
            .timestamp(at.timestamp_millis());
        while let Err((source, refused)) = producer.send(next) {
            if source.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(ReplayError::Send { id: format!("number {}", number + 1), source });
            }
            next = refused;
            thread::sleep(QUEUE_FULL_WAIT);
        }
    }
    flush(&producer, &CancellationToken::new()).map_err(ReplayError::Flush)?;
    let failed = producer.context().failed.load(Ordering::Relaxed);
    let error = producer.context().error.lock().expect("no holder of this lock panics").clone();
    match error {
        Some(error) if failed > 0 => Err(ReplayError::Flush(error)),
        _ => Ok(()),
    }
}
