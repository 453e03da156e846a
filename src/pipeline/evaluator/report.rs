//! Builds notifications: drivers, examples, curve.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use tokio::sync::watch;

use super::super::lineup::Lineup;
use super::brand::counts_of;
use super::explain::Explainer;
use monitor_config as config;
use monitor_core::alerting::{
    DriverLimits, Drivers, Example as FoundExample, People, Theme as FoundTheme, TweetView, drivers,
};
use monitor_core::domain::{Counts, Evidence, Minute, Phase, Severity, Transition};
use monitor_core::notification::{FirstAuthor, Repeater, SharedLink, Theme};
use monitor_core::quantify::Estimate;
use monitor_store::{
    CurvePoint, Driver, Example, Notification, OtherRates, Store, StoreError, StoredTweet,
    author_name, corrected_share,
};

/// Tweets read for drivers and examples, at most: of the incident, and again of the time before.
const TWEETS_MAX: u32 = 4000;
/// Length of the time before the incident, in minutes.
const BEFORE_MINUTES: i64 = 2 * 1440;
/// How much of an incident is read, in minutes, at most.
const INCIDENT_MINUTES: i64 = 1440;
/// Length of the curve, in hours.
const CURVE_HOURS: i64 = 24;
/// Mean tweets per point from which the curve has quarter-hour points instead of hourly ones.
const POINT_TWEETS: u64 = 20;

/// Builds the notifications of incidents.
pub(super) struct Reporter {
    store: Arc<dyn Store>,
    public_url: Option<String>,
    /// By brand, its own names: never drivers of its incidents.
    names: BTreeMap<String, Vec<String>>,
    /// Finds the words of examples; `None` if nobody can.
    explainer: Option<Explainer>,
}

/// The content of a notification.
pub(super) struct Content {
    /// Who is behind its negative tweets.
    pub people: People,
    corrected: Option<Estimate>,
    drivers: monitor_store::Drivers,
    examples: Vec<Example>,
    curve: Vec<CurvePoint>,
    curve_minutes: u32,
    echoes: u64,
}

/// The step that a notification is about.
pub(super) struct Subject<'a> {
    pub brand: &'a str,
    pub opened: Minute,
    pub minute: Minute,
    pub severity: Severity,
    pub transition: Transition,
    pub evidence: &'a Evidence,
}

impl Reporter {
    pub fn new(store: Arc<dyn Store>, settings: &config::Settings) -> Self {
        let names = settings.brands.iter().map(|(name, brand)| {
            let terms = [&brand.keywords, &brand.handles, &brand.hashtags];
            let own = std::iter::once(name).chain(terms.into_iter().flatten());
            (name.clone(), own.cloned().collect())
        });
        let url = settings.http.public_url.as_deref();
        Self {
            store,
            public_url: url.map(|url| url.trim_end_matches('/').to_owned()),
            names: names.collect(),
            explainer: None,
        }
    }

    /// The address of the page.
    pub fn page(&self) -> Option<String> {
        self.public_url.clone()
    }

    /// Explains examples with the current model of `models`.
    pub fn explain_with(&mut self, models: watch::Receiver<Lineup>) {
        self.explainer = Some(Explainer::new(models));
    }

    /// Reads the content of an incident at `minute`, with the curve of `model`'s counts; empty for
    /// incidents of the stream.
    pub async fn content(
        &self,
        brand: &str,
        evidence: &Evidence,
        minute: Minute,
        model: Option<&str>,
    ) -> Result<Content, StoreError> {
        let Some(since) = evidence.since() else { return Ok(Content::empty()) };
        let since = since.max(minute.plus(-INCIDENT_MINUTES));
        let tweets = self.store.window_tweets(brand, since, minute, TWEETS_MAX).await?;
        let corrected = self.corrected(brand, evidence, minute, &tweets).await?;
        let before = (since.plus(-BEFORE_MINUTES), since.plus(-1));
        let before = self.store.window_tweets(brand, before.0, before.1, TWEETS_MAX).await?;
        let echoes = self.store.echoes(brand, since, minute).await?;
        let own = self.names.get(brand).cloned().unwrap_or_default();
        let voices = voices(&tweets);
        // Takes up to a second if tweets are long and similar.
        let work = move || {
            let found = drivers(&views(&tweets), &views(&before), &own, &DriverLimits::default());
            let examples: Vec<_> = found.examples.iter().map(|it| example(it, &tweets)).collect();
            (found, examples)
        };
        let found = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
            tracing::error!(%error, brand, "the search for the drivers of the incident failed");
            (Drivers::default(), Vec::new())
        });
        let (found, examples) = found;
        let examples = match &self.explainer {
            Some(explainer) => explainer.explained(examples).await,
            None => examples.into_iter().map(|(example, _)| example).collect(),
        };
        let from = minute.plus(1 - CURVE_HOURS * 60).min(since.plus(-120));
        let counts = counts_of(&*self.store, model, brand, from, minute).await?;
        let curve_minutes = point_minutes(&counts);
        Ok(Content {
            people: People { reach: found.followers, voices },
            corrected,
            curve: curve(&counts, from, minute, curve_minutes),
            curve_minutes: u32::try_from(curve_minutes).unwrap_or(60),
            echoes,
            examples,
            drivers: to_drivers(&found),
        })
    }

    /// The observed share, corrected by people's labels of the brand's tweets; `None` if there are
    /// too few, or if several models have scored the tweets.
    async fn corrected(
        &self,
        brand: &str,
        evidence: &Evidence,
        minute: Minute,
        tweets: &[StoredTweet],
    ) -> Result<Option<Estimate>, StoreError> {
        let (Some(e), Some(first)) = (evidence.share(), tweets.first()) else { return Ok(None) };
        if tweets.iter().any(|tweet| tweet.model != first.model) {
            return Ok(None);
        }
        let of = (brand, first.model.as_str());
        let (window, others) = ((e.since, minute), OtherRates::None);
        corrected_share(&*self.store, of, window, e.observed, e.dispersion, others).await
    }

    /// The notification; the store fills in the incident's number and thread.
    pub fn notification(
        &self,
        s: &Subject,
        phases: &[Phase],
        reason: String,
        content: Content,
    ) -> Notification {
        Notification {
            incident_id: 0,
            transition: s.transition.as_str().into(),
            test: false,
            brand: s.brand.to_owned(),
            severity: s.severity.as_str().into(),
            at: s.minute.start(),
            opened_at: s.opened.start(),
            reason,
            evidence: *s.evidence,
            phases: phases.to_vec(),
            corrected: content.corrected,
            drivers: content.drivers,
            examples: content.examples,
            curve: content.curve,
            curve_minutes: content.curve_minutes,
            echoes: content.echoes,
            also: Vec::new(),
            thread: String::new(),
            url: self.public_url.clone(),
            digest: None,
            missed: Vec::new(),
        }
    }
}

impl Content {
    pub fn empty() -> Self {
        Self {
            people: People::default(),
            corrected: None,
            drivers: monitor_store::Drivers::default(),
            examples: Vec::new(),
            curve: Vec::new(),
            curve_minutes: 0,
            echoes: 0,
        }
    }
}

/// Distinct authors of negative tweets for each negative tweet whose author is known.
fn voices(tweets: &[StoredTweet]) -> Option<f64> {
    let negative = tweets.iter().filter(|tweet| tweet.is_negative);
    let authors: Vec<&str> = negative.filter_map(|tweet| tweet.author.as_deref()).collect();
    let distinct: HashSet<&str> = authors.iter().copied().collect();
    (!authors.is_empty()).then(|| distinct.len() as f64 / authors.len() as f64)
}

fn views(tweets: &[StoredTweet]) -> Vec<TweetView<'_>> {
    tweets
        .iter()
        .map(|tweet| TweetView {
            id: &tweet.tweet_id,
            author: tweet.author.as_deref(),
            created_at: tweet.created_at,
            text: &tweet.text,
            negative: tweet.negative,
            is_negative: tweet.is_negative,
            followers: tweet.followers,
            retweets: tweet.retweets,
            retweet_of: tweet.retweet_of.as_deref(),
        })
        .collect()
}

/// An example without its words, and the model that scored it.
fn example(found: &FoundExample, tweets: &[StoredTweet]) -> (Example, String) {
    let of_tweet = tweets.iter().find(|tweet| tweet.tweet_id == found.id);
    let example = Example {
        tweet_id: found.id.clone(),
        text: found.text.clone(),
        created_at: found.created_at,
        negative: found.negative,
        author: found.author.as_deref().and_then(author_name).map(str::to_owned),
        reach: found.reach,
        alike: u64::from(found.tweets),
        words: Vec::new(),
    };
    (example, of_tweet.map_or(String::new(), |tweet| tweet.model.clone()))
}

fn to_drivers(found: &Drivers) -> monitor_store::Drivers {
    monitor_store::Drivers {
        terms: found
            .terms
            .iter()
            .map(|term| Driver {
                term: term.text.clone(),
                kind: term.kind.as_str().into(),
                tweets: u64::from(term.incident),
                baseline_tweets: u64::from(term.baseline),
                z: term.z,
            })
            .collect(),
        one_tweet_share: found.one_tweet.as_ref().map_or(0.0, |one| one.share),
        tweets: u64::from(found.incident_tweets),
        themes: found.themes.iter().map(theme).collect(),
        shared_link: found
            .link
            .clone()
            .map(|(link, tweets)| SharedLink { link, tweets: u64::from(tweets) }),
        repeaters: found
            .repeaters
            .iter()
            .map(|(author, tweets)| Repeater { author: author.clone(), tweets: u64::from(*tweets) })
            .collect(),
    }
}

fn theme(found: &FoundTheme) -> Theme {
    let first = found.first.iter().filter_map(|tweet| {
        Some(FirstAuthor {
            author: author_name(&tweet.author)?.to_owned(),
            at: tweet.created_at,
            followers: tweet.followers,
            tweet_id: tweet.id.clone(),
        })
    });
    Theme {
        terms: found.terms.clone(),
        tweets: u64::from(found.tweets),
        began: found.began,
        first: first.collect(),
        hours: found.hours.clone(),
        tweet_id: found.tweet_id.clone(),
    }
}

/// Minutes per point of the curve: 15 if there are enough tweets, else 60.
fn point_minutes(counts: &[(Minute, Counts)]) -> i64 {
    let total: u64 = counts.iter().map(|(_, counts)| counts.total).sum();
    let quarters = (CURVE_HOURS * 4).unsigned_abs();
    if total >= POINT_TWEETS * quarters { 15 } else { 60 }
}

/// Counts in steps of `step` minutes from about `from` up to and including `minute`.
fn curve(counts: &[(Minute, Counts)], from: Minute, minute: Minute, step: i64) -> Vec<CurvePoint> {
    let points = ((minute.0 - from.0 + 1) / step).max(1);
    let first = minute.plus(1 - points * step);
    let mut sums = vec![Counts::default(); usize::try_from(points).unwrap_or(0)];
    for (at, counts) in counts {
        let place = (at.0 - first.0).div_euclid(step);
        if let Some(sum) = usize::try_from(place).ok().and_then(|place| sums.get_mut(place)) {
            *sum += *counts;
        }
    }
    (0..)
        .zip(sums)
        .map(|(place, sum)| CurvePoint {
            at: first.plus(place * step).start(),
            total: sum.total,
            negative: sum.negative,
        })
        .collect()
}
