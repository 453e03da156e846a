//! librdkafka's own cluster, in this process: real protocol over sockets, memory only.
//!
//! **Invariant.** The cluster is touched by its own thread alone; librdkafka's handle is
//! not made to be shared. It lives until the guard is dropped.
//! Deliberately absent: durability, and more than about 100,000 records a partition; what
//! claims something about a real broker is tested against [`super::Nisshi`].

use std::sync::mpsc;
use std::thread::JoinHandle;

use rdkafka::error::KafkaResult;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use super::{Doing, EmbeddedError};

/// The cluster has one broker; librdkafka counts them from 1.
const BROKER_ID: i32 = 1;
const REPLICATION: i32 = 1;

type Cluster = MockCluster<'static, DefaultProducerContext>;
type Order = Box<dyn FnOnce(&Cluster) + Send>;

/// A running cluster of one broker; dropping it ends it.
#[derive(Debug)]
pub struct MockBroker {
    brokers: String,
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl MockBroker {
    /// Starts a cluster with one topic. Further topics appear when they are first used,
    /// with four partitions, or by [`MockBroker::create_topic`].
    ///
    /// # Errors
    /// librdkafka refuses.
    pub fn start(topic: &str, partitions: u32) -> Result<Self, EmbeddedError> {
        let (orders, inbox) = mpsc::channel::<Order>();
        let (started, start) = mpsc::channel();
        let topic = topic.to_owned();
        let thread = std::thread::Builder::new()
            .name("mock-broker".into())
            .spawn(move || {
                let cluster = MockCluster::new(BROKER_ID).and_then(|cluster| {
                    cluster.create_topic(&topic, count(partitions), REPLICATION)?;
                    Ok(cluster)
                });
                match cluster {
                    Ok(cluster) => {
                        let _ = started.send(Ok(cluster.bootstrap_servers()));
                        for order in inbox {
                            order(&cluster);
                        }
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                    }
                }
            })
            .doing("start the broker's thread")?;
        let brokers = start.recv().map_err(|_| ended())??;
        Ok(Self { brokers, orders: Some(orders), thread: Some(thread) })
    }

    /// `host:port`, for `kafka.brokers`.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Adds a topic.
    ///
    /// # Errors
    /// librdkafka refuses, as when there is one of that name.
    pub fn create_topic(&self, topic: &str, partitions: u32) -> Result<(), EmbeddedError> {
        let topic = topic.to_owned();
        self.ask(move |cluster| cluster.create_topic(&topic, count(partitions), REPLICATION))
    }

    /// Closes all connections and takes no new ones, until [`MockBroker::up`].
    ///
    /// # Errors
    /// librdkafka refuses.
    pub fn down(&self) -> Result<(), EmbeddedError> {
        self.ask(|cluster| cluster.broker_down(BROKER_ID))
    }

    /// Ends [`MockBroker::down`]; records and offsets are as they were.
    ///
    /// # Errors
    /// librdkafka refuses.
    pub fn up(&self) -> Result<(), EmbeddedError> {
        self.ask(|cluster| cluster.broker_up(BROKER_ID))
    }

    /// Has the cluster's own thread do something with it, such as have it answer with
    /// errors, and hands back the outcome.
    ///
    /// # Errors
    /// What `order` came back with.
    pub fn ask<T: Send + 'static>(
        &self,
        order: impl FnOnce(&Cluster) -> KafkaResult<T> + Send + 'static,
    ) -> Result<T, EmbeddedError> {
        let (answer, outcome) = mpsc::channel();
        let order: Order = Box::new(move |cluster| {
            let _ = answer.send(order(cluster));
        });
        self.orders.as_ref().and_then(|orders| orders.send(order).ok()).ok_or_else(ended)?;
        Ok(outcome.recv().map_err(|_| ended())??)
    }
}

impl Drop for MockBroker {
    fn drop(&mut self) {
        // The thread ends with its inbox, and the cluster with the thread.
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn count(partitions: u32) -> i32 {
    i32::try_from(partitions).unwrap_or(i32::MAX)
}

fn ended() -> EmbeddedError {
    EmbeddedError::Failed { what: "the mock broker's thread ended".into(), log: String::new() }
}
