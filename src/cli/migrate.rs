use monitor_config::Settings;
use monitor_store::PostgresStore;

/// Bring the database schema up to date
///
/// `monitor run` does this itself at start; this is for those who do it ahead, with
/// another user. Migrations are only ever added, and applying them twice changes nothing.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args, settings: Settings) -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        PostgresStore::connect(&settings.store)?.migrate().await?;
        println!("the schema is up to date");
        Ok(())
    })
}
