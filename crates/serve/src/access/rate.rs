//! Token buckets by address: how many requests, and how many wrong tokens, one may send.
//!
//! **Invariant.** At most [`ADDRESSES_MAX`] addresses are remembered; full buckets are forgotten
//! first. Times are those of a [`Clock`](monitor_core::clock::Clock), so tests need no waiting.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Addresses remembered, at most.
const ADDRESSES_MAX: usize = 10_000;

/// How fast a bucket fills, and how much it holds.
#[derive(Debug, Clone, Copy)]
struct Limit {
    per_s: f64,
    burst: f64,
}

/// A page that opens sends some twenty requests.
const REQUESTS: Limit = Limit { per_s: 50.0, burst: 300.0 };
/// Nobody mistypes a token more often.
const FAILURES: Limit = Limit { per_s: 0.1, burst: 10.0 };

/// What is left in a bucket, and when that was so.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Duration,
}

type Buckets = Mutex<HashMap<IpAddr, Bucket>>;

/// The buckets of all addresses.
#[derive(Debug, Default)]
pub struct Rates {
    requests: Buckets,
    failures: Buckets,
}

impl Rates {
    /// Counts a request at `now`; an error says how long to wait.
    pub fn request(&self, from: IpAddr, now: Duration) -> Result<(), Duration> {
        take(&self.requests, REQUESTS, from, now)
    }

    /// Counts a wrong token at `now`; an error says how long to wait.
    pub fn failure(&self, from: IpAddr, now: Duration) -> Result<(), Duration> {
        take(&self.failures, FAILURES, from, now)
    }
}

fn take(buckets: &Buckets, limit: Limit, from: IpAddr, now: Duration) -> Result<(), Duration> {
    // A panic while the lock was held left at worst a wrong count.
    let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
    let filled = |bucket: Bucket| {
        let passed = now.saturating_sub(bucket.at).as_secs_f64();
        (bucket.left + passed * limit.per_s).min(limit.burst)
    };
    if buckets.len() >= ADDRESSES_MAX && !buckets.contains_key(&from) {
        buckets.retain(|_, bucket| filled(*bucket) < limit.burst);
        if buckets.len() >= ADDRESSES_MAX {
            buckets.clear();
        }
    }
    let left = buckets.get(&from).map_or(limit.burst, |bucket| filled(*bucket));
    if left < 1.0 {
        return Err(Duration::from_secs_f64((1.0 - left) / limit.per_s));
    }
    buckets.insert(from, Bucket { left: left - 1.0, at: now });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_waits_when_its_bucket_is_empty() {
        let (rates, now) = (Rates::default(), Duration::from_secs(5));
        let [one, other] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        for _ in 0..300 {
            rates.request(one, now).expect("within the burst");
        }
        let wait = rates.request(one, now).expect_err("the bucket is empty");
        assert!(wait <= Duration::from_millis(20) && !wait.is_zero(), "{wait:?}");
        rates.request(other, now).expect("another address has its own bucket");
        rates.request(one, now + wait).expect("after the wait");
        rates.request(one, now + wait).expect_err("but only one");
    }

    #[test]
    fn remembers_a_limited_number_of_addresses() {
        let rates = Rates::default();
        for n in 0..2 * ADDRESSES_MAX as u32 {
            rates.request(IpAddr::from(n.to_be_bytes()), Duration::ZERO).expect("the first");
        }
        let kept = rates.requests.lock().expect("not poisoned").len();
        assert!(kept <= ADDRESSES_MAX, "{kept}");
    }
}
