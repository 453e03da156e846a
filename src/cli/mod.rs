//! The command line: one file per subcommand, which parses, calls and prints.
//!
//! **Invariant.** Only this module and `main` use `anyhow`; modules below have typed errors.

mod alert;
mod backtest;
mod check_config;
mod compare;
mod completions;
mod data;
mod dead_letters;
#[cfg(feature = "embedded")]
mod demo;
mod digest;
mod doctor;
mod drift;
mod evaluate;
mod evaluate_provider;
mod explain;
mod export;
mod forget;
mod incidents;
mod labels;
mod man;
mod migrate;
mod models;
mod output;
mod prune;
mod replay;
mod retrain;
mod run;
mod score;
mod serve;
mod signals;
mod silence;
mod telemetry;
mod times;
mod tune;
mod who;

use std::path::PathBuf;

use anyhow::{anyhow, ensure};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use monitor_config::{Alerting, Settings};
use monitor_core::domain::{Cause, STREAM};
use monitor_store::{PostgresStore, StoreError, author_name};

use crate::settings;

pub use output::one_line;

/// Streaming bad-buzz monitor: scores tweets from Kafka, stores them in Postgres, and
/// notifies people when a brand's share of negative tweets, or their number, rises beyond what chance explains.
///
/// Settings come in layers; later ones override earlier ones: defaults, --config FILE, environment
/// (MONITOR_KAFKA__BROKERS sets kafka.brokers), --set KEY=VALUE.
/// config/monitor.example.toml explains every key.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub struct Cli {
    /// Settings file (TOML)
    #[arg(long, short, global = true, env = "MONITOR_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Set one value, such as `kafka.topic=tweets`; may be repeated
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    #[cfg(feature = "embedded")]
    Demo(demo::Args),
    Replay(replay::Args),
    Score(score::Args),
    Serve(serve::Args),
    Explain(explain::Args),
    Backtest(backtest::Args),
    Retrain(Box<retrain::Args>),
    Tune(Box<tune::Args>),
    Models(models::Args),
    Evaluate(Box<evaluate::Args>),
    Compare(compare::Args),
    Data(data::Args),
    Drift(drift::Args),
    DeadLetters(dead_letters::Args),
    Digest(digest::Args),
    Incidents(incidents::Args),
    Labels(labels::Args),
    Silence(silence::Args),
    Alert(alert::Args),
    Migrate(migrate::Args),
    Prune(prune::Args),
    Export(export::Args),
    Forget(forget::Args),
    CheckConfig(check_config::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Cli {
    /// Reads the arguments of this process; prints help or an error and ends it where they ask for
    /// that. `commit` is the commit that the program was built from.
    pub fn of_arguments(commit: Option<&str>) -> Self {
        let matches = Self::command_of(commit).get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// The command line, whose version names the commit.
    fn command_of(commit: Option<&str>) -> clap::Command {
        let version = env!("CARGO_PKG_VERSION");
        let version =
            commit.map_or_else(|| version.to_owned(), |commit| format!("{version} ({commit})"));
        // Made once in the life of a process.
        Self::command().version(&*version.leak())
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .ok_or_else(|| format!("{text:?} is not KEY=VALUE, such as kafka.topic=tweets"))
}

/// Runs `work` with the store; an error names the database and what to do.
fn with_store<T>(
    settings: &Settings,
    work: impl AsyncFnOnce(&PostgresStore) -> Result<T, StoreError>,
) -> anyhow::Result<T> {
    /// SQLSTATE of missing tables and columns.
    const UNDEFINED: [&str; 2] = ["42P01", "42703"];
    let place = PostgresStore::place(&settings.store);
    let is_old = |error: &StoreError| match error {
        StoreError::Refused(sqlx::Error::Database(refused)) => {
            refused.code().is_some_and(|code| UNDEFINED.contains(&code.as_ref()))
        }
        StoreError::Refused(sqlx::Error::ColumnNotFound(_)) => true,
        _ => false,
    };
    let worded = |error: StoreError| match &error {
        _ if is_old(&error) => {
            anyhow!("the database {place} is not up to date: run `monitor migrate` ({error})")
        }
        StoreError::Unavailable(_) => anyhow!("{error} (store.url names {place})"),
        _ => error.into(),
    };
    tokio::runtime::Runtime::new()?.block_on(async {
        let store = PostgresStore::connect(&settings.store)?;
        work(&store.ignoring(&settings.alerting.ignore_authors)).await.map_err(worded)
    })
}

/// Valid brand names, in the settings' order.
fn known_brands(settings: &Settings) -> Vec<&str> {
    settings.brands.keys().map(String::as_str).chain([STREAM]).collect()
}

fn require_brand(brand: &str, known: &[&str]) -> anyhow::Result<()> {
    ensure!(
        known.contains(&brand),
        "there is no brand {brand:?}; there are {}",
        known.iter().map(|brand| format!("{brand:?}")).collect::<Vec<_>>().join(", ")
    );
    Ok(())
}

/// Warns of authors that the settings leave out by their hash: a file has names, and only a database has the key to
/// hash them.
fn warn_of_hashes(alerting: &Alerting) {
    let hashes: Vec<&str> = (alerting.ignore_authors.iter().map(|author| author.trim()))
        .filter(|author| author_name(author).is_none())
        .collect();
    if !hashes.is_empty() {
        eprintln!(
            "warning: alerting.ignore_authors leaves nobody of a file out by {}: it has names, not what your database \
             stores of them",
            hashes.join(", ")
        );
    }
}

/// Parses a cause.
fn causes() -> impl TypedValueParser<Value = Cause> {
    PossibleValuesParser::new(Cause::ALL.map(Cause::as_str))
        .map(|word| Cause::parse(&word).expect("clap accepts only these words"))
}

/// Runs one command; `commit` is the commit that the program was built from.
///
/// # Errors
/// The cause, for printing.
pub fn run(cli: Cli, commit: Option<&'static str>) -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider was already installed"))?;
    let read =
        || -> anyhow::Result<Settings> { Ok(settings::load(cli.config.as_deref(), &cli.set)?) };
    match cli.command {
        Command::Run(args) => run::run(args, read()?, (cli.config.as_deref(), &cli.set), commit),
        #[cfg(feature = "embedded")]
        Command::Demo(args) => demo::run(args, cli.config.as_deref(), cli.set),
        Command::Replay(args) => replay::run(args, read()?),
        Command::Score(args) => score::run(args, read()?),
        Command::Serve(args) => serve::run(args, read()?, commit),
        Command::Explain(args) => explain::run(args, read()?),
        Command::Backtest(args) => backtest::run(&args, cli.config.as_deref(), &cli.set),
        Command::Retrain(args) => retrain::run(*args, read()?, commit),
        Command::Tune(args) => tune::run(*args, read()?, commit),
        Command::Models(args) => models::run(args, read()?, commit),
        Command::Evaluate(args) => evaluate::run(&args, read()?),
        Command::Compare(args) => compare::run(args, read()?),
        Command::Data(args) => data::run(args),
        Command::Drift(args) => drift::run(args, read()?),
        Command::DeadLetters(args) => dead_letters::run(args, read()?),
        Command::Digest(args) => digest::run(args, read()?),
        Command::Incidents(args) => incidents::run(args, read()?),
        Command::Labels(args) => labels::run(args, read()?),
        Command::Silence(args) => silence::run(args, read()?),
        Command::Alert(args) => alert::run(args, read()?),
        Command::Migrate(args) => migrate::run(args, read()?),
        Command::Prune(args) => prune::run(args, read()?),
        Command::Export(args) => export::run(args, read()?),
        Command::Forget(args) => forget::run(args, read()?),
        Command::CheckConfig(args) => check_config::run(&args, read()),
        Command::Doctor(args) => doctor::run(&args, &read()?),
        Command::Completions(args) => completions::run(&args, Cli::command_of(commit)),
        Command::Man(args) => man::run(&args, Cli::command_of(commit)),
    }
}
