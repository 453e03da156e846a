/// Run everything embedded on a week of real airline tweets
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args, _overrides: Vec<(String, String)>) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
