use crate::config::Settings;

/// Read tweets from Kafka, score and store them, and alert; until SIGTERM
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args, _settings: Settings) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
