//! The drivers of an incident: the terms that are typical of its negative tweets, example
//! tweets, and how much of the incident is one repeated tweet.
//!
//! Near-duplicates are grouped first ([`duplicates`]): a retweet, a text that differs only in
//! links, mentions and case, a text with a few words changed. Each group counts once for a term,
//! in the incident and in the baseline, so that a bot or a viral tweet alone does not become a
//! driver. [`Drivers::one_tweet`] reports such a tweet instead, [`Drivers::repeaters`] the accounts that post one.
//!
//! A term's weight is the weighted log-odds ratio with an informative Dirichlet prior
//! ([`terms`]), between the negative tweets of the incident and those of the baseline. The prior
//! comes from all tweets: general words of complaint get no weight, and if the baseline has few
//! negative tweets, its other tweets replace them.
//!
//! **Invariant.** Pure; the order of the input tweets does not matter. The work is linear in the
//! number of tweets, of which at most [`DriverLimits::tweets_max`] of the incident and as many of
//! the baseline are read. Deliberately absent: sampling, which is up to the caller; stop words of
//! other languages (a word that is equally common before and during the incident has no weight
//! anyway); emoji.

mod accounts;
mod duplicates;
mod stop_words;
mod terms;
mod themes;

use std::cmp::{Ordering, Reverse};

use chrono::{DateTime, Utc};

use crate::text::{Token, decode_entities, tokens};
use terms::Counted;
pub use themes::Theme;

/// Number of tokens read per tweet; a tweet of 280 characters has fewer than 100.
const TOKENS_MAX: usize = 120;

/// The fields of a stored tweet that drivers use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TweetView<'a> {
    /// The tweet's id.
    pub id: &'a str,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// Text as written.
    pub text: &'a str,
    /// Probability that it is negative, in 0..=1.
    pub negative: f32,
    /// Whether it counts as negative.
    pub is_negative: bool,
    /// Who wrote it, if known.
    pub author: Option<&'a str>,
    /// Number of its author's followers, if known.
    pub followers: Option<u64>,
    /// Number of its retweets when the stream sent it, if known.
    pub retweets: Option<u64>,
    /// Id of the tweet that it retweets, if any.
    pub retweet_of: Option<&'a str>,
}

impl TweetView<'_> {
    /// A lower bound of how many people could see it: the author's followers plus its retweets.
    /// `None` if both are unknown.
    fn reach(&self) -> Option<u64> {
        match (self.followers, self.retweets) {
            (None, None) => None,
            (followers, retweets) => {
                Some(followers.unwrap_or(0).saturating_add(retweets.unwrap_or(0)))
            }
        }
    }
}

/// Limits of the input and of the result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DriverLimits {
    /// Largest number of tweets read of the incident, and of the baseline; the latest ones.
    pub tweets_max: usize,
    /// Largest number of terms in the result.
    pub terms_max: usize,
    /// Largest number of examples in the result.
    pub examples_max: usize,
    /// Smallest number of the incident's distinct negative tweets that contain a term.
    pub tweets_min: u32,
    /// Smallest weight of a term, in standard errors.
    pub z_min: f64,
}

impl Default for DriverLimits {
    fn default() -> Self {
        // 1.64: by chance one term in twenty exceeds it (one-sided).
        Self { tweets_max: 5000, terms_max: 10, examples_max: 5, tweets_min: 3, z_min: 1.64 }
    }
}

/// The kind of a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TermKind {
    /// A single word.
    Word,
    /// Two or three words in a row, or up to four characters of a script without spaces.
    Phrase,
    /// A hashtag, with its `#`.
    Hashtag,
    /// A mention, with its `@`.
    Mention,
    /// A link without scheme and tracking parameters.
    Link,
}

impl TermKind {
    /// The kind's name in mails and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Word => "word",
            Self::Phrase => "phrase",
            Self::Hashtag => "hashtag",
            Self::Mention => "mention",
            Self::Link => "link",
        }
    }
}

/// A term that is typical of the incident.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    /// Normalized text: lower case (except a link's path), single spaces.
    pub text: String,
    /// The kind of term.
    pub kind: TermKind,
    /// Number of the incident's distinct negative tweets that contain it.
    pub incident: u32,
    /// Number of the baseline's distinct negative tweets that contain it.
    pub baseline: u32,
    /// Log-odds ratio in standard errors.
    pub z: f64,
}

/// A tweet that represents a group of near-duplicates.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Id of the group's tweet with the most reach.
    pub id: String,
    /// Its text.
    pub text: String,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// Its probability of being negative, in 0..=1.
    pub negative: f32,
    /// Who wrote it, if known.
    pub author: Option<String>,
    /// Number of its author's followers, if known.
    pub followers: Option<u64>,
    /// The largest number of retweets of any tweet in the group, if known.
    pub retweets: Option<u64>,
    /// Number of negative tweets in the group, including this one.
    pub tweets: u32,
    /// The group's reach: the followers of its authors, each author once, plus `retweets`. `None`
    /// if both are unknown.
    pub reach: Option<u64>,
    /// How typical it is, in 0..=1: the summed `z` of the terms that it contains, divided by the
    /// summed `z` of the heaviest [`DriverLimits::terms_max`] terms, even those below
    /// [`DriverLimits::z_min`].
    pub typicality: f64,
}

/// A repeated tweet.
#[derive(Debug, Clone, PartialEq)]
pub struct OneTweet {
    /// Share of it and its near-duplicates in the incident's negative tweets.
    pub share: f64,
    /// The tweet.
    pub example: Example,
}

/// The drivers of an incident.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Drivers {
    /// Number of the incident's negative tweets that were read.
    pub incident_tweets: u32,
    /// Number of distinct tweets among them; terms are counted in these.
    pub incident_distinct: u32,
    /// Number of the baseline's distinct negative tweets.
    pub baseline_distinct: u32,
    /// Followers of the authors of the incident's negative tweets, each author once; `None` if
    /// unknown.
    pub followers: Option<u64>,
    /// The terms, heaviest first; empty if no term is typical of the incident.
    pub terms: Vec<Term>,
    /// The example tweets, best first.
    pub examples: Vec<Example>,
    /// The most repeated tweet, if any tweet is repeated.
    pub one_tweet: Option<OneTweet>,
    /// What its groups of tweets are about, the largest first.
    pub themes: Vec<Theme>,
    /// The link that most negative tweets have, and how many have it; `None` if few share one.
    pub link: Option<(String, u32)>,
    /// Accounts that posted near-duplicates of one tweet many times, and how often; most first.
    pub repeaters: Vec<(String, u32)>,
}

/// The tweets of the incident or of the baseline in order of time, their tokens, and the groups
/// of near-duplicates.
struct Side<'a> {
    tweets: Vec<&'a TweetView<'a>>,
    tokens: Vec<Vec<Token>>,
    /// Positions in `tweets`, earliest first.
    groups: Vec<Vec<usize>>,
}

impl<'a> Side<'a> {
    fn new(tweets: impl Iterator<Item = &'a TweetView<'a>>, tweets_max: usize) -> Self {
        let mut tweets: Vec<_> = tweets.collect();
        tweets.sort_by_key(|tweet| (tweet.created_at, tweet.id));
        tweets.drain(..tweets.len().saturating_sub(tweets_max));
        let tokens: Vec<_> = tweets.iter().map(|tweet| tokens(tweet.text, TOKENS_MAX)).collect();
        let groups = duplicates::groups(&tweets, &tokens);
        Self { tweets, tokens, groups }
    }

    /// The tokens of each group's first tweet, and whether any tweet of the group is negative.
    fn distinct(&self) -> Vec<Counted<'_>> {
        let is_negative = |position: &usize| self.tweets[*position].is_negative;
        let counted = |group: &Vec<usize>| Counted {
            tokens: &self.tokens[group[0]],
            is_negative: group.iter().any(is_negative),
        };
        self.groups.iter().map(counted).collect()
    }

    /// Followers of the authors of these tweets, each author once. Tweets with an unknown author
    /// count as written by different authors.
    fn followers(&self, positions: &[usize]) -> Option<u64> {
        let mut followers: Vec<_> = positions
            .iter()
            .map(|position| self.tweets[*position])
            .filter_map(|tweet| Some((tweet.author.ok_or(tweet.id), tweet.followers?)))
            .collect();
        followers.sort_unstable_by_key(|(author, followers)| (*author, Reverse(*followers)));
        followers.dedup_by_key(|(author, _)| *author);
        followers.into_iter().map(|(_, followers)| followers).reduce(u64::saturating_add)
    }

    /// The tweet with the most reach in a group; the first one of several with equal reach.
    fn example(&self, group: &[usize], typicality: f64) -> Example {
        let tweets = || group.iter().map(|position| self.tweets[*position]);
        let shown = tweets()
            .max_by_key(|tweet| (tweet.reach(), Reverse((tweet.created_at, tweet.id))))
            .expect("a group has at least one tweet");
        let retweets = tweets().filter_map(|tweet| tweet.retweets).max();
        let reach = self.followers(group).into_iter().chain(retweets).reduce(u64::saturating_add);
        Example {
            id: shown.id.to_owned(),
            text: decode_entities(shown.text).into_owned(),
            created_at: shown.created_at,
            negative: shown.negative,
            author: shown.author.map(str::to_owned),
            followers: shown.followers,
            retweets,
            tweets: group.len() as u32,
            reach,
            typicality,
        }
    }
}

/// Finds the drivers of `incident`: how its negative tweets differ from `baseline`, the brand's
/// earlier tweets, negative or not. `own` are the brand's names, handles and hashtags, with or
/// without `@` and `#`; they are never reported as terms.
pub fn drivers(
    incident: &[TweetView<'_>],
    baseline: &[TweetView<'_>],
    own: &[String],
    limits: &DriverLimits,
) -> Drivers {
    let incident = Side::new(incident.iter().filter(|t| t.is_negative), limits.tweets_max);
    let baseline = Side::new(baseline.iter(), limits.tweets_max);
    let (distinct, before) = (incident.distinct(), baseline.distinct());
    let mut found = terms::distinctive(&distinct, &before, own, limits);
    let mut themes = themes::themes(&incident, &found, limits);
    found.truncate(limits.terms_max);

    let sum: f64 = found.iter().map(|found| found.term.z).sum();
    let mut terms_of: Vec<Vec<usize>> = vec![Vec::new(); distinct.len()];
    for (term, found) in found.iter().enumerate() {
        found.tweets.iter().for_each(|tweet| terms_of[*tweet as usize].push(term));
    }
    let weigh = |terms: &[usize]| terms.iter().map(|term| found[*term].term.z).sum::<f64>();
    let examples: Vec<Example> = incident
        .groups
        .iter()
        .zip(&terms_of)
        .map(|(group, terms)| {
            incident.example(group, if sum > 0.0 { weigh(terms) / sum } else { 0.0 })
        })
        .collect();
    let chosen = choose_examples(&examples, &terms_of, &found, &themes, limits.examples_max);
    for (theme, example) in themes.iter_mut().zip(&chosen) {
        theme.tweet_id.clone_from(&example.id);
    }
    let one_tweet = examples
        .iter()
        .filter(|example| example.tweets > 1)
        .max_by_key(|example| (example.tweets, example.reach, Reverse(&example.id)))
        .map(|example| OneTweet {
            share: f64::from(example.tweets) / incident.tweets.len() as f64,
            example: example.clone(),
        });
    Drivers {
        incident_tweets: incident.tweets.len() as u32,
        incident_distinct: distinct.len() as u32,
        baseline_distinct: before.iter().filter(|counted| counted.is_negative).count() as u32,
        followers: incident.followers(&(0..incident.tweets.len()).collect::<Vec<_>>()),
        examples: chosen,
        terms: found
            .into_iter()
            .map(|found| found.term)
            .filter(|term| term.z >= limits.z_min)
            .collect(),
        one_tweet,
        themes,
        link: accounts::shared_link(&incident, limits),
        repeaters: accounts::repeaters(&incident),
    }
}

/// Chooses the examples one by one, first one of each theme, by the sum of typicality, spread and certainty, all in 0..1.
/// Typicality is the summed `z` of a tweet's terms, divided by the largest such sum. Spread is the
/// logarithm of reach plus tweets, divided by its largest value (at least `ln 1000`). Certainty is 0
/// for a tweet whose probability of being negative is one half or less: people are to read tweets
/// that are surely negative. The weight
/// of a term is halved for each chosen example that contains it, so that examples differ.
fn choose_examples(
    examples: &[Example],
    terms_of: &[Vec<usize>],
    found: &[terms::Found],
    themes: &[Theme],
    examples_max: usize,
) -> Vec<Example> {
    let mut weights: Vec<f64> = found.iter().map(|found| found.term.z).collect();
    let weigh = |weights: &[f64], at: usize| terms_of[at].iter().map(|t| weights[*t]).sum::<f64>();
    let spread = |example: &Example| {
        (example.reach.unwrap_or(0).saturating_add(u64::from(example.tweets)) as f64).ln()
    };
    let largest = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::MIN_POSITIVE, f64::max);
    let typicality_max = largest(&mut (0..examples.len()).map(|at| weigh(&weights, at)));
    let spread_max = largest(&mut examples.iter().map(spread)).max(1000_f64.ln());
    let mut left: Vec<usize> = (0..examples.len()).collect();
    let mut chosen = Vec::new();
    while chosen.len() < examples_max {
        let certainty = |example: &Example| f64::from((2.0 * example.negative - 1.0).max(0.0));
        let score = |at: usize| {
            let example = &examples[at];
            weigh(&weights, at) / typicality_max + spread(example) / spread_max + certainty(example)
        };
        let order = |a: usize, b: usize| -> Ordering {
            (score(a).total_cmp(&score(b)))
                .then_with(|| examples[a].negative.total_cmp(&examples[b].negative))
                .then_with(|| b.cmp(&a))
        };
        let theme = themes.get(chosen.len());
        let eligible =
            |at: &usize| theme.is_none_or(|theme| theme.groups.binary_search(&left[*at]).is_ok());
        let best = (0..left.len()).filter(eligible).max_by(|a, b| order(left[*a], left[*b]));
        let Some(best) = best else { break };
        let best = left.swap_remove(best);
        terms_of[best].iter().for_each(|term| weights[*term] /= 2.0);
        chosen.push(examples[best].clone());
    }
    chosen
}

#[cfg(test)]
mod tests;
