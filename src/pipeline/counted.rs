//! Counts the tweets of each brand, model and language in `monitor_tweets_total`.
//!
//! **Invariant.** Whatever senders write into their tweets and however often the model is switched, a process has at
//! most [`JUDGED_MAX`] and [`NOT_JUDGED_MAX`] series, and two more of each brand. Each tweet is counted.
//! Deliberately absent: which tweets are new (`monitor_store`).

use std::collections::BTreeSet;

use metrics::counter;

use monitor_store::NewTweets;
use monitor_telemetry as telemetry;

/// Series of tweets that have a score, at most.
const JUDGED_MAX: usize = 5000;
/// Series of tweets without a score, at most. They cannot use up those of the others.
const NOT_JUDGED_MAX: usize = 1000;

/// The model of tweets without a score.
const NO_MODEL: &str = "none";
/// The language of tweets that do not say theirs, and in which none was found.
const UNKNOWN: &str = "unknown";
/// A language that is not common, and what a series beyond the limits is of.
const OTHER: &str = "other";

/// Brand, model and language.
type Labels = [String; 3];

/// The series that there are.
#[derive(Debug, Default)]
pub(super) struct TweetCounts {
    judged: BTreeSet<Labels>,
    not_judged: BTreeSet<Labels>,
}

impl TweetCounts {
    /// Counts what a transaction has stored.
    pub fn add(&mut self, new: &[NewTweets]) {
        for tweets in new {
            let [brand, model, language] = self.labels(tweets);
            counter!(telemetry::TWEETS, "brand" => brand, "model" => model, "language" => language)
                .increment(tweets.tweets);
        }
    }

    fn labels(&mut self, tweets: &NewTweets) -> Labels {
        let language = match &tweets.language {
            None => UNKNOWN,
            Some(language) if language.is_common() => language.as_str(),
            Some(_) => OTHER,
        };
        let (seen, max, model, other) = match &tweets.model {
            Some(model) => (&mut self.judged, JUDGED_MAX, model.as_str(), OTHER),
            None => (&mut self.not_judged, NOT_JUDGED_MAX, NO_MODEL, NO_MODEL),
        };
        let of = |model: &str, language: &str| {
            [tweets.brand.as_str(), model, language].map(str::to_owned)
        };
        for (labels, max) in [(of(model, language), max / 2), (of(model, OTHER), max)] {
            if seen.contains(&labels) || seen.len() < max {
                seen.insert(labels.clone());
                return labels;
            }
        }
        of(other, OTHER)
    }
}

#[cfg(test)]
mod tests {
    use monitor_core::domain::Language;

    use super::*;

    fn new(brand: &str, model: Option<&str>, language: Option<&str>) -> NewTweets {
        NewTweets {
            brand: brand.into(),
            model: model.map(str::to_owned),
            language: language.map(|code| code.parse().unwrap()),
            tweets: 1,
        }
    }

    #[test]
    fn names_brand_model_and_language() {
        let check = |tweets: NewTweets, expected: [&str; 3]| {
            assert_eq!(TweetCounts::default().labels(&tweets), expected);
        };
        check(new("acme", Some("lstm@2"), Some("en")), ["acme", "lstm@2", "en"]);
        check(new("acme", Some("lstm@2"), None), ["acme", "lstm@2", "unknown"]);
        check(new("acme", None, Some("fr")), ["acme", "none", "fr"]);
        check(new("acme", None, Some("zzz")), ["acme", "none", "other"]);
    }

    /// All codes of two letters.
    fn codes() -> impl Iterator<Item = String> + Clone {
        let letters = || 'a'..='z';
        letters().flat_map(move |a| letters().map(move |b| format!("{a}{b}")))
    }

    #[test]
    fn made_up_languages_are_one() {
        let mut counts = TweetCounts::default();
        let threes = codes().flat_map(|two| ('a'..='z').map(move |c| format!("{two}{c}")));
        let codes = codes().chain(threes).filter(|code| code.parse::<Language>().is_ok());
        let told: BTreeSet<_> =
            codes.map(|code| counts.labels(&new("acme", Some("lstm@2"), Some(&code)))).collect();
        assert!((50..100).contains(&told.len()), "{}", told.len());
        assert!(told.contains(&["acme", "lstm@2", "other"].map(str::to_owned)));
    }

    #[test]
    fn series_have_a_limit() {
        let mut counts = TweetCounts::default();
        let first = counts.labels(&new("acme", None, Some("fr")));
        let mut told = BTreeSet::new();
        for brand in 0..2 * NOT_JUDGED_MAX {
            let brand = format!("brand {brand}");
            told.extend(codes().map(|code| counts.labels(&new(&brand, None, Some(&code)))));
        }
        assert_eq!(counts.not_judged.len(), NOT_JUDGED_MAX);
        assert!(told.len() < 3 * NOT_JUDGED_MAX, "{}", told.len());
        let last = format!("brand {}", 2 * NOT_JUDGED_MAX - 1);
        assert!(told.contains(&[&last, "none", "other"].map(str::to_owned)), "all are counted");
        assert_eq!(counts.labels(&new("acme", None, Some("fr"))), first, "a series goes on");
        assert_eq!(counts.labels(&new("acme", None, Some("de"))), ["acme", "none", "other"]);
        let judged = counts.labels(&new("acme", Some("lstm@2"), Some("en")));
        assert_eq!(judged, ["acme", "lstm@2", "en"], "tweets with a score are not affected");
    }

    #[test]
    fn models_have_a_limit() {
        let mut counts = TweetCounts::default();
        let models = (0..2 * JUDGED_MAX).map(|n| format!("lstm@{n}"));
        let told: BTreeSet<_> =
            models.map(|model| counts.labels(&new("acme", Some(&model), Some("en")))).collect();
        assert_eq!(told.len(), JUDGED_MAX + 1);
        assert!(told.contains(&["acme", "other", "other"].map(str::to_owned)));
    }
}
