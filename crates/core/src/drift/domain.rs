//! A classifier that tells the tweets of a period from others by their words.
//!
//! Naive Bayes on whether a word occurs, with one tweet added to each count: it has nothing to tune and
//! does as well as logistic regression on texts this short (Wang and Manning, "Baselines and bigrams",
//! ACL 2012). Words are hashed.
//!
//! **Invariant.** A tweet is judged by counts without it and without its copies.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::{CHANGES_MAX, Change, Observed, Values};

/// Parts of the cross-validation.
pub(super) const FOLDS: usize = 5;
/// A word is named if at least this share of the recent tweets has it.
const NAMED_SHARE_MIN: f64 = 0.01;

/// Tweets that have a word, by side and fold.
type Counts = [[u32; FOLDS]; 2];

/// Areas under the ROC curve, of each period of the reference against as many tweets of the others,
/// and of the recent one against as many of the reference.
pub(super) fn areas(reference: &[(usize, Vec<&Observed>)], recent: &[&Observed]) -> Values {
    let of = |own: usize| {
        let (_, tweets) = &reference[own];
        let others = reference.iter().enumerate().filter(|(place, _)| *place != own);
        area(tweets, &in_turn(others.map(|(_, (_, tweets))| &tweets[..]), tweets.len()))
    };
    let values = (0..reference.len()).map(of).collect();
    let all = in_turn(reference.iter().map(|(_, tweets)| &tweets[..]), recent.len());
    (values, area(recent, &all))
}

/// `count` tweets, one of each period in turn.
fn in_turn<'a, 'b: 'a>(
    periods: impl Iterator<Item = &'a [&'b Observed]>,
    count: usize,
) -> Vec<&'b Observed> {
    let periods: Vec<_> = periods.collect();
    let longest = periods.iter().map(|period| period.len()).max().unwrap_or(0);
    let places = (0..longest).flat_map(|place| periods.iter().map(move |it| it.get(place)));
    places.flatten().copied().take(count).collect()
}

/// How well the words tell the two sides apart, cross-validated: 0.5 is not at all, 1 is always.
fn area(side: &[&Observed], other: &[&Observed]) -> f64 {
    let mut words: FxHashMap<u32, Counts> = FxHashMap::default();
    let mut tweets = Counts::default();
    for (at, sample) in [side, other].into_iter().enumerate() {
        for tweet in sample {
            tweets[at][tweet.fold] += 1;
            for id in &tweet.features {
                words.entry(*id).or_default()[at][tweet.fold] += 1;
            }
        }
    }
    let score = |tweet: &Observed| -> f64 {
        let without =
            |counts: &[u32; FOLDS]| f64::from(counts.iter().sum::<u32>() - counts[tweet.fold]);
        let odds = |counts: &Counts| {
            let found = [without(&counts[0]), without(&counts[1])];
            let share = |at: usize| (found[at] + 1.0) / (without(&tweets[at]) + 2.0);
            // A word that no other tweet has says nothing.
            if found == [0.0; 2] { 0.0 } else { (share(0) / share(1)).ln() }
        };
        tweet.features.iter().filter_map(|id| words.get(id)).map(odds).sum()
    };
    let mut scores: Vec<(f64, bool)> = side.iter().map(|tweet| (score(tweet), true)).collect();
    scores.extend(other.iter().map(|tweet| (score(tweet), false)));
    area_of(scores)
}

/// Area under the ROC curve: the probability that a `true` has the higher score; ties count half.
fn area_of(mut scores: Vec<(f64, bool)>) -> f64 {
    scores.sort_by(|a, b| a.0.total_cmp(&b.0));
    let positives = scores.iter().filter(|(_, positive)| *positive).count() as f64;
    let negatives = scores.len() as f64 - positives;
    let (mut below, mut won) = (0.0, 0.0);
    for tie in scores.chunk_by(|a, b| a.0 == b.0) {
        let of_tie = tie.iter().filter(|(_, positive)| *positive).count() as f64;
        let others = tie.len() as f64 - of_tie;
        won += of_tie * (below + others / 2.0);
        below += others;
    }
    if positives * negatives > 0.0 { won / (positives * negatives) } else { 0.5 }
}

/// The words that tell recent tweets from those of the reference best: by how much more frequent they
/// are, times their log-odds.
pub(super) fn telling_words(reference: &[&Observed], recent: &[&Observed]) -> Vec<Change> {
    let mut before: FxHashMap<u32, usize> = FxHashMap::default();
    for tweet in reference {
        tweet.features.iter().for_each(|id| *before.entry(*id).or_default() += 1);
    }
    let mut words: BTreeMap<String, (u32, usize)> = BTreeMap::new();
    for tweet in recent {
        for (word, id) in tweet.words_and_ids() {
            words.entry(word).or_insert((id, 0)).1 += 1;
        }
    }
    let share = |count: usize, tweets: &[&Observed]| count as f64 / tweets.len().max(1) as f64;
    let weight = |change: &Change| {
        let (now, before) = (change.now, change.before.max(0.5 / reference.len().max(1) as f64));
        (now - before) * (now / before).ln()
    };
    let mut found: Vec<Change> = (words.into_iter())
        .map(|(what, (id, count))| {
            let before = share(before.get(&id).copied().unwrap_or(0), reference);
            Change { what, before, now: share(count, recent) }
        })
        .filter(|change| change.now >= NAMED_SHARE_MIN && change.now > change.before)
        .collect();
    found.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
    found.truncate(CHANGES_MAX);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_of_scores() {
        let check = |name, scores: &[(f64, bool)], expected: f64| {
            assert!((area_of(scores.to_vec()) - expected).abs() < 1e-12, "{name}");
        };
        check("in order", &[(2.0, true), (1.0, false)], 1.0);
        check("the other way round", &[(1.0, true), (2.0, false)], 0.0);
        check("a tie", &[(1.0, true), (1.0, false)], 0.5);
        check("three of four", &[(3.0, true), (1.0, true), (2.0, false), (0.0, false)], 0.75);
        check("one side only", &[(3.0, true)], 0.5);
    }

    #[test]
    fn a_tweet_and_its_copies_do_not_judge_themselves() {
        let tweets = |texts: &[String]| -> Vec<Observed> {
            texts.iter().map(|text| Observed::new(text.clone(), None)).collect()
        };
        // Each tweet has words of its own: nothing can be learned from the others.
        let side: Vec<String> = (0..50).map(|n| format!("a{n} b{n}")).collect();
        let other: Vec<String> = (0..50).map(|n| format!("c{n} d{n}")).collect();
        let copies = tweets(&[side.clone(), side].concat());
        let other = tweets(&other);
        let (copies, other): (Vec<_>, Vec<_>) = (copies.iter().collect(), other.iter().collect());
        assert!((area(&copies, &other) - 0.5).abs() < 1e-9);
        let side = tweets(&(0..50).map(|n| format!("strike a{n}")).collect::<Vec<_>>());
        let side: Vec<_> = side.iter().collect();
        assert!(area(&side, &other) > 0.99);
        let words = telling_words(&other, &side);
        assert_eq!((words[0].what.as_str(), words[0].before, words[0].now), ("strike", 0.0, 1.0));
    }
}
