//! Labels that people give: single corrections, and random samples.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::tweets::label_of;
use super::{Body, Path, text_of};
use crate::Server;
use crate::access::Caller;
use crate::answer::Failure;
use monitor_store::{Correction, Sample as Stored, SampleRequest};

/// Corrections of an answer, at most.
const CORRECTIONS_MAX: usize = 500;
/// Tweets of a sample, at most.
const SAMPLE_MAX: u32 = 1000;

/// A tweet whose label a person says.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLabel {
    /// The tweet.
    tweet_id: String,
    /// `NEGATIVE`, `NEUTRAL` or `POSITIVE`.
    label: String,
    /// Who says so. With a token, its name is added.
    #[serde(default)]
    by: Option<String>,
}

/// Says what a tweet really is, in place of what was said before
#[utoipa::path(
    post,
    path = "/v1/labels",
    request_body = NewLabel,
    responses((status = 204), (status = 404, description = "No such tweet"))
)]
pub(crate) async fn correct(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Body(new): Body<NewLabel>,
) -> Result<StatusCode, Failure> {
    let correction = Correction {
        tweet_id: new.tweet_id,
        label: label_of(&new.label)?,
        by: caller.by(Some(&text_of("by", new.by.as_deref().unwrap_or(""), false)?)),
        at: server.context.clock.now(),
        text: String::new(),
    };
    // No id has a NUL, and Postgres refuses one.
    let known =
        !correction.tweet_id.contains('\0') && server.context.store.correct(&correction).await?;
    if known {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Failure::missing("there is no tweet with this id"))
    }
}

/// Corrections.
#[derive(Debug, Serialize, ToSchema)]
pub struct Corrections {
    /// Newest first, at most 500.
    labels: Vec<CorrectedTweet>,
}

/// What a person said of a tweet.
#[derive(Debug, Serialize, ToSchema)]
pub struct CorrectedTweet {
    /// The tweet.
    tweet_id: String,
    /// Its text, as written: not to be trusted.
    text: String,
    /// What it is.
    label: &'static str,
    /// Who said so.
    by: String,
    /// When.
    at: DateTime<Utc>,
}

/// What people said of single tweets, newest first
#[utoipa::path(get, path = "/v1/labels", responses((status = 200, body = Corrections)))]
pub(crate) async fn corrections(
    State(server): State<Arc<Server>>,
) -> Result<Json<Corrections>, Failure> {
    let stored = server.context.store.corrections().await?;
    let newest = stored.into_iter().rev().take(CORRECTIONS_MAX);
    let labels = newest.map(|it| CorrectedTweet {
        tweet_id: it.tweet_id,
        text: it.text,
        label: it.label.as_str(),
        by: it.by,
        at: it.at,
    });
    Ok(Json(Corrections { labels: labels.collect() }))
}

/// A random sample to draw.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSample {
    /// The brand.
    brand: String,
    /// Start, in event time.
    from: DateTime<Utc>,
    /// End, exclusive.
    to: DateTime<Utc>,
    /// Tweets to draw, 1 to 1000.
    tweets: u32,
    /// Who draws it. With a token, its name is added.
    #[serde(default)]
    by: Option<String>,
}

/// Random samples.
#[derive(Debug, Serialize, ToSchema)]
pub struct Samples {
    /// Newest first.
    samples: Vec<Sample>,
}

/// A random sample.
#[derive(Debug, Serialize, ToSchema)]
pub struct Sample {
    /// Its number.
    id: i64,
    /// The brand.
    brand: String,
    /// Start, in event time.
    from: DateTime<Utc>,
    /// End, exclusive.
    to: DateTime<Utc>,
    /// Tweets that it was drawn from.
    population: u64,
    /// Tweets drawn.
    tweets: u64,
    /// Those that have a label.
    labelled: u64,
    /// Who drew it.
    by: String,
    /// When.
    at: DateTime<Utc>,
}

impl From<Stored> for Sample {
    fn from(it: Stored) -> Self {
        Self {
            id: it.id,
            brand: it.brand,
            from: it.from,
            to: it.to,
            population: it.population,
            tweets: it.tweets,
            labelled: it.labelled,
            by: it.by,
            at: it.at,
        }
    }
}

/// The random samples, newest first
#[utoipa::path(get, path = "/v1/samples", responses((status = 200, body = Samples)))]
pub(crate) async fn samples(State(server): State<Arc<Server>>) -> Result<Json<Samples>, Failure> {
    let stored = server.context.store.samples().await?;
    Ok(Json(Samples { samples: stored.into_iter().rev().map(Sample::from).collect() }))
}

/// Draws a random sample of a brand's tweets to label
#[utoipa::path(
    post,
    path = "/v1/samples",
    request_body = NewSample,
    responses((status = 201, body = Sample))
)]
pub(crate) async fn draw(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Body(new): Body<NewSample>,
) -> Result<(StatusCode, Json<Sample>), Failure> {
    server.knows(&new.brand)?;
    if new.from >= new.to {
        return Err(Failure::bad("from is not before to"));
    }
    if !(1..=SAMPLE_MAX).contains(&new.tweets) {
        return Err(Failure::bad(format!("tweets: choose between 1 and {SAMPLE_MAX}")));
    }
    let at = server.context.clock.now();
    let request = SampleRequest {
        brand: new.brand,
        from: new.from,
        to: new.to,
        tweets: new.tweets,
        seed: at.to_rfc3339(),
        by: caller.by(Some(&text_of("by", new.by.as_deref().unwrap_or(""), false)?)),
        at,
    };
    let sample = server.context.store.draw_sample(&request).await?;
    Ok((StatusCode::CREATED, Json(Sample::from(sample))))
}

/// The tweets of a sample.
#[derive(Debug, Serialize, ToSchema)]
pub struct SampleTweets {
    /// By place. What the model calls them is left out: it would sway whoever labels.
    tweets: Vec<SampleTweet>,
}

/// A tweet of a sample.
#[derive(Debug, Serialize, ToSchema)]
pub struct SampleTweet {
    /// Its place, from 1.
    place: u32,
    /// Its id.
    tweet_id: String,
    /// When it was written.
    created_at: DateTime<Utc>,
    /// Its text, as written: not to be trusted.
    text: String,
    /// The label that a person gave it; null if nobody has.
    label: Option<&'static str>,
}

/// The tweets of a random sample
#[utoipa::path(
    get,
    path = "/v1/samples/{id}",
    params(("id" = i64, Path, description = "Its number")),
    responses((status = 200, body = SampleTweets), (status = 404, description = "No such sample"))
)]
pub(crate) async fn sample(
    State(server): State<Arc<Server>>,
    Path(id): Path<i64>,
) -> Result<Json<SampleTweets>, Failure> {
    let store = &*server.context.store;
    let tweets = store.sampled_tweets(id).await?;
    if tweets.is_empty() && !store.samples().await?.iter().any(|sample| sample.id == id) {
        return Err(Failure::missing(format!("there is no sample {id}")));
    }
    let tweets = tweets.into_iter().map(|it| SampleTweet {
        place: it.place,
        tweet_id: it.tweet_id,
        created_at: it.created_at,
        text: it.text,
        label: it.label.map(monitor_core::domain::Label::as_str),
    });
    Ok(Json(SampleTweets { tweets: tweets.collect() }))
}

/// Labels of tweets of a sample.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SampleLabels {
    /// Each with its place.
    labels: Vec<PlacedLabel>,
    /// Who says so. With a token, its name is added.
    #[serde(default)]
    by: Option<String>,
}

/// A label of one tweet of a sample.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlacedLabel {
    /// The tweet's place, from 1.
    place: u32,
    /// `NEGATIVE`, `NEUTRAL` or `POSITIVE`.
    label: String,
}

/// How many labels were stored.
#[derive(Debug, Serialize, ToSchema)]
pub struct Labelled {
    /// Those that are new or different.
    changed: u64,
}

/// Labels tweets of a random sample
#[utoipa::path(
    post,
    path = "/v1/samples/{id}/labels",
    params(("id" = i64, Path, description = "Its number")),
    request_body = SampleLabels,
    responses((status = 200, body = Labelled), (status = 404, description = "No such sample"))
)]
pub(crate) async fn label(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(id): Path<i64>,
    Body(new): Body<SampleLabels>,
) -> Result<Json<Labelled>, Failure> {
    let store = &*server.context.store;
    if !store.samples().await?.iter().any(|sample| sample.id == id) {
        return Err(Failure::missing(format!("there is no sample {id}")));
    }
    let labels: Result<Vec<_>, Failure> =
        new.labels.iter().map(|it| Ok((it.place, label_of(&it.label)?))).collect();
    let by = caller.by(Some(&text_of("by", new.by.as_deref().unwrap_or(""), false)?));
    let changed = store.record_labels(id, &labels?, &by, server.context.clock.now()).await?;
    Ok(Json(Labelled { changed }))
}
