//! By how much a brand's share would jump if another model scored its tweets.

use std::fmt::Write as _;

use monitor_core::domain::Interval;
use monitor_core::stats::paired_difference;
use monitor_store::Pairs;

/// The expected jump of one brand.
#[derive(Debug, Clone, PartialEq)]
pub struct Jump {
    /// The brand.
    pub brand: String,
    /// The tweets that both models have scored.
    pub tweets: u64,
    /// Share of negative tweets by the model in force, in 0..=1.
    pub old: f64,
    /// The same by the new model.
    pub new: f64,
    /// 95 % interval of `new - old`.
    pub interval: Interval,
}

impl Jump {
    /// The difference of the shares, in -1..=1.
    pub fn size(&self) -> f64 {
        self.new - self.old
    }

    /// Whether it is larger than `jump_max`, up or down, on at least `tweets_min` tweets.
    pub fn is_above(&self, jump_max: f64, tweets_min: u64) -> bool {
        self.tweets >= tweets_min && self.size().abs() > jump_max
    }
}

/// The jump of each brand that has tweets.
pub fn jumps(pairs: Vec<(String, Pairs)>) -> Vec<Jump> {
    let jump = |(brand, Pairs { total, negative, gained, lost, .. }): (String, Pairs)| {
        let (difference, interval) = paired_difference(total, gained, lost);
        let new = negative as f64 / total as f64;
        Jump { brand, tweets: total, old: new - difference, new, interval }
    };
    pairs.into_iter().filter(|(_, pairs)| pairs.total > 0).map(jump).collect()
}

/// The jumps as a table for people, in percent and points.
pub fn table(jumps: &[Jump]) -> String {
    let width = jumps.iter().map(|jump| jump.brand.chars().count()).max().unwrap_or(0).max(5);
    let mut out = format!(
        "{:width$}  {:>9}  {:>7}  {:>7}  {:>11}  95 % interval\n",
        "brand", "tweets", "old", "new", "jump"
    );
    for jump in jumps {
        writeln!(
            out,
            "{:width$}  {:>9}  {:>5.1} %  {:>5.1} %  {:>+4.1} points  {:+.1} to {:+.1}",
            jump.brand,
            jump.tweets,
            100.0 * jump.old,
            100.0 * jump.new,
            100.0 * jump.size(),
            100.0 * jump.interval.low,
            100.0 * jump.interval.high,
        )
        .expect("writing to a string cannot fail");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_the_difference_on_the_same_tweets() {
        let pairs = Pairs { total: 1000, negative: 300, gained: 80, lost: 20, not_judged: 7 };
        let found = jumps(vec![("Acme".into(), pairs), ("None".into(), Pairs::default())]);
        let [jump] = &found[..] else { panic!("{found:?}") };
        assert!((jump.old - 0.24).abs() < 1e-9 && (jump.size() - 0.06).abs() < 1e-9, "{jump:?}");
        assert!(jump.interval.low > 0.03 && jump.interval.high < 0.09, "{jump:?}");
        assert!(jump.is_above(0.05, 1000) && !jump.is_above(0.07, 1000));
        assert!(!jump.is_above(0.05, 1001), "too few tweets to be sure of");
        let text = table(&found);
        assert!(text.contains("Acme        1000   24.0 %   30.0 %  +6.0 points"), "{text}");
    }
}
