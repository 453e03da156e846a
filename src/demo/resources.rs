//! What the demo creates on brokers and on a Postgres server, and removes when it ends.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::timeout;

use monitor_config as config;
use monitor_embedded::{MockBroker, Postgres, with_database};

use super::{DemoError, DemoEvent, Doing, OnEvent};

/// Partitions of the demo's topic.
pub const PARTITIONS: i32 = 6;
/// Longest wait for one answer of a broker or a Postgres server.
pub const SERVER_MAX: Duration = Duration::from_secs(20);

/// What must be removed at the end.
#[derive(Default)]
pub struct Resources {
    /// The topic, if it is on the user's brokers.
    pub topic: Option<config::Kafka>,
    pub database: Option<Database>,
    pub broker: Option<MockBroker>,
}

impl Resources {
    /// Removes everything, unless `keep` is set. A topic that cannot be deleted is an event, not
    /// an error.
    ///
    /// # Errors
    /// The database could not be dropped.
    pub async fn remove(mut self, keep: bool, on_event: &mut OnEvent<'_>) -> Result<(), DemoError> {
        if let Some(kafka) = self.topic.filter(|_| !keep)
            && let Err(error) = delete_topic(&kafka).await
        {
            let what = format!("topic {} stays on {}", kafka.topic, kafka.brokers);
            on_event(DemoEvent::CleanUpFailed { what: &what, error });
        }
        match &mut self.database {
            Some(database) => database.remove(keep, on_event).await,
            None => Ok(()),
        }
    }
}

fn admin(
    kafka: &config::Kafka,
) -> Result<(AdminClient<DefaultClientContext>, AdminOptions), KafkaError> {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &kafka.brokers);
    for (key, value) in &kafka.properties {
        client.set(key, value);
    }
    Ok((client.create()?, AdminOptions::new().request_timeout(Some(SERVER_MAX))))
}

/// Creates the demo's topic on the user's brokers.
///
/// # Errors
/// The brokers do not answer, or refuse.
pub async fn create_topic(kafka: &config::Kafka) -> Result<(), DemoError> {
    let (admin, options) = admin(kafka)?;
    let topic = NewTopic::new(&kafka.topic, PARTITIONS, TopicReplication::Fixed(1));
    for outcome in admin.create_topics([&topic], &options).await? {
        if let Err((topic, error)) = outcome {
            let brokers = &kafka.brokers;
            return Err(format!("cannot create topic {topic} on {brokers}: {error}").into());
        }
    }
    Ok(())
}

async fn delete_topic(kafka: &config::Kafka) -> Result<(), DemoError> {
    let (admin, options) = admin(kafka)?;
    for outcome in admin.delete_topics(&[&kafka.topic], &options).await? {
        outcome.map_err(|(_, error)| error)?;
    }
    Ok(())
}

/// The demo's database, on the user's server or on an embedded one.
pub struct Database {
    /// Its address.
    pub url: String,
    /// How to open it, for people.
    pub psql: String,
    /// The address of the user's server and the database's name.
    external: Option<(String, String)>,
    embedded: Option<Postgres>,
}

impl Database {
    /// Creates a database on the server that `DATABASE_URL` names, else on an embedded one.
    ///
    /// # Errors
    /// The variable is invalid, or the server does not start, does not answer, or refuses.
    pub async fn create() -> Result<Self, DemoError> {
        if let Some(server) = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()) {
            let name = format!("monitor_demo_{}", std::process::id());
            let url = with_database(&server, &name)
                .ok_or("DATABASE_URL is not an address such as postgres://user@host/database")?;
            execute(&server, format!("CREATE DATABASE {name}")).await.doing(|| {
                "cannot create a database on the Postgres server in DATABASE_URL".into()
            })?;
            let psql = format!("yours; psql to database {name}");
            return Ok(Self { url, psql, external: Some((server, name)), embedded: None });
        }
        let embedded = tokio::task::spawn_blocking(|| Postgres::start(None)).await??;
        let url = embedded.create_database("monitor").await?;
        let psql = embedded.psql_line("monitor");
        Ok(Self { url, psql, external: None, embedded: Some(embedded) })
    }

    async fn remove(&mut self, keep: bool, on_event: &mut OnEvent<'_>) -> Result<(), DemoError> {
        if let Some((server, name)) = self.external.take().filter(|_| !keep) {
            execute(&server, format!("DROP DATABASE {name} WITH (FORCE)"))
                .await
                .doing(|| format!("database {name} stays"))?;
        }
        if let Some(embedded) = self.embedded.as_mut().filter(|_| keep) {
            on_event(DemoEvent::FolderKept(embedded.keep()));
        }
        Ok(())
    }
}

/// Runs one statement on the user's server.
async fn execute(server: &str, statement: String) -> Result<(), DemoError> {
    let run = async {
        let mut connection = PgConnection::connect(server).await?;
        sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await
    };
    let ran = timeout(SERVER_MAX, run).await;
    ran.map_err(|_| format!("no answer within {} s", SERVER_MAX.as_secs()))??;
    Ok(())
}
