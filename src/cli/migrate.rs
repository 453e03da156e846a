use std::time::Duration;

use monitor_config::Settings;
use monitor_store::{PostgresStore, StoreError};

/// Bring the database schema up to date
///
/// `monitor run` does this at start; use this command to do it earlier or with another database
/// user. Migrations are only added, never changed; applying them twice has no effect. Long steps say
/// how far they are. If Postgres restarts meanwhile, the command waits for it; if it is interrupted,
/// the next call goes on where it was.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also let this database role read the views; it is created if there is none
    ///
    /// For dashboards and analysts: it may also read the tables of incidents, models and minute counts, and no more. See docs/sql.md. A new role may log in and has no password yet.
    #[arg(long, value_name = "NAME")]
    reader: Option<String>,
}

/// Wait between two attempts.
const RETRY_WAIT: Duration = Duration::from_secs(2);

pub fn run(args: Args, settings: Settings) -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let store = PostgresStore::connect(&settings.store)?;
        migrate(&store).await?;
        println!("the schema is up to date");
        if let Some(reader) = &args.reader {
            let is_new = store.grant_reader(reader).await?;
            println!("the role {reader} may read the views");
            if is_new {
                println!("it is new: set its password with \\password {reader} in psql");
            }
        }
        Ok(())
    })
}

/// Waits for a Postgres that was there at first and went away.
async fn migrate(store: &PostgresStore) -> Result<(), StoreError> {
    store.reach().await?;
    loop {
        match store.migrate_telling(&|line| println!("{line}")).await {
            Err(error) if error.is_transient() => {
                eprintln!("{error}; trying again, nothing is lost");
                tokio::time::sleep(RETRY_WAIT).await;
            }
            outcome => return outcome,
        }
    }
}
