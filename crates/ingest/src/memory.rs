//! An in-memory substitute for the Kafka source, for tests and replays.

use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, oneshot};

use super::{Bounds, Control, Event, Headers, Load, Positions, Record, Source};
use monitor_core::domain::{Offset, TopicPartition};

/// A partition's records by offset.
type Records = Vec<(Offset, Vec<u8>)>;

/// A topic in memory. The offsets of a partition's records ascend and may have gaps; the
/// "broker" has no record before the first one.
#[derive(Debug, Clone)]
pub struct MemorySource {
    topic: Arc<str>,
    partitions: Arc<Vec<Records>>,
}

impl MemorySource {
    /// Creates a topic with these partitions.
    pub fn new(topic: &str, partitions: Vec<Records>) -> Self {
        Self { topic: topic.into(), partitions: Arc::new(partitions) }
    }

    /// Reads all partitions in turn from the positions that `positions` returns, reports the
    /// end of each, then revokes them. Stops when nothing is in flight and no partition was
    /// claimed again.
    pub fn start(&self, positions: Arc<dyn Positions>, queue_rows_max: usize) -> Source {
        let (events, receiver) = mpsc::channel(queue_rows_max);
        let reclaims = Arc::new(Mutex::new(Vec::new()));
        let control = Arc::new(Reclaims(reclaims.clone()));
        let source = self.clone();
        let thread = std::thread::spawn(move || {
            source.run(&*positions, &events, &reclaims);
            Ok(())
        });
        Source { events: receiver, control, thread }
    }

    fn name(&self, partition: usize) -> TopicPartition {
        let number = i32::try_from(partition).expect("no test has two billion partitions");
        TopicPartition::new(self.topic.clone(), number)
    }

    fn bounds(&self, partition: usize) -> Bounds {
        let records = &self.partitions[partition];
        Bounds {
            low: records.first().map_or(Offset(0), |(at, _)| *at),
            high: records.last().map_or(Offset(0), |(at, _)| at.next()),
        }
    }

    fn run(
        &self,
        positions: &dyn Positions,
        events: &mpsc::Sender<Event>,
        reclaims: &Mutex<Vec<TopicPartition>>,
    ) {
        let load = Load::default();
        let mut unread: Vec<usize> = (0..self.partitions.len()).collect();
        while !unread.is_empty() {
            let names: Vec<_> = unread.iter().map(|&p| self.name(p)).collect();
            let bounds = |of: &TopicPartition| {
                (0..self.partitions.len()).find(|&p| self.name(p) == *of).map(|p| self.bounds(p))
            };
            let starts = loop {
                match positions.claim(&names, &bounds) {
                    Some(starts) => break starts,
                    None if events.is_closed() => return,
                    None => std::thread::sleep(std::time::Duration::from_millis(1)),
                }
            };
            let named = unread.iter().zip(&starts).map(|(&p, &at)| (self.name(p), at)).collect();
            let mut sent = events.blocking_send(Event::Assigned(named)).is_ok();
            for (&partition, &start) in unread.iter().zip(&starts) {
                for (offset, payload) in &self.partitions[partition] {
                    if *offset >= start {
                        sent &= events
                            .blocking_send(Event::Record(Record {
                                partition: self.name(partition),
                                offset: *offset,
                                timestamp: None,
                                headers: Headers::default(),
                                payload: payload.clone(),
                                payload_bytes: payload.len(),
                                weight: load.add(payload.len()),
                            }))
                            .is_ok();
                    }
                }
                sent &= events.blocking_send(Event::AtEnd(self.name(partition))).is_ok();
            }
            let (done, drained) = oneshot::channel();
            let partitions = unread.iter().map(|&p| self.name(p)).collect();
            sent &= events.blocking_send(Event::Revoked { partitions, done }).is_ok();
            if !sent {
                return;
            }
            let _ = drained.blocking_recv();
            let reclaimed = std::mem::take(&mut *reclaims.lock().expect("no holder panics"));
            unread.retain(|&p| reclaimed.contains(&self.name(p)));
        }
    }
}

struct Reclaims(Arc<Mutex<Vec<TopicPartition>>>);

impl Control for Reclaims {
    fn reclaim(&self, partition: &TopicPartition) {
        self.0.lock().expect("no holder panics").push(partition.clone());
    }

    fn stored(&self, _: &[(TopicPartition, Offset)]) {}
}
