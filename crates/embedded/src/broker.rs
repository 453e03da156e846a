//! librdkafka's mock cluster in this process: the real protocol over sockets, in memory only.
//!
//! **Invariant.** Only the cluster's thread uses it, because librdkafka's handle is not
//! thread-safe. The cluster exists until the guard is dropped.
//! Deliberately absent: durability, and more than about 100,000 records per partition. Tests of
//! the behaviour of a real broker use [`super::Nisshi`].

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
type Command = Box<dyn FnOnce(&Cluster) + Send>;

/// A running cluster of one broker; dropping it ends it.
#[derive(Debug)]
pub struct MockBroker {
    brokers: String,
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl MockBroker {
    /// Starts a cluster with one topic. Further topics appear when they are first used,
    /// with four partitions, or by [`MockBroker::create_topic`].
    ///
    /// # Errors
    /// librdkafka returns an error.
    pub fn start(topic: &str, partitions: u32) -> Result<Self, EmbeddedError> {
        let (commands, inbox) = mpsc::channel::<Command>();
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
                        for command in inbox {
                            command(&cluster);
                        }
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                    }
                }
            })
            .doing("start the broker's thread")?;
        let brokers = start.recv().map_err(|_| ended())??;
        Ok(Self { brokers, commands: Some(commands), thread: Some(thread) })
    }

    /// `host:port`, for `kafka.brokers`.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Adds a topic.
    ///
    /// # Errors
    /// librdkafka returns an error, for example because the topic exists.
    pub fn create_topic(&self, topic: &str, partitions: u32) -> Result<(), EmbeddedError> {
        let topic = topic.to_owned();
        self.ask(move |cluster| cluster.create_topic(&topic, count(partitions), REPLICATION))
    }

    /// Closes all connections and accepts no new ones, until [`MockBroker::up`].
    ///
    /// # Errors
    /// librdkafka returns an error.
    pub fn down(&self) -> Result<(), EmbeddedError> {
        self.ask(|cluster| cluster.broker_down(BROKER_ID))
    }

    /// Ends [`MockBroker::down`]; records and offsets are unchanged.
    ///
    /// # Errors
    /// librdkafka returns an error.
    pub fn up(&self) -> Result<(), EmbeddedError> {
        self.ask(|cluster| cluster.broker_up(BROKER_ID))
    }

    /// Runs `command` on the cluster's thread, for example to make the cluster return errors, and
    /// returns its result.
    ///
    /// # Errors
    /// The error of `command`.
    pub fn ask<T: Send + 'static>(
        &self,
        command: impl FnOnce(&Cluster) -> KafkaResult<T> + Send + 'static,
    ) -> Result<T, EmbeddedError> {
        let (answer, outcome) = mpsc::channel();
        let command: Command = Box::new(move |cluster| {
            let _ = answer.send(command(cluster));
        });
        self.commands
            .as_ref()
            .and_then(|commands| commands.send(command).ok())
            .ok_or_else(ended)?;
        Ok(outcome.recv().map_err(|_| ended())??)
    }
}

impl Drop for MockBroker {
    fn drop(&mut self) {
        // Dropping the sender ends the thread, which drops the cluster.
        drop(self.commands.take());
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
