use monitor_config::Settings;
use monitor_store::PostgresStore;

/// Bring the database schema up to date
///
/// `monitor run` does this at start; use this command to do it earlier or with another database
/// user. Migrations are only added, never changed; applying them twice has no effect.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args, settings: Settings) -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        PostgresStore::connect(&settings.store)?.migrate().await?;
        println!("the schema is up to date");
        Ok(())
    })
}
