use crate::config::Settings;

/// Check the settings and print what is wrong with them
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args, _settings: Settings) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
