use crate::config::Settings;

/// Train a model from sentiment140 and register it
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args, _settings: Settings) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
