//! Tweets to read, and the words that made them negative.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::incidents::char_marks;
use super::{Path, Query, text_of};
use crate::Server;
use crate::answer::Failure;
use monitor_core::domain::{Label, Minute};
use monitor_core::text::{NearTexts, Shingles, content_words, tokens};
use monitor_core::words::WordWeight;
use monitor_store::{FoundTweet, TweetQuery, author_name};

/// Tweets read for one answer; near-duplicates among them are folded.
const READ_MAX: u32 = 200;
/// Ids of near-duplicates named, at most.
const ALIKE_NAMED_MAX: usize = 10;
/// Tokens of a tweet that decide whether two say the same.
const TOKENS_MAX: usize = 120;

/// Which tweets.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TweetsQuery {
    /// About this brand.
    brand: String,
    /// From this time on. A day before `to` if missing.
    from: Option<DateTime<Utc>>,
    /// Before this time. Behind the newest tweet if missing.
    to: Option<DateTime<Utc>>,
    /// Only those that the model calls `NEGATIVE`, `NEUTRAL` or `POSITIVE`.
    label: Option<String>,
    /// Only those with these words in a row, in any case.
    q: Option<String>,
    /// The `next` of the answer before.
    cursor: Option<String>,
}

/// Tweets.
#[derive(Debug, Serialize, ToSchema)]
pub struct Tweets {
    /// Newest first. Of near-duplicates only the newest, among 200 tweets read at once.
    tweets: Vec<Tweet>,
    /// The cursor with which to read on; null at the end.
    next: Option<String>,
}

/// One tweet.
#[derive(Debug, Serialize, ToSchema)]
pub struct Tweet {
    /// Its id.
    tweet_id: String,
    /// When it was written.
    created_at: DateTime<Utc>,
    /// Its text, as written: not to be trusted.
    text: String,
    /// What the model calls it.
    label: &'static str,
    /// Probability that it is negative.
    negative: f32,
    /// The model.
    model: String,
    /// Whether it was longer than the model reads.
    truncated: bool,
    /// Who wrote it, where the stream tells and names are stored (`store.authors`).
    author: Option<String>,
    /// Followers of the author, where the stream tells.
    followers: Option<u64>,
    /// Retweets when it was read, where the stream tells.
    retweets: Option<u64>,
    /// What a person says of it; null if nobody has said anything.
    corrected: Option<CorrectedLabel>,
    /// Number of tweets that say the same, with this one.
    alike: u64,
    /// Ids of the first of the others.
    alike_ids: Vec<String>,
}

/// What a person says of a tweet.
#[derive(Debug, Serialize, ToSchema)]
pub struct CorrectedLabel {
    /// The label.
    label: &'static str,
    /// Who.
    by: String,
    /// When.
    at: DateTime<Utc>,
}

impl From<FoundTweet> for Tweet {
    fn from(FoundTweet { tweet, label, corrected }: FoundTweet) -> Self {
        Self {
            tweet_id: tweet.tweet_id,
            created_at: tweet.created_at,
            text: tweet.text,
            label: label.as_str(),
            negative: tweet.negative,
            model: tweet.model,
            truncated: tweet.truncated,
            author: tweet.author.as_deref().and_then(author_name).map(str::to_owned),
            followers: tweet.followers,
            retweets: tweet.retweets,
            corrected: corrected.map(|(label, by, at)| CorrectedLabel {
                label: label.as_str(),
                by,
                at,
            }),
            alike: 1,
            alike_ids: Vec::new(),
        }
    }
}

/// A brand's tweets, newest first, near-duplicates folded
#[utoipa::path(
    get,
    path = "/v1/tweets",
    params(TweetsQuery),
    responses((status = 200, body = Tweets), (status = 404, description = "No such brand"))
)]
pub(crate) async fn search(
    State(server): State<Arc<Server>>,
    Query(query): Query<TweetsQuery>,
) -> Result<Json<Tweets>, Failure> {
    server.knows(&query.brand)?;
    let store = &*server.context.store;
    let label = query.label.as_deref().filter(|it| !it.is_empty()).map(label_of).transpose()?;
    let text = text_of("q", query.q.as_deref().unwrap_or(""), false)?;
    let end = match query.to {
        Some(to) => Minute::of(to),
        None => store.last_minute(&query.brand).await?.map_or(Minute(0), |it| it.plus(1)),
    };
    let after = query.cursor.as_deref().map(parse_cursor).transpose()?;
    let found = store
        .search_tweets(&TweetQuery {
            brand: query.brand,
            from: query.from.map_or(end.plus(-1440), Minute::of),
            to: end.plus(-1),
            label,
            text: Some(text).filter(|text| !text.is_empty()),
            after,
            limit: READ_MAX,
        })
        .await?;
    let next = found
        .last()
        .filter(|_| found.len() == READ_MAX as usize)
        .map(|it| format!("{}_{}", it.tweet.created_at.timestamp_micros(), it.tweet.tweet_id));
    Ok(Json(Tweets { tweets: folded(found), next }))
}

/// The label of this name.
pub(super) fn label_of(word: &str) -> Result<Label, Failure> {
    let known = Label::ALL.into_iter().find(|label| label.as_str() == word);
    known.ok_or_else(|| Failure::bad("label: choose NEGATIVE, NEUTRAL or POSITIVE"))
}

fn parse_cursor(cursor: &str) -> Result<(DateTime<Utc>, String), Failure> {
    let parts = cursor.split_once('_').and_then(|(at, id)| {
        Some((DateTime::from_timestamp_micros(at.parse().ok()?)?, id.to_owned()))
    });
    parts.ok_or_else(|| Failure::bad("cursor: give the next of an earlier answer"))
}

/// Folds near-duplicates into the first of them.
fn folded(found: Vec<FoundTweet>) -> Vec<Tweet> {
    let mut known = NearTexts::default();
    let mut words_known = std::collections::HashMap::new();
    let mut shown: Vec<Tweet> = Vec::new();
    for one in found {
        let tokens = tokens(&one.tweet.text, TOKENS_MAX);
        let words = content_words(&tokens);
        let key = if words.is_empty() { one.tweet.text.clone() } else { words.join(" ") };
        let shingles = Shingles::of(&words);
        let first = words_known.get(&key).copied().or_else(|| known.find(&shingles));
        if let Some(tweet) = first.and_then(|first: usize| shown.get_mut(first)) {
            tweet.alike += 1;
            if tweet.alike_ids.len() < ALIKE_NAMED_MAX {
                tweet.alike_ids.push(one.tweet.tweet_id);
            }
        } else {
            words_known.insert(key, shown.len());
            known.add(shingles);
            shown.push(Tweet::from(one));
        }
    }
    shown
}

/// Why the model thinks so.
#[derive(Debug, Serialize, ToSchema)]
pub struct Explained {
    /// The tweet.
    tweet_id: String,
    /// The model.
    model: String,
    /// Each word with what it adds to the log-odds of negative, in their order.
    #[schema(value_type = Vec<Object>)]
    words: Vec<WordWeight>,
    /// Begin and end of the words that made it most negative, in characters of the text.
    marks: Vec<[usize; 2]>,
}

/// Which words made a tweet negative
#[utoipa::path(
    get,
    path = "/v1/tweets/{id}/explain",
    params(("id" = String, Path, description = "Its id")),
    responses(
        (status = 200, body = Explained),
        (status = 404, description = "No such tweet"),
        (status = 409, description = "The model that scored it is not loaded")
    )
)]
pub(crate) async fn explain(
    State(server): State<Arc<Server>>,
    Path(id): Path<String>,
) -> Result<Json<Explained>, Failure> {
    let tweet = server.context.store.tweet(&id).await?;
    let tweet = tweet.ok_or_else(|| Failure::missing("there is no scored tweet with this id"))?;
    let explainer = server.context.explainer.get();
    let words = match explainer {
        Some(explainer) => explainer.explain(&tweet).await,
        None => None,
    };
    let words = words.ok_or_else(|| {
        let error = format!("{} is not loaded any more, or too busy to explain", tweet.model);
        Failure::new(StatusCode::CONFLICT, error)
    })?;
    Ok(Json(Explained {
        marks: char_marks(&tweet.text, &words),
        tweet_id: tweet.tweet_id,
        model: tweet.model,
        words,
    }))
}
