use crate::config::Settings;

/// Score a text, or each line of standard input
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args, _settings: Settings) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
