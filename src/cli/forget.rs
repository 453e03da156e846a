use super::output::print;
use super::with_store;
use monitor_config::Settings;

/// Delete the tweets of an author
///
/// Deletes them with their scores, and their texts in notifications, whether the author is stored in plain
/// or hashed (store.authors). Counts stay, so no share changes, and a tweet that comes again is not
/// stored again. Mails that were sent are out of reach.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The author, as the stream writes it; its case matters
    #[arg(long, value_name = "NAME")]
    author: String,
}

pub fn run(args: Args, settings: Settings) -> anyhow::Result<()> {
    let tweets = with_store(&settings, async |store| store.forget_author(&args.author).await)?;
    print(&format!("deleted {tweets} tweets of {:?}\n", args.author))
}
