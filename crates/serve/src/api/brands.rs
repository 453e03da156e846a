//! Brands, their shares over time, and the models that judge them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::baseline::Expected;
use super::{Path, Query};
use crate::Server;
use crate::answer::Failure;
use crate::view::BrandView;
use monitor_core::domain::{Counts, Minute};
use monitor_core::quantify::{self, Estimate};
use monitor_store::{OtherRates, StoreError, current_counts as counts, rates_of};

/// Points of an answer, at most.
const POINTS_MAX: i64 = 3000;
/// Time shown if none is asked for, in minutes.
const MINUTES_SHOWN: i64 = 7 * 1440;

/// A share with its 95 % interval.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct Corrected {
    /// The share of tweets that people would call negative.
    share: f64,
    /// Lower end of its interval.
    low: f64,
    /// Upper end of its interval.
    high: f64,
    /// `adjusted-count` or `prediction-powered`.
    method: &'static str,
}

impl From<Estimate> for Corrected {
    fn from(it: Estimate) -> Self {
        Self {
            share: it.share,
            low: it.interval.low,
            high: it.interval.high,
            method: it.method.as_str(),
        }
    }
}

/// All brands.
#[derive(Debug, Serialize, ToSchema)]
pub struct Brands {
    /// Brands with an open incident first, then those with the most tweets.
    brands: Vec<Brand>,
    /// Tweets scored so far, of all brands and none.
    tweets_scored: u64,
    /// Tweets in languages that no model knows.
    not_judged: u64,
    /// Records that are not tweets.
    dead_letters: u64,
    /// Notifications that wait for delivery.
    notifications_pending: u64,
    /// Notifications that were given up.
    notifications_dead: u64,
    /// Whether the caller may act, and its name if it has a token.
    you: You,
}

/// Who asks.
#[derive(Debug, Serialize, ToSchema)]
pub struct You {
    /// Name of the token; null where none is needed.
    name: Option<String>,
    /// Whether it may acknowledge, silence, resolve and label.
    may_act: bool,
}

/// One brand, over the 24 hours up to its newest tweet.
#[derive(Debug, Serialize, ToSchema)]
pub struct Brand {
    /// Its name.
    name: String,
    /// The newest minute with a tweet; null if there is none.
    newest_minute: Option<DateTime<Utc>>,
    /// All scored tweets.
    total: u64,
    /// Those that the model calls negative.
    negative: u64,
    /// Their share; null without tweets.
    share: Option<f64>,
    /// The share corrected for the model's errors; null if it cannot be.
    corrected: Option<Corrected>,
    /// What its past leads to expect of these hours; null if it has too little of it.
    expected: Option<Expected>,
    /// Tweets without a score, by language.
    not_judged: BTreeMap<String, u64>,
    /// Numbers of its open incidents.
    open_incidents: Vec<i64>,
}

/// The brands, each with its last day
#[utoipa::path(
    get,
    path = "/v1/brands",
    operation_id = "brands",
    responses((status = 200, body = Brands))
)]
pub(crate) async fn list(
    State(server): State<Arc<Server>>,
    caller: crate::access::Caller,
) -> Result<Json<Brands>, Failure> {
    let view = server.view().await.map_err(Failure::away)?;
    let model = view.model.as_deref();
    let mut brands = Vec::with_capacity(view.brands.len());
    for brand in &view.brands {
        let open = view.open().filter(|it| it.brand == brand.name).map(|it| it.id.0);
        brands.push(brand_of(&server, brand, model, open.collect()).await?);
    }
    Ok(Json(Brands {
        brands,
        tweets_scored: view.totals.scores,
        not_judged: view.totals.not_judged,
        dead_letters: view.totals.dead_letters,
        notifications_pending: view.totals.outbox_pending,
        notifications_dead: view.totals.outbox_dead,
        you: You { may_act: caller.right == crate::access::Right::Act, name: caller.token },
    }))
}

async fn brand_of(
    server: &Server,
    brand: &BrandView,
    model: Option<&str>,
    open_incidents: Vec<i64>,
) -> Result<Brand, Failure> {
    let hours = &brand.hours[brand.hours.len().saturating_sub(24)..];
    let by_hour = expected(server, brand, model, 24).await?;
    let expected = mean(hours.iter().map(|hour| hour.counts.total).zip(by_hour));
    let by_language = brand.not_judged.iter().map(|(it, tweets)| (it.to_string(), *tweets));
    Ok(Brand {
        name: brand.name.clone(),
        newest_minute: brand.newest.map(Minute::start),
        total: brand.day.total,
        negative: brand.day.negative,
        share: brand.day.share(),
        corrected: brand.corrected.map(Corrected::from),
        expected,
        not_judged: by_language.collect(),
        open_incidents,
    })
}

/// What its past leads to expect of each of the brand's last `hours`, as far as it has so many.
pub(crate) async fn expected(
    server: &Server,
    brand: &BrandView,
    model: Option<&str>,
    hours: usize,
) -> Result<Vec<Option<Expected>>, StoreError> {
    let hours = &brand.hours[brand.hours.len().saturating_sub(hours)..];
    let starts: Vec<Minute> = hours.iter().map(|hour| hour.start).collect();
    let (context, of) = (&server.context, (brand.name.as_str(), model));
    server.baselines.expected(&*context.store, &context.policy_of(of.0), of, &starts).await
}

/// What was expected of hours together: the mean, weighted by their tweets.
fn mean(hours: impl Iterator<Item = (u64, Option<Expected>)>) -> Option<Expected> {
    let known = hours.filter_map(|(tweets, expected)| Some((tweets as f64, expected?)));
    let (tweets, sum) = known.fold((0.0, [0.0; 3]), |(tweets, sum), (n, it)| {
        (tweets + n, [sum[0] + n * it.share, sum[1] + n * it.low, sum[2] + n * it.high])
    });
    let [share, low, high] = sum.map(|sum| sum / tweets);
    (tweets > 0.0).then_some(Expected { share, low, high })
}

/// How long one point is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// A minute.
    Minute,
    /// An hour of UTC.
    Hour,
    /// A day of UTC.
    Day,
}

impl Step {
    fn minutes(self) -> i64 {
        match self {
            Self::Minute => 1,
            Self::Hour => 60,
            Self::Day => 1440,
        }
    }

    /// The start of the step that `at` is in.
    fn floor(self, at: Minute) -> Minute {
        Minute(at.0.div_euclid(self.minutes()) * self.minutes())
    }
}

/// The first and the last minute of the time asked for, and its step: a week up to `end` if nothing is
/// said, from the start of a step on.
pub(super) fn asked(
    (from, to): (Option<DateTime<Utc>>, Option<DateTime<Utc>>),
    step: Option<Step>,
    end: Minute,
) -> Result<(Minute, Minute, Step), Failure> {
    let end = to.map_or(end, Minute::of);
    let start = from.map_or(end.plus(-MINUTES_SHOWN), Minute::of);
    let length = end.0.saturating_sub(start.0);
    if length <= 0 {
        return Err(Failure::bad("from is not before to"));
    }
    let step = step.unwrap_or(match length {
        ..=720 => Step::Minute,
        721..=90_000 => Step::Hour,
        _ => Step::Day,
    });
    if length / step.minutes() > POINTS_MAX {
        return Err(Failure::bad(format!(
            "these are more than {POINTS_MAX} points: choose a longer step or less time"
        )));
    }
    Ok((step.floor(start), end.plus(-1), step))
}

/// Which shares.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SharesQuery {
    /// Start, rounded down to a step. A week before `to` if missing.
    from: Option<DateTime<Utc>>,
    /// End, exclusive. Behind the newest tweet if missing.
    to: Option<DateTime<Utc>>,
    /// How long one point is; chosen by the length of time if missing.
    step: Option<Step>,
}

/// A brand's shares over time.
#[derive(Debug, Serialize, ToSchema)]
pub struct Shares {
    /// The brand.
    brand: String,
    /// How long one point is.
    step: Step,
    /// The model whose calls are counted; null before the first tweet.
    model: Option<String>,
    /// Ascending, without those that have no tweet and no expectation.
    points: Vec<Point>,
}

/// One point.
#[derive(Debug, Serialize, ToSchema)]
pub struct Point {
    /// Its start.
    at: DateTime<Utc>,
    /// All scored tweets.
    tweets: u64,
    /// Those that the model calls negative.
    negative: u64,
    /// Their share; null without tweets.
    share: Option<f64>,
    /// The share corrected for the model's errors; null if it cannot be.
    corrected: Option<Corrected>,
    /// What the brand's past led to expect at its start; null if it had too little of it.
    expected: Option<Expected>,
}

/// A brand's share of negative tweets over time: raw, corrected, and expected
#[utoipa::path(
    get,
    path = "/v1/brands/{brand}/shares",
    params(("brand" = String, Path, description = "Its name"), SharesQuery),
    responses((status = 200, body = Shares), (status = 404, description = "No such brand"))
)]
pub(crate) async fn shares(
    State(server): State<Arc<Server>>,
    Path(brand): Path<String>,
    Query(query): Query<SharesQuery>,
) -> Result<Json<Shares>, Failure> {
    server.knows(&brand)?;
    let store = &*server.context.store;
    let newest = store.last_minute(&brand).await?;
    let now = Minute::of(server.context.clock.now());
    let (from, to, step) =
        asked((query.from, query.to), query.step, newest.map_or(now, |it| it.plus(1)))?;
    let switches = store.switches().await?;
    let model = newest.and_then(|newest| Some(switches.at(newest)?.model.clone()));
    let found = counts(store, model.as_deref(), &brand, from, to, step != Step::Minute).await?;
    let mut by_point: BTreeMap<i64, Counts> = BTreeMap::new();
    for (minute, counts) in found {
        *by_point.entry(step.floor(minute).0).or_default() += counts;
    }
    // Hours beyond the newest tweet have not been judged.
    let last = newest.map_or(from, |newest| newest.min(to));
    let starts: Vec<Minute> =
        (0..).map(|n| from.plus(n * step.minutes())).take_while(|at| *at <= last).collect();
    // A day is compared with what is expected at noon.
    let hour_of = |at: Minute| at.plus(step.minutes() / 2).min(last).hour_start();
    let mut hours: Vec<Minute> = starts.iter().map(|at| hour_of(*at)).collect();
    hours.dedup();
    let of = (brand.as_str(), model.as_deref());
    let expected =
        server.baselines.expected(store, &server.context.policy_of(of.0), of, &hours).await?;
    let expected: BTreeMap<i64, Option<Expected>> =
        hours.iter().map(|hour| hour.0).zip(expected).collect();
    let rates = match &model {
        Some(model) => rates_of(store, (&brand, model), OtherRates::HeldOut).await?.0,
        None => None,
    };
    let points = starts.iter().filter_map(|at| {
        let counts = by_point.get(&at.0).copied().unwrap_or_default();
        let expected = expected.get(&hour_of(*at).0).copied().flatten();
        let corrected = quantify::corrected(counts, rates.as_ref(), &[], 1.0);
        (counts.total > 0 || expected.is_some()).then(|| Point {
            at: at.start(),
            tweets: counts.total,
            negative: counts.negative,
            share: counts.share(),
            corrected: corrected.filter(|_| counts.total > 0).map(Corrected::from),
            expected,
        })
    });
    Ok(Json(Shares { step, points: points.collect(), model, brand }))
}

/// The models.
#[derive(Debug, Serialize, ToSchema)]
pub struct Models {
    /// By name.
    models: Vec<Model>,
    /// Which model scores the stream, and from which minute on; oldest first.
    switches: Vec<Switch>,
}

/// A model that has scored.
#[derive(Debug, Serialize, ToSchema)]
pub struct Model {
    /// `name@version`.
    model: String,
    /// 2 (negative, positive) or 3 (with neutral).
    classes: u8,
    /// Codes of the languages that it knows; none: any.
    languages: Vec<String>,
    /// Of the negative rows of its held-out files, the share that it finds; null if unknown.
    finds: Option<f64>,
    /// Of their other rows, the share that it calls negative by mistake; null if unknown.
    mistakes: Option<f64>,
}

/// When another model took over.
#[derive(Debug, Serialize, ToSchema)]
pub struct Switch {
    /// The first minute that it scores.
    from: DateTime<Utc>,
    /// `name@version`.
    model: String,
}

/// The models that have scored, and which scores the stream
#[utoipa::path(get, path = "/v1/models", responses((status = 200, body = Models)))]
pub(crate) async fn models(State(server): State<Arc<Server>>) -> Result<Json<Models>, Failure> {
    let store = &*server.context.store;
    let (models, switches) = (store.models().await?, store.switches().await?);
    let models = models.into_iter().map(|it| Model {
        classes: it.classes.into(),
        languages: it.languages.iter().map(ToString::to_string).collect(),
        finds: it.rates.as_ref().and_then(|rates| rates.negative_rows().share()),
        mistakes: it.rates.as_ref().and_then(|rates| rates.other_rows().share()),
        model: it.model,
    });
    let switches = switches
        .as_slice()
        .iter()
        .map(|it| Switch { from: it.from.start(), model: it.model.clone() })
        .collect();
    Ok(Json(Models { models: models.collect(), switches }))
}
