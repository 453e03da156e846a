//! What an incident is about: the terms that mark its negative tweets off, example tweets,
//! and how much of it is one tweet repeated.
//!
//! Near-duplicates are grouped first ([`duplicates`]): a retweet, a text that differs only
//! in links, mentions and case, a text with few words changed. A group counts once towards
//! a term, on either side, so that neither a bot nor a tweet that went round makes a driver
//! by itself; [`Drivers::one_tweet`] tells of that instead.
//!
//! A term's weight is the weighted log-odds ratio with an informative Dirichlet prior
//! ([`terms`]), from the incident's negative tweets to the baseline's negative ones, with all
//! tweets as prior: words of complaint in general are no news, and where the baseline has
//! few negative tweets the others stand in for them.
//!
//! **Invariant.** Pure, and the order in which tweets come does not matter. Work is linear
//! in the number of tweets, of which at most [`DriverLimits::tweets_max`] a side are read.
//! Deliberately absent: sampling, which is the caller's; other languages' stop words (a
//! word that is as common before as during the incident weighs nothing anyway); emoji.

mod duplicates;
mod stop_words;
mod terms;

use std::cmp::{Ordering, Reverse};

use chrono::{DateTime, Utc};

use crate::text::{Token, decode_entities, tokens};
use terms::Counted;

/// Tokens read of a tweet; one of 280 characters has fewer than 100.
const TOKENS_MAX: usize = 120;

/// A stored tweet, as far as drivers look at it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TweetView<'a> {
    /// Its id.
    pub id: &'a str,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// As written.
    pub text: &'a str,
    /// Probability that it is negative, in 0..=1.
    pub negative: f32,
    /// Whether it counts as negative.
    pub is_negative: bool,
    /// Who wrote it, if known.
    pub author: Option<&'a str>,
    /// How many follow its author, if known.
    pub followers: Option<u64>,
    /// How often it was retweeted when the stream sent it, if known.
    pub retweets: Option<u64>,
    /// The tweet it is a retweet of.
    pub retweet_of: Option<&'a str>,
}

impl TweetView<'_> {
    /// A lower bound of how many had it before them: the author's followers, and one a
    /// retweet. `None` where the stream says neither.
    fn reach(&self) -> Option<u64> {
        match (self.followers, self.retweets) {
            (None, None) => None,
            (followers, retweets) => {
                Some(followers.unwrap_or(0).saturating_add(retweets.unwrap_or(0)))
            }
        }
    }
}

/// Bounds of what is read and told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DriverLimits {
    /// Tweets read a side; the latest, where there are more.
    pub tweets_max: usize,
    /// Terms told.
    pub terms_max: usize,
    /// Examples told.
    pub examples_max: usize,
    /// Fewest distinct negative tweets of the incident that hold a term.
    pub tweets_min: u32,
    /// Least weight of a term, in standard errors.
    pub z_min: f64,
}

impl Default for DriverLimits {
    fn default() -> Self {
        // 1.64: chance gets there with one term in twenty, looking at one side.
        Self { tweets_max: 5000, terms_max: 10, examples_max: 5, tweets_min: 3, z_min: 1.64 }
    }
}

/// What a term is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TermKind {
    /// A single word.
    Word,
    /// Two or three words in a row, or up to four characters of a script without spaces.
    Phrase,
    /// With its `#`.
    Hashtag,
    /// With its `@`.
    Mention,
    /// Without scheme and tracking parameters.
    Link,
}

impl TermKind {
    /// The word for it in mails and JSON.
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

/// A term that marks the incident off.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    /// In normal form: lower case (but for a link's path), single blanks.
    pub text: String,
    /// What it is.
    pub kind: TermKind,
    /// Distinct negative tweets of the incident that hold it.
    pub incident: u32,
    /// Distinct negative tweets of the baseline that hold it.
    pub baseline: u32,
    /// Log-odds ratio in standard errors.
    pub z: f64,
}

/// A tweet that stands for itself and its near-duplicates.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Id of the one of most reach.
    pub id: String,
    /// Its text.
    pub text: String,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// Its probability of being negative, in 0..=1.
    pub negative: f32,
    /// Who wrote it, if known.
    pub author: Option<String>,
    /// How many follow its author, if known.
    pub followers: Option<u64>,
    /// The highest number of retweets that any of the group claims.
    pub retweets: Option<u64>,
    /// Negative tweets in the group, this one included.
    pub tweets: u32,
    /// The group's reach: followers of its authors, each author once, and `retweets`. `None`
    /// where the stream says neither.
    pub reach: Option<u64>,
    /// How much it is like the others, in 0..=1: of the summed `z` of the heaviest
    /// [`DriverLimits::terms_max`] terms, told or not, the share of those that it holds.
    pub typicality: f64,
}

/// One tweet, repeated.
#[derive(Debug, Clone, PartialEq)]
pub struct OneTweet {
    /// Share of the incident's negative tweets that it and its near-duplicates make up.
    pub share: f64,
    /// The tweet.
    pub example: Example,
}

/// What an incident is about.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Drivers {
    /// Negative tweets of the incident that were read.
    pub incident_tweets: u32,
    /// Of these, distinct ones; terms are counted among them.
    pub incident_distinct: u32,
    /// Distinct negative tweets of the baseline.
    pub baseline_distinct: u32,
    /// Followers of those who wrote the incident's negative tweets, each author once; `None`
    /// where the stream does not tell.
    pub followers: Option<u64>,
    /// Heaviest first. Empty where nothing stands out.
    pub terms: Vec<Term>,
    /// The tweets to show, most telling first.
    pub examples: Vec<Example>,
    /// The most repeated tweet, if any came twice.
    pub one_tweet: Option<OneTweet>,
}

/// A side's tweets in order of time, their tokens, and the groups of near-duplicates.
struct Side<'a> {
    tweets: Vec<&'a TweetView<'a>>,
    tokens: Vec<Vec<Token>>,
    /// Positions in the above, earliest first.
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

    /// The tokens of each group's first tweet, and whether any of its tweets is negative.
    fn distinct(&self) -> Vec<Counted<'_>> {
        let is_negative = |position: &usize| self.tweets[*position].is_negative;
        let counted = |group: &Vec<usize>| Counted {
            tokens: &self.tokens[group[0]],
            is_negative: group.iter().any(is_negative),
        };
        self.groups.iter().map(counted).collect()
    }

    /// Followers of the authors of these tweets, each author once; a tweet whose author is
    /// not told has one of its own.
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

    /// The tweet of most reach in a group; of equals the first.
    fn example(&self, group: &[usize], typicality: f64) -> Example {
        let tweets = || group.iter().map(|position| self.tweets[*position]);
        let shown = tweets()
            .max_by_key(|tweet| (tweet.reach(), Reverse((tweet.created_at, tweet.id))))
            .expect("a group has a tweet");
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

/// Finds what marks the negative tweets of `incident` off against `baseline`, the brand's
/// tweets before it, negative or not. `own` are the brand's own names, handles and hashtags,
/// with or without their signs; none of them is told as a term.
pub fn drivers(
    incident: &[TweetView<'_>],
    baseline: &[TweetView<'_>],
    own: &[String],
    limits: &DriverLimits,
) -> Drivers {
    let incident = Side::new(incident.iter().filter(|t| t.is_negative), limits.tweets_max);
    let baseline = Side::new(baseline.iter(), limits.tweets_max);
    let (distinct, before) = (incident.distinct(), baseline.distinct());
    let found = terms::telling(&distinct, &before, own, limits);

    let sum: f64 = found.iter().map(|found| found.term.z).sum();
    let mut held_by: Vec<Vec<usize>> = vec![Vec::new(); distinct.len()];
    for (term, found) in found.iter().enumerate() {
        found.tweets.iter().for_each(|tweet| held_by[*tweet as usize].push(term));
    }
    let weigh = |terms: &[usize]| terms.iter().map(|term| found[*term].term.z).sum::<f64>();
    let examples: Vec<Example> = incident
        .groups
        .iter()
        .zip(&held_by)
        .map(|(group, terms)| {
            incident.example(group, if sum > 0.0 { weigh(terms) / sum } else { 0.0 })
        })
        .collect();
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
        examples: telling_examples(&examples, &held_by, &found, limits.examples_max),
        terms: found
            .into_iter()
            .map(|found| found.term)
            .filter(|term| term.z >= limits.z_min)
            .collect(),
        one_tweet,
    }
}

/// Chooses examples one after the other by typicality plus reach, each on a scale of 0..1:
/// the `z` of a tweet's terms over the highest there is, and the logarithm of reach plus
/// tweets over the highest there is (a thousand at least). A term that an example chosen before holds counts half,
/// so that the examples do not all say the same.
fn telling_examples(
    examples: &[Example],
    held_by: &[Vec<usize>],
    found: &[terms::Found],
    examples_max: usize,
) -> Vec<Example> {
    let mut weights: Vec<f64> = found.iter().map(|found| found.term.z).collect();
    let weigh = |weights: &[f64], at: usize| held_by[at].iter().map(|t| weights[*t]).sum::<f64>();
    let spread = |example: &Example| {
        (example.reach.unwrap_or(0).saturating_add(u64::from(example.tweets)) as f64).ln()
    };
    let highest = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::MIN_POSITIVE, f64::max);
    let typicality_max = highest(&mut (0..examples.len()).map(|at| weigh(&weights, at)));
    let spread_max = highest(&mut examples.iter().map(spread)).max(1000_f64.ln());
    let mut left: Vec<usize> = (0..examples.len()).collect();
    let mut chosen = Vec::new();
    while chosen.len() < examples_max {
        let score =
            |at: usize| weigh(&weights, at) / typicality_max + spread(&examples[at]) / spread_max;
        let order = |a: usize, b: usize| -> Ordering {
            (score(a).total_cmp(&score(b)))
                .then_with(|| examples[a].negative.total_cmp(&examples[b].negative))
                .then_with(|| b.cmp(&a))
        };
        let Some(best) = (0..left.len()).max_by(|a, b| order(left[*a], left[*b])) else { break };
        let best = left.swap_remove(best);
        held_by[best].iter().for_each(|term| weights[*term] /= 2.0);
        chosen.push(examples[best].clone());
    }
    chosen
}

#[cfg(test)]
mod tests;
