//! Apache Kafka as child processes: one or several nodes, each broker and controller (KRaft).
//!
//! **Invariant.** A node keeps its address, its records and its offsets over a restart, even after
//! `kill -9`. Deliberately absent: fetching Kafka; `scripts/setup --peers` does it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tempfile::TempDir;

use super::child::Child;
use super::{Doing, EmbeddedError, cache, free_port, log_tail};

/// The folder in the cache; its name has the version of `kafka/pom.xml`.
const FOLDER: &str = "kafka-4.4.0";
const READY_TRIES: u32 = 600;
const READY_POLL: Duration = Duration::from_millis(100);
const PORT_TRIES: usize = 5;
/// Small, as several nodes and daemons run at once; the second compiler would take the cores.
const JAVA: [&str; 3] = ["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];
/// Any valid id does: each cluster has its own addresses.
const CLUSTER_ID: &str = "bW9uaXRvci10ZXN0cy0wMQ";

/// How a cluster differs from one plain node.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// Number of nodes.
    pub nodes: usize,
    /// Further lines of `server.properties`; they replace earlier ones. `{port}` and `{internal}` stand
    /// for the node's ports.
    pub properties: Vec<String>,
    /// Further arguments of `kafka-storage format`, such as `--add-scram` and its value.
    pub format: Vec<String>,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self { nodes: 1, properties: Vec::new(), format: Vec::new() }
    }
}

/// A running cluster; dropping it ends its nodes and removes their data.
#[derive(Debug)]
pub struct Kafka {
    // Dropped first: the nodes end before their folder is removed.
    nodes: Vec<Node>,
    libs: PathBuf,
    folder: TempDir,
}

#[derive(Debug)]
struct Node {
    process: Option<Child>,
    port: u16,
    /// For the other nodes, and for clients without a login.
    internal_port: u16,
    controller_port: u16,
}

impl Kafka {
    /// Finds the folder of Kafka's jars: in `$KAFKA_HOME`, else in the cache. `None` also if there is
    /// no Java.
    pub fn find() -> Option<PathBuf> {
        let home = std::env::var_os("KAFKA_HOME").filter(|value| !value.is_empty());
        let home = home.map(PathBuf::from).or_else(|| cache().map(|dir| dir.join(FOLDER)))?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let has_java = std::env::split_paths(&path).any(|dir| dir.join("java").is_file());
        let libs = home.join("libs");
        (has_java && libs.is_dir()).then_some(libs)
    }

    /// Starts one plain node. Blocks, usually for four seconds.
    ///
    /// # Errors
    /// See [`Kafka::start_with`].
    pub fn start() -> Result<Self, EmbeddedError> {
        Self::start_with(&KafkaOptions::default())
    }

    /// Starts a cluster and waits until each node answers.
    ///
    /// # Errors
    /// Kafka or Java is not installed, or a node does not become ready; the error contains the end of
    /// its log.
    pub fn start_with(options: &KafkaOptions) -> Result<Self, EmbeddedError> {
        let libs = Self::find().ok_or_else(|| {
            EmbeddedError::Missing(
                "Apache Kafka is not on this machine: run scripts/setup --peers, which needs Java 17 \
                 and Maven, or set KAFKA_HOME to it"
                    .into(),
            )
        })?;
        for tries_left in (0..PORT_TRIES).rev() {
            match Self::start_once(&libs, options) {
                // Another process was faster to bind a port.
                Err(EmbeddedError::Failed { log, .. })
                    if tries_left > 0 && log.contains("Address already in use") => {}
                outcome => return outcome,
            }
        }
        unreachable!("the last try returns")
    }

    fn start_once(libs: &Path, options: &KafkaOptions) -> Result<Self, EmbeddedError> {
        let folder = tempfile::Builder::new()
            .prefix("monitor-kafka-")
            .tempdir()
            .doing("make a folder for the broker")?;
        let ports = || -> Result<Node, EmbeddedError> {
            let (port, internal_port) = (free_port()?, free_port()?);
            Ok(Node { process: None, port, internal_port, controller_port: free_port()? })
        };
        let nodes = (0..options.nodes).map(|_| ports()).collect::<Result<Vec<_>, _>>()?;
        let mut kafka = Self { nodes, libs: libs.to_owned(), folder };
        for place in 0..options.nodes {
            let text = kafka.properties(place, options);
            let path = kafka.file(place, "properties");
            fs::write(&path, text).doing(format!("write {}", path.display()))?;
        }
        let mut formatting = Vec::new();
        for place in 0..options.nodes {
            let mut arguments = vec!["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"];
            let path = kafka.file(place, "properties").display().to_string();
            arguments.push(&path);
            arguments.extend(options.format.iter().map(String::as_str));
            formatting.push(kafka.java(place, &arguments)?);
        }
        for (place, format) in formatting.iter().enumerate() {
            let exit = format.wait(READY_POLL * READY_TRIES);
            if !exit.is_some_and(|exit| exit.success()) {
                return Err(kafka.failed(place, "could not format its folder"));
            }
        }
        for place in 0..options.nodes {
            kafka.launch(place)?;
        }
        for place in 0..options.nodes {
            kafka.wait_for_port(place)?;
        }
        kafka.wait_for_answer()?;
        Ok(kafka)
    }

    /// `host:port` of all nodes, for `kafka.brokers`; does not change.
    pub fn brokers(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(|node| address(node.port)).collect();
        addresses.join(",")
    }

    /// The same at the listener `INTERNAL`, which wants no login.
    pub fn internal_brokers(&self) -> String {
        let addresses = self.nodes.iter().map(|node| address(node.internal_port));
        addresses.collect::<Vec<_>>().join(",")
    }

    /// Kills a node as `kill -9` does; nodes are counted from 0.
    pub fn kill(&mut self, place: usize) {
        if let Some(process) = self.nodes[place].process.take() {
            process.stop(libc::SIGKILL, Duration::from_secs(10));
        }
    }

    /// Starts a killed node again, at the same address. Blocks until it answers.
    ///
    /// # Errors
    /// The node does not become ready.
    pub fn start_again(&mut self, place: usize) -> Result<(), EmbeddedError> {
        if self.nodes[place].process.as_ref().is_some_and(|node| node.exit().is_none()) {
            return Ok(());
        }
        self.launch(place)?;
        self.wait_for_port(place)?;
        self.wait_for_answer()
    }

    fn file(&self, place: usize, kind: &str) -> PathBuf {
        self.folder.path().join(format!("node-{place}.{kind}"))
    }

    fn properties(&self, place: usize, options: &KafkaOptions) -> String {
        let node = &self.nodes[place];
        let folder = self.folder.path().display();
        let voters: Vec<String> = (1..)
            .zip(&self.nodes)
            .map(|(id, node)| format!("{id}@{}", address(node.controller_port)))
            .collect();
        let copies = options.nodes.min(3);
        let (clients, internal) = (address(node.port), address(node.internal_port));
        let mut text = format!(
            "process.roles=broker,controller\n\
             node.id={}\n\
             listeners=CLIENTS://{clients},INTERNAL://{internal},CONTROLLER://{}\n\
             advertised.listeners=CLIENTS://{clients},INTERNAL://{internal}\n\
             listener.security.protocol.map=CLIENTS:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             controller.listener.names=CONTROLLER\n\
             inter.broker.listener.name=INTERNAL\n\
             controller.quorum.voters={}\n\
             log.dirs={folder}/data-{place}\n\
             num.partitions=4\n\
             default.replication.factor={copies}\n\
             offsets.topic.num.partitions=3\n\
             offsets.topic.replication.factor={copies}\n\
             transaction.state.log.num.partitions=3\n\
             transaction.state.log.replication.factor={copies}\n\
             transaction.state.log.min.isr=1\n\
             group.initial.rebalance.delay.ms=0\n",
            place + 1,
            address(node.controller_port),
            voters.join(","),
        );
        for line in &options.properties {
            let line = line.replace("{port}", &node.port.to_string());
            text += &line.replace("{internal}", &node.internal_port.to_string());
            text.push('\n');
        }
        text
    }

    fn launch(&mut self, place: usize) -> Result<(), EmbeddedError> {
        let path = self.file(place, "properties").display().to_string();
        self.nodes[place].process = Some(self.java(place, &["kafka.Kafka", &path])?);
        Ok(())
    }

    /// Runs a class of Kafka; its output goes to the node's log.
    fn java(&self, place: usize, arguments: &[&str]) -> Result<Child, EmbeddedError> {
        let log = self.file(place, "log");
        let output = fs::File::options()
            .create(true)
            .append(true)
            .open(&log)
            .doing(format!("open {}", log.display()))?;
        let errors = output.try_clone().doing("share the log file")?;
        let mut command = Command::new("java");
        command
            .args(JAVA)
            .arg("-cp")
            .arg(self.libs.join("*"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors);
        Child::spawn(command, libc::SIGKILL).doing("run java")
    }

    fn failed(&self, place: usize, what: &str) -> EmbeddedError {
        let log = log_tail(&self.file(place, "log"));
        EmbeddedError::Failed { what: format!("node {place} of Kafka {what}"), log }
    }

    /// After "connection refused" a Kafka client waits before it retries, so wait for the port first.
    fn wait_for_port(&self, place: usize) -> Result<(), EmbeddedError> {
        let node = &self.nodes[place];
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, node.port));
        for _ in 0..READY_TRIES {
            if TcpStream::connect_timeout(&address, READY_POLL).is_ok() {
                return Ok(());
            }
            if node.process.as_ref().is_none_or(|process| process.exit().is_some()) {
                return Err(self.failed(place, "ended at once"));
            }
            sleep(READY_POLL);
        }
        Err(self.failed(place, "does not listen"))
    }

    /// Waits until the cluster knows all nodes that run.
    fn wait_for_answer(&self) -> Result<(), EmbeddedError> {
        let running = self.nodes.iter().filter(|node| node.process.is_some()).count();
        let client: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", self.internal_brokers()).create()?;
        for _ in 0..READY_TRIES {
            let answer = client.fetch_metadata(None, READY_POLL * 100);
            if answer.is_ok_and(|metadata| metadata.brokers().len() >= running) {
                return Ok(());
            }
            let ended = |node: &Node| node.process.as_ref().is_some_and(|it| it.exit().is_some());
            if let Some(place) = self.nodes.iter().position(ended) {
                return Err(self.failed(place, "ended while the others waited for it"));
            }
            sleep(READY_POLL);
        }
        Err(self.failed(0, "does not know all nodes"))
    }
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}
