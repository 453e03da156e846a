use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use chrono::{DateTime, Utc};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use serde::Serialize;

use super::models::aligned;
use super::output::{print, print_json};
use crate::pipeline;
use monitor_config::{Receiver, Settings};
use monitor_core::clock::{Clock, SystemClock};
use monitor_notify::reach_mail_server;
use monitor_store::{PostgresStore, StoreError, schema_version};

/// Longest wait for each service.
const ANSWER_MAX: Duration = Duration::from_secs(8);
/// The oldest Postgres that the schema works on, as `server_version_num`.
const POSTGRES_MIN: i32 = 140_000;
/// A clock that differs by more from Postgres's is reported, in seconds.
const CLOCK_S_MAX: i64 = 5;
/// Less free space in the folder of models is reported, in MB.
const FREE_MB_MIN: u64 = 1_000;

/// Check everything that `monitor run` needs, and say what to mend
///
/// Connects to the broker, Postgres and the mail servers (without sending a mail), opens the models, and
/// compares the clock with Postgres's. Changes nothing. Exits with status 1 if there is a problem. `monitor
/// check-config` checks the settings alone; `monitor alert test` sends a notification.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON: a list of objects with part, state (ok, warning or problem), found and remedy
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Ok,
    Warning,
    Problem,
}

/// What was found out about one part.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub part: String,
    pub state: State,
    pub found: String,
    /// What to do; empty if there is nothing.
    pub remedy: String,
}

pub(super) fn ok(part: impl Into<String>, found: impl Into<String>) -> Finding {
    Finding { part: part.into(), state: State::Ok, found: found.into(), remedy: String::new() }
}

pub(super) fn bad(
    part: impl Into<String>,
    state: State,
    found: impl Into<String>,
    remedy: impl Into<String>,
) -> Finding {
    Finding { part: part.into(), state, found: found.into(), remedy: remedy.into() }
}

pub fn run(args: &Args, settings: &Settings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let mut findings = vec![broker(settings)];
    findings.extend(runtime.block_on(store(settings)));
    findings.push(models(settings));
    findings.extend(disk(&settings.model.directory));
    findings.extend(runtime.block_on(receivers(settings)));
    if args.json {
        print_json(&findings)?;
    } else {
        print(&text(&findings))?;
    }
    let problems = findings.iter().filter(|finding| finding.state == State::Problem).count();
    ensure!(problems == 0, "{problems} of {} parts do not work", findings.len());
    Ok(())
}

fn text(findings: &[Finding]) -> String {
    let rows: Vec<Vec<String>> = findings
        .iter()
        .map(|it| {
            let state = match it.state {
                State::Ok => "ok",
                State::Warning => "warning",
                State::Problem => "problem",
            };
            vec![state.to_owned(), it.part.clone(), it.found.clone()]
        })
        .collect();
    let mut out = String::new();
    for (line, finding) in aligned(&rows).lines().zip(findings) {
        writeln!(out, "{}", line.trim_end()).expect("writing to a string cannot fail");
        if !finding.remedy.is_empty() {
            writeln!(out, "    {}", finding.remedy).expect("writing to a string cannot fail");
        }
    }
    out
}

fn broker(settings: &Settings) -> Finding {
    let (kafka, part) = (&settings.kafka, "broker");
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &kafka.brokers).set("client.id", "monitor-doctor");
    for (key, value) in &kafka.properties {
        client.set(key, value);
    }
    let consumer: BaseConsumer = match client.create() {
        Ok(consumer) => consumer,
        Err(error) => {
            let remedy = "check kafka.properties against librdkafka's list";
            return bad(part, State::Problem, error.to_string(), remedy);
        }
    };
    let metadata = match consumer.fetch_metadata(Some(&kafka.topic), ANSWER_MAX) {
        Ok(metadata) => metadata,
        Err(error) => {
            let found = format!("no broker answers at {}: {error}", kafka.brokers);
            let remedy = "check kafka.brokers, the network, and kafka.properties \
                          (security.protocol, sasl.*)";
            return bad(part, State::Problem, found, remedy);
        }
    };
    let topic = metadata.topics().first();
    let partitions = topic.map_or(0, |topic| topic.partitions().len());
    match topic.and_then(|topic| topic.error()).map(RDKafkaErrorCode::from) {
        None if partitions > 0 => ok(
            part,
            format!(
                "{}: topic {} with {partitions} partitions, {} brokers",
                kafka.brokers,
                kafka.topic,
                metadata.brokers().len()
            ),
        ),
        error => {
            let reason = error.map_or("it has no partition".into(), |error| error.to_string());
            let found = format!("{} has no topic {}: {reason}", kafka.brokers, kafka.topic);
            bad(part, State::Problem, found, "create the topic, or set kafka.topic")
        }
    }
}

/// What Postgres says of itself.
struct Server {
    version: i32,
    version_text: String,
    now: DateTime<Utc>,
    in_recovery: bool,
    may_create: bool,
    /// Connections that nobody uses.
    free: i64,
    bytes: i64,
}

const SERVER: &str = "SELECT current_setting('server_version_num')::int AS version,
    current_setting('server_version') AS version_text,
    clock_timestamp() AS now,
    pg_is_in_recovery() AS in_recovery,
    coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create,
    to_regclass('_sqlx_migrations') IS NOT NULL AS has_schema,
    current_setting('max_connections')::bigint - (SELECT count(*) FROM pg_stat_activity) AS free,
    pg_database_size(current_database()) AS bytes";

async fn store(settings: &Settings) -> Vec<Finding> {
    let asked = tokio::time::timeout(ANSWER_MAX, async {
        let store = PostgresStore::connect(&settings.store)?;
        store.reach().await?;
        let row: (i32, String, DateTime<Utc>, bool, bool, bool, i64, i64) =
            sqlx::query_as(SERVER).fetch_one(store.pool()).await?;
        let (version, version_text, now, in_recovery, may_create, has_schema, free, bytes) = row;
        let server = Server { version, version_text, now, in_recovery, may_create, free, bytes };
        let schema: Option<i64> = match has_schema {
            true => {
                let sql = "SELECT max(version) FROM _sqlx_migrations WHERE success";
                sqlx::query_scalar(sql).fetch_one(store.pool()).await?
            }
            false => None,
        };
        Ok::<_, StoreError>((server, schema))
    });
    let place = PostgresStore::place(&settings.store);
    let error = match asked.await {
        Ok(Ok((server, schema))) => return about(settings, &place, &server, schema),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("{place}: no answer within {} s", ANSWER_MAX.as_secs()),
    };
    let remedy = "check store.url (host, port, database, user, password) and pg_hba.conf";
    vec![bad("store", State::Problem, error, remedy)]
}

fn about(settings: &Settings, place: &str, server: &Server, schema: Option<i64>) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut problem = |text: String, remedy: &str| {
        found.push(bad("store", State::Problem, format!("{place}: {text}"), remedy));
    };
    if server.version < POSTGRES_MIN {
        let text = format!("Postgres {} is too old", server.version_text);
        problem(text, "use Postgres 14 or newer");
    }
    if server.in_recovery {
        problem("a standby, which cannot be written to".into(), "name the primary in store.url");
    }
    match schema {
        Some(schema) if schema > schema_version() => problem(
            format!("the schema has version {schema}, newer than this program's"),
            "use the program that migrated it, or a newer one",
        ),
        Some(schema) if schema == schema_version() => {}
        older => {
            let has = older.map_or("no schema yet".into(), |it| format!("schema version {it}"));
            if server.may_create {
                found.push(bad(
                    "store",
                    State::Warning,
                    format!("{place}: {has}, this program needs version {}", schema_version()),
                    "`monitor migrate` brings it up to date; `monitor run` does so at its start",
                ));
            } else {
                problem(
                    format!("{has}, and this user may not create tables"),
                    "GRANT CREATE ON SCHEMA public to it, or run `monitor migrate` as another user",
                );
            }
        }
    }
    let wanted = i64::from(settings.store.connections_max);
    if server.free < wanted {
        let text = format!("{place}: {} connections are free", server.free);
        let remedy = "lower store.connections_max, or raise Postgres's max_connections";
        found.push(bad("store", State::Warning, text, remedy));
    }
    if found.is_empty() {
        let (version, mb) = (&server.version_text, server.bytes / 1_000_000);
        let text = format!("{place}: Postgres {version}, {mb} MB, no extension is needed");
        found.push(ok("store", text));
    }
    let ahead = (SystemClock::new().now() - server.now).num_seconds();
    found.push(match ahead.abs() <= CLOCK_S_MAX {
        true => ok("clock", "as Postgres's"),
        false => bad(
            "clock",
            State::Problem,
            format!(
                "{} s {} Postgres's",
                ahead.abs(),
                if ahead > 0 { "ahead of" } else { "behind" }
            ),
            "let NTP set the clocks of both machines: which minutes are closed depends on them",
        ),
    });
    found
}

fn models(settings: &Settings) -> Finding {
    match pipeline::open_models(&settings.model) {
        Ok(models) => {
            let names: Vec<String> = models.iter().map(|(model, _)| model.id.to_string()).collect();
            ok("model", names.join(", "))
        }
        Err(error) => {
            let remedy = "`monitor models list` shows the models in model.directory";
            bad("model", State::Problem, error.to_string(), remedy)
        }
    }
}

/// Free space in the folder of models, as `df` tells; nothing if it does not.
fn disk(folder: &Path) -> Option<Finding> {
    let output = Command::new("df").arg("-Pk").arg(folder).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let free_kb: u64 = text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    let (free_mb, folder) = (free_kb / 1_000, folder.display());
    let found = format!("{free_mb} MB free in {folder}");
    Some(match free_mb >= FREE_MB_MIN {
        true => ok("disk", found),
        false => bad(
            "disk",
            State::Warning,
            found,
            "make room: a training or a new model needs some hundred MB",
        ),
    })
}

async fn receivers(settings: &Settings) -> Vec<Finding> {
    let mut found = Vec::new();
    for (name, receiver) in &settings.receivers {
        let part = format!("receiver {name}");
        found.push(match receiver {
            Receiver::Email(email) => {
                let place = format!("{}:{}", email.host, email.port);
                match reach_mail_server(name, email, ANSWER_MAX).await {
                    Ok(()) => ok(part, format!("{place} lets us in")),
                    Err(error) => {
                        let remedy = format!(
                            "check host, port, tls, username and password of receivers.{name}"
                        );
                        bad(part, State::Problem, error, remedy)
                    }
                }
            }
            _ => ok(part, format!("not tried: `monitor alert test {name}` sends a test")),
        });
    }
    if found.is_empty() {
        let remedy = "add a [receivers.<name>] table: config/monitor.example.toml shows each kind";
        found.push(bad("receivers", State::Warning, "none: nobody is notified", remedy));
    }
    found
}
