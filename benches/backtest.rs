//! How long a backtest of 90 days takes for a brand with 100 tweets a minute, from Postgres.
//!
//! `scripts/bench backtest [--json FILE]`

mod common;

use std::process::Command;

use clap::Parser;
use common::{Output, Report};
use serde_json::json;

use monitor_config::Settings;
use monitor_core::clock::{Clock, SystemClock};
use monitor_embedded::{Postgres, PostgresOptions};
use monitor_store::PostgresStore;

/// 90 days of made-up counts; on three days of each month, two hours are negative.
const COUNTS: &str = "INSERT INTO minute_counts (brand, minute, model, total, negative)
    SELECT 'United', minute, 'made@1', total, round(total * greatest(0, least(1, share + noise)))
    FROM (SELECT minute, 60 + (random() * 80)::int AS total, (random() - 0.5) * 0.15 AS noise,
                 CASE WHEN extract(day FROM minute) IN (9, 17, 25)
                      AND extract(hour FROM minute) IN (9, 10) THEN 0.4 ELSE 0.2 END AS share
          FROM generate_series('2026-01-01'::timestamptz, '2026-03-31 23:59Z', '1 minute')
               AS minute) AS made";

/// Times a backtest of 90 days of a brand with 100 tweets a minute, from Postgres
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    output: Output,
    /// Passed by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let options = PostgresOptions { durable: false, dir: None };
    let postgres = tokio::task::spawn_blocking(move || Postgres::start_with(&options)).await??;
    let url = postgres.create_database("monitor").await?;
    let mut settings = Settings::default();
    settings.store.url.clone_from(&url);
    let store = PostgresStore::connect(&settings.store)?;
    store.migrate().await?;
    sqlx::raw_sql(COUNTS).execute(store.pool()).await?;

    let clock = SystemClock::new();
    let output = Command::new(env!("CARGO_BIN_EXE_monitor"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["backtest", "--config", "tests/fixtures/airlines.toml", "--brand", "United"])
        .args(["--set", &format!("store.url={url}")])
        .output()?;
    let seconds = clock.elapsed().as_secs_f64();
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    println!("{}\n{seconds:.2} s", String::from_utf8_lossy(&output.stdout));
    let mut report = Report::new("backtest", json!({ "days": 90, "tweets_per_minute": 100 }));
    report.value("seconds", seconds.into());
    report.write(&args.output)
}
