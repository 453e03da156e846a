use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use clap::builder::PossibleValuesParser;

use super::output::is_parquet;
use super::times::time;
use super::{known_brands, require_brand, with_store};
use crate::parquet::ParquetWriter;
use monitor_config::Settings;
use monitor_core::clock::{Clock, SystemClock};
use monitor_store::Rows;

/// Write stored tweets, shares or incidents as CSV or Parquet
///
/// Rows are those of the table or view of the same name (docs/sql.md), ordered by time. With --brand,
/// tweets are those of brand_tweets. Times are event times in UTC.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to write
    #[arg(value_parser = PossibleValuesParser::new(Rows::KINDS.map(|(kind, _)| kind)), value_name = "WHAT")]
    what: String,

    /// Start: RFC 3339, or "2026-01-05 21:00" in UTC
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: DateTime<Utc>,

    /// End, exclusive [default: now]
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<DateTime<Utc>>,

    /// Only this brand
    #[arg(long)]
    brand: Option<String>,

    /// The file to write, as Parquet if its name ends so, else as CSV [default: CSV to standard output]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub fn run(args: Args, settings: Settings) -> anyhow::Result<()> {
    if let Some(brand) = &args.brand {
        require_brand(brand, &known_brands(&settings))?;
    }
    let to = args.to.unwrap_or_else(|| SystemClock::new().now());
    ensure!(args.from < to, "--from {} is not before --to {to}", args.from);
    let (kind, _) = Rows::KINDS
        .into_iter()
        .find(|(kind, _)| *kind == args.what)
        .expect("clap accepts only these words");
    let rows = Rows { kind, from: args.from, to, brand: args.brand };
    if let Some(file) = args.out.as_deref().filter(|file| is_parquet(file)) {
        let mut table = ParquetWriter::new(create(file)?);
        let count =
            with_store(&settings, async |store| store.export_typed(&rows, &mut table).await)?;
        table.finish().with_context(|| format!("cannot write {}", file.display()))?;
        eprintln!("wrote {} ({count} rows)", file.display());
        return Ok(());
    }
    let mut out: Box<dyn Write + Send> = match &args.out {
        Some(file) => Box::new(create(file)?),
        None => Box::new(io::stdout()),
    };
    let mut out = BufWriter::new(&mut *out);
    let bytes = with_store(&settings, async |store| store.export(&rows, &mut out).await)?;
    if let Some(file) = &args.out {
        eprintln!("wrote {} ({:.1} MB)", file.display(), bytes as f64 / 1e6);
    }
    Ok(())
}

fn create(file: &Path) -> anyhow::Result<File> {
    File::create(file).with_context(|| format!("cannot write {}", file.display()))
}
