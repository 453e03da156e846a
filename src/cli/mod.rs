//! The command line: one file a subcommand, which parses, calls, prints.
//!
//! **Invariant.** `anyhow` stops here: what is below has errors of its own kind.

mod check_config;
mod compare;
mod data;
mod demo;
mod evaluate;
mod evaluate_provider;
mod migrate;
mod models;
pub mod replay;
mod retrain;
mod run;
mod score;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::{self, Settings};

/// Streaming bad-buzz monitor: scores tweets from Kafka, stores them in Postgres, and
/// tells people when a brand's share of negative tweets rises beyond what chance explains.
///
/// Settings come in layers, later ones win: defaults, --config FILE, environment
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
    Demo(demo::Args),
    Replay(replay::Args),
    Score(score::Args),
    Retrain(retrain::Args),
    Models(models::Args),
    Evaluate(Box<evaluate::Args>),
    Compare(compare::Args),
    Data(data::Args),
    Migrate(migrate::Args),
    CheckConfig(check_config::Args),
}

/// An error and its causes in one line. Many of our errors have their cause in their own
/// text, where it reads best; a cause that the line has already is not said again.
pub fn one_line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |line, cause| {
        match (line.is_empty(), line.contains(&cause)) {
            (true, _) => cause,
            (false, true) => line,
            (false, false) => format!("{line}: {cause}"),
        }
    })
}

fn key_value(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .ok_or_else(|| format!("{text:?} is not KEY=VALUE, such as kafka.topic=tweets"))
}

/// Runs one command to its end.
///
/// # Errors
/// Whatever stopped it, worded for the person at the keyboard.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider was already installed"))?;
    let settings =
        || -> anyhow::Result<Settings> { Ok(config::load(cli.config.as_deref(), &cli.set)?) };
    match cli.command {
        Command::Run(args) => run::run(args, settings()?),
        Command::Demo(args) => demo::run(args, cli.set),
        Command::Replay(args) => replay::run(args, settings()?),
        Command::Score(args) => score::run(args, settings()?),
        Command::Retrain(args) => retrain::run(args, settings()?),
        Command::Models(args) => models::run(args, settings()?),
        Command::Evaluate(args) => evaluate::run(&args, settings()?),
        Command::Compare(args) => compare::run(args, settings()?),
        Command::Data(args) => data::run(args),
        Command::Migrate(args) => migrate::run(args, settings()?),
        Command::CheckConfig(args) => check_config::run(args, settings()?),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Problem {
        #[error("cannot read a.csv: {source}")]
        AtTheEnd { source: io::Error },
        #[error("a.zip: {source}; fetch it again")]
        InTheMiddle { source: io::Error },
        #[error("the manifest will not do")]
        Silent { source: io::Error },
        #[error(transparent)]
        Transparent(#[from] Box<Problem>),
    }

    #[test]
    fn no_cause_is_said_twice() {
        let source = || io::Error::other("disk full");
        let check = |name, error: anyhow::Error, expected: &str| {
            assert_eq!(one_line(&error), expected, "{name}");
        };
        let at_the_end = || Problem::AtTheEnd { source: source() };
        check("alone", anyhow::anyhow!("no brands"), "no brands");
        check("at the end", at_the_end().into(), "cannot read a.csv: disk full");
        let middle = Problem::InTheMiddle { source: source() };
        check("in the middle", middle.into(), "a.zip: disk full; fetch it again");
        let silent = Problem::Silent { source: source() };
        check("not in the text", silent.into(), "the manifest will not do: disk full");
        let within = Problem::Transparent(Box::new(at_the_end()));
        check("transparent", within.into(), "cannot read a.csv: disk full");
        let context = anyhow::Error::from(at_the_end()).context("stopped after 3 of 5");
        check("in context", context, "stopped after 3 of 5: cannot read a.csv: disk full");
    }
}
