//! Share of voice: whose tweets they are, of those about all brands.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Query;
use super::brands::{Step, asked};
use crate::Server;
use crate::answer::Failure;
use monitor_core::domain::Minute;

/// Which time.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct VoiceQuery {
    /// Start, rounded down to the hour if the time is longer than 12 hours, to the day if it is longer than two
    /// months. A week before `to` if missing.
    from: Option<DateTime<Utc>>,
    /// End, exclusive; if the time is longer than 12 hours, the hour that it is in counts whole. Just after the newest
    /// tweet if missing.
    to: Option<DateTime<Utc>>,
}

/// How much of the talk is about each brand.
#[derive(Debug, Serialize, ToSchema)]
pub struct Voices {
    /// Those with the most tweets first.
    brands: Vec<Voice>,
}

/// One brand.
#[derive(Debug, Serialize, ToSchema)]
pub struct Voice {
    /// Its name.
    name: String,
    /// Scored tweets about it.
    tweets: u64,
    /// Of the tweets of all brands, where a tweet about two counts for both; null if there are none.
    share: Option<f64>,
}

/// Share of voice: tweets about each brand, of the tweets about all brands
#[utoipa::path(
    get,
    path = "/v1/voice",
    operation_id = "voice",
    params(VoiceQuery),
    responses((status = 200, body = Voices))
)]
pub(crate) async fn voice(
    State(server): State<Arc<Server>>,
    Query(query): Query<VoiceQuery>,
) -> Result<Json<Voices>, Failure> {
    let (store, names) = (&*server.context.store, &server.context.brands);
    let newest = store.newest(names).await?.into_iter().map(|(_, minute)| minute).max();
    let now = Minute::of(server.context.clock.now());
    let end = newest.map_or(now, |it| it.plus(1));
    let (from, to, step) = asked((query.from, query.to), None, end)?;
    let mut tweets = Vec::with_capacity(names.len());
    for name in names {
        let found = match step {
            Step::Minute => store.minute_counts(name, from, to).await?,
            Step::Hour | Step::Day => store.hour_counts(Some(name), from, to).await?,
        };
        tweets.push((name, found.iter().map(|(_, counts)| counts.total).sum::<u64>()));
    }
    tweets.sort_by_key(|(_, tweets)| std::cmp::Reverse(*tweets));
    let all: u64 = tweets.iter().map(|(_, tweets)| tweets).sum();
    let brands = tweets.into_iter().map(|(name, tweets)| Voice {
        name: name.clone(),
        tweets,
        share: (all > 0).then(|| tweets as f64 / all as f64),
    });
    Ok(Json(Voices { brands: brands.collect() }))
}
