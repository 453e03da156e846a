use std::path::PathBuf;

use super::evaluate_provider::{self, ProviderArgs};

/// Measure a service
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Labelled tweets
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    provider: ProviderArgs,
}

/// Asks and reports.
pub fn run(args: &Args) -> anyhow::Result<()> {
    anyhow::ensure!(args.provider.provider.is_some(), "give --provider");
    evaluate_provider::run(&args.provider, args.data.as_deref(), args.json)
}
