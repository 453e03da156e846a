use crate::config::Settings;

/// Send a file of tweets to Kafka at a chosen speed
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args, _settings: Settings) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
