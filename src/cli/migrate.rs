use crate::config::Settings;

/// Bring the database schema up to date
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args, _settings: Settings) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
