//! Which minutes of a long or busy time are read, so that a sample of its tweets costs a bounded time.
//!
//! **Invariant.** The minutes are the same at every call and in every store: a hash of the minute decides, not
//! what happened in it. Deliberately absent: the choice among the tweets of those minutes, which the stores make by
//! the hash of the id.

use monitor_core::domain::Minute;
use sha2::{Digest, Sha256};

/// Tweets read for each one of the sample, at most, on average.
const READ_FACTOR: f64 = 10.0;
/// So many are always read.
const READ_MIN: f64 = 5000.0;

/// The minutes of `from..=to` to read for a sample of `limit` of about `tweets` tweets, ascending; `None` is all
/// of them. A sample of whole minutes: tweets of one minute are drawn together or not at all, each with the
/// same probability.
pub(crate) fn minutes_to_read(
    from: Minute,
    to: Minute,
    tweets: u64,
    limit: u32,
) -> Option<Vec<Minute>> {
    let fraction = (READ_FACTOR * f64::from(limit)).max(READ_MIN) / tweets as f64;
    // With less than one tweet a minute, picking minutes would take longer than reading all.
    if fraction >= 1.0 || tweets < (to.0 - from.0).unsigned_abs() {
        return None;
    }
    let threshold = (fraction * f64::from(u32::MAX)) as u32;
    let hash = |minute: &Minute| {
        let digest = Sha256::digest(minute.0.to_be_bytes());
        u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
    };
    Some((from.0..=to.0).map(Minute).filter(|minute| hash(minute) <= threshold).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_tweets_are_all_read() {
        assert_eq!(minutes_to_read(Minute(0), Minute(9), 40_000, 4000), None);
        assert_eq!(minutes_to_read(Minute(0), Minute(9), 0, 4000), None);
        assert_eq!(minutes_to_read(Minute(0), Minute(9), 5000, 1), None);
        assert_eq!(minutes_to_read(Minute(0), Minute(90_000), 80_000, 1), None);
    }

    #[test]
    fn of_many_tweets_a_share_of_the_minutes_is_read() {
        // 40,000 of 400,000 may be read.
        let (from, to) = (Minute(29_000_000), Minute(29_000_000 + 4319));
        let minutes = minutes_to_read(from, to, 400_000, 4000).expect("a part");
        assert!((380..=480).contains(&minutes.len()), "{}", minutes.len());
        assert!(minutes.is_sorted() && minutes.iter().all(|m| (from..=to).contains(m)));
        let again = minutes_to_read(Minute(from.0 + 1000), to, 400_000, 4000).expect("a part");
        assert!(again.iter().all(|minute| minutes.contains(minute)), "time decides nothing");
        let fewer = minutes_to_read(from, to, 4_000_000, 4000).expect("a part");
        assert!(fewer.iter().all(|minute| minutes.contains(minute)), "a part of the part");
    }
}
