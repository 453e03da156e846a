//! A random sample of the tweets of a period, for comparisons over time.

use monitor_core::domain::{Language, Minute};
use monitor_core::text::unit_interval;

use crate::{Store, StoreError};

/// Rows that are read for each tweet that is drawn, about, unless they are less than [`MINUTES_MIN`].
const READ_PER_TWEET_MAX: u64 = 20;
/// Of a period with many tweets, at least this many minutes are read.
const MINUTES_MIN: usize = 60;
/// Decides which minutes are read.
const SEED: u64 = 140;

/// A tweet that was drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct DrawnTweet {
    /// Its text.
    pub text: String,
    /// Its language, if known.
    pub language: Option<Language>,
    /// Probability of negative; `None` if it was not judged.
    pub negative: Option<f32>,
    /// `name@version` of the model that gave the score.
    pub model: Option<String>,
}

/// At most `tweets` tweets of the minutes `from..to` about `brand`, or about any brand: a random sample
/// in random order, the same at every call.
///
/// Each tweet is as likely to be drawn as any other. If there are many, only minutes chosen at random
/// are read.
///
/// # Errors
/// [`StoreError`] of the store.
pub async fn draw(
    store: &dyn Store,
    brand: Option<&str>,
    from: Minute,
    to: Minute,
    tweets: u32,
) -> Result<Vec<DrawnTweet>, StoreError> {
    let counts = store.hour_counts(brand, from, to.plus(-1)).await?;
    let stored: u64 = counts.iter().map(|(_, counts)| counts.total).sum();
    store.random_tweets(brand, &minutes(from, to, stored, tweets), tweets).await
}

/// The minutes to read of a period with about `stored` tweets.
fn minutes(from: Minute, to: Minute, stored: u64, tweets: u32) -> Vec<Minute> {
    let mut all: Vec<Minute> = (from.0..to.0).map(Minute).collect();
    let read_max = READ_PER_TWEET_MAX * u64::from(tweets);
    if stored > read_max {
        let count = all.len() as f64 * read_max as f64 / stored as f64;
        let place = |minute: &Minute| (unit_interval(SEED, &minute.0.to_string()) * 1e15) as u64;
        all.sort_by_cached_key(place);
        all.truncate((count.ceil() as usize).max(MINUTES_MIN));
        all.sort_unstable();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minutes_read_depend_on_the_volume() {
        let check = |name, stored: u64, expected: usize| {
            let found = minutes(Minute(0), Minute(1440), stored, 1000);
            assert_eq!(found.len(), expected, "{name}");
            assert!(
                found.is_sorted() && found.iter().all(|it| (0..1440).contains(&it.0)),
                "{name}"
            );
        };
        check("few", 5_000, 1440);
        check("as many as are read", 20_000, 1440);
        check("ten times as many", 200_000, 144);
        check("endless", 1_000_000_000, MINUTES_MIN);
        let spread = minutes(Minute(0), Minute(1440), 200_000, 1000);
        let in_the_morning = spread.iter().filter(|minute| minute.0 < 720).count();
        assert!((50..=94).contains(&in_the_morning), "of 144: {in_the_morning}");
    }
}
