//! What the demo makes on brokers and on a Postgres, and cleans away however it ends.

use std::time::Duration;

use anyhow::{Context, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::timeout;

use monitor_config as config;
use monitor_embedded::{MockBroker, Postgres, with_database};

/// Partitions of the demo's topic.
pub const PARTITIONS: i32 = 6;
/// Longest wait for one answer of a broker or a Postgres that was given.
pub const SERVER_MAX: Duration = Duration::from_secs(20);

/// What is to be cleaned up.
#[derive(Default)]
pub struct Made {
    /// Where the topic was made, if that was on brokers that were given.
    pub topic: Option<config::Kafka>,
    pub database: Option<Database>,
    pub broker: Option<MockBroker>,
}

impl Made {
    /// Cleans up; a broker that cannot delete is no more than named.
    ///
    /// # Errors
    /// The database could not be dropped.
    pub async fn unmake(mut self, keep: bool) -> anyhow::Result<()> {
        if let Some(kafka) = self.topic.filter(|_| !keep)
            && let Err(error) = delete_topic(&kafka).await
        {
            let error = crate::cli::one_line(&error);
            eprintln!("topic {} stays on {}: {error}", kafka.topic, kafka.brokers);
        }
        match &mut self.database {
            Some(database) => database.unmake(keep).await,
            None => Ok(()),
        }
    }
}

fn admin(
    kafka: &config::Kafka,
) -> anyhow::Result<(AdminClient<DefaultClientContext>, AdminOptions)> {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &kafka.brokers);
    for (key, value) in &kafka.properties {
        client.set(key, value);
    }
    Ok((client.create()?, AdminOptions::new().request_timeout(Some(SERVER_MAX))))
}

pub async fn create_topic(kafka: &config::Kafka) -> anyhow::Result<()> {
    let (admin, options) = admin(kafka)?;
    let topic = NewTopic::new(&kafka.topic, PARTITIONS, TopicReplication::Fixed(1));
    for outcome in admin.create_topics([&topic], &options).await? {
        if let Err((topic, error)) = outcome {
            bail!("cannot create topic {topic} on {}: {error}", kafka.brokers);
        }
    }
    Ok(())
}

async fn delete_topic(kafka: &config::Kafka) -> anyhow::Result<()> {
    let (admin, options) = admin(kafka)?;
    for outcome in admin.delete_topics(&[&kafka.topic], &options).await? {
        outcome.map_err(|(_, error)| error)?;
    }
    Ok(())
}

/// A database of the demo's own, on the server given or on an embedded one.
pub struct Database {
    pub url: String,
    /// For people: how to open it.
    pub psql: String,
    /// The server's address and the database's name.
    given: Option<(String, String)>,
    embedded: Option<Postgres>,
}

impl Database {
    pub async fn make() -> anyhow::Result<Self> {
        if let Some(server) = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()) {
            let name = format!("monitor_demo_{}", std::process::id());
            let url = with_database(&server, &name)
                .context("DATABASE_URL is no address such as postgres://user@host/database")?;
            execute(&server, format!("CREATE DATABASE {name}"))
                .await
                .context("cannot create a database on the Postgres that DATABASE_URL names")?;
            let psql = format!("yours; psql to database {name}");
            return Ok(Self { url, psql, given: Some((server, name)), embedded: None });
        }
        let embedded = tokio::task::spawn_blocking(|| Postgres::start(None)).await??;
        let url = embedded.create_database("monitor").await?;
        let psql = embedded.psql_line("monitor");
        Ok(Self { url, psql, given: None, embedded: Some(embedded) })
    }

    async fn unmake(&mut self, keep: bool) -> anyhow::Result<()> {
        if let Some((server, name)) = self.given.take().filter(|_| !keep) {
            execute(&server, format!("DROP DATABASE {name} WITH (FORCE)"))
                .await
                .with_context(|| format!("database {name} stays"))?;
        }
        if let Some(embedded) = self.embedded.as_mut().filter(|_| keep) {
            println!("Postgres is stopped; its folder stays: {}", embedded.keep().display());
        }
        Ok(())
    }
}

/// Has a server that was given run one statement.
async fn execute(server: &str, statement: String) -> anyhow::Result<()> {
    let run = async {
        let mut connection = PgConnection::connect(server).await?;
        sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await
    };
    let ran = timeout(SERVER_MAX, run).await;
    ran.with_context(|| format!("no answer within {} s", SERVER_MAX.as_secs()))??;
    Ok(())
}
