//! Whether the tweets of the last day differ from those before.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::Server;
use crate::answer::Failure;
use monitor_core::drift::{Change, Measured};
use monitor_store::DriftDay;

/// The newest comparison.
#[derive(Debug, Serialize, ToSchema)]
pub struct Drift {
    /// Null until a whole day could be compared.
    latest: Option<Compared>,
}

/// A day of tweets, compared with days before.
#[derive(Debug, Serialize, ToSchema)]
pub struct Compared {
    /// Start of the day (UTC).
    day: DateTime<Utc>,
    /// The model whose words and scores were compared.
    model: String,
    /// Tweets of the day that were read.
    tweets: usize,
    /// Days that it was compared with.
    reference_days: usize,
    /// What was compared.
    measures: Vec<Compare>,
}

/// One measure.
#[derive(Debug, Serialize, ToSchema)]
pub struct Compare {
    /// `unknown_words`, `languages`, `lengths`, `scores` or `domain`.
    measure: &'static str,
    /// `usual`, `drifted`, or why it was not measured: `too_few_tweets`, `too_few_periods` or `no_vocabulary`.
    verdict: &'static str,
    /// Its value; null if it was not measured.
    value: Option<f64>,
    /// It has drifted if the value is above this.
    limit: Option<f64>,
    /// What has changed, the most important first.
    changes: Vec<Changed>,
}

/// A part of what has changed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Changed {
    /// A word, a language, or the name of a figure.
    what: String,
    /// Its share of the tweets of the days before, or the figure there.
    before: f64,
    /// The same of the day.
    now: f64,
}

impl From<DriftDay> for Compared {
    fn from(DriftDay { day, model, report }: DriftDay) -> Self {
        let changed = |Change { what, before, now }| Changed { what, before, now };
        let compare = |it: Measured| Compare {
            measure: it.measure.as_str(),
            verdict: it.verdict.as_str(),
            value: it.value,
            limit: it.limit,
            changes: it.changes.into_iter().map(changed).collect(),
        };
        Self {
            day,
            model,
            tweets: report.tweets,
            reference_days: report.reference.len(),
            measures: report.measures.into_iter().map(compare).collect(),
        }
    }
}

/// Whether the tweets of the last whole day differ from those of the days before
#[utoipa::path(
    get,
    path = "/v1/drift",
    operation_id = "drift",
    responses((status = 200, body = Drift))
)]
pub(crate) async fn latest(State(server): State<Arc<Server>>) -> Result<Json<Drift>, Failure> {
    let latest = server.context.store.latest_drift().await?;
    Ok(Json(Drift { latest: latest.map(Compared::from) }))
}
