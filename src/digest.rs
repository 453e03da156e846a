//! Gathers what the weekly digest tells, of all brands.
//!
//! **Invariant.** Shares of a period and the one before are those of the same model, as on the page; where it has not scored
//! all tweets, those of the models of their time. A corrected share needs labels of the brand's own.
//! Deliberately absent: wording and layout (`monitor-notify`), and when it is sent (`pipeline`).

use chrono::{DateTime, Utc};

use monitor_core::digest::{BrandWeek, Digest, WeekFigures, WeekIncident, WeekTweet};
use monitor_core::domain::{Counts, Label, Minute, Watch};
use monitor_store::{
    CurvePoint, Example, OtherRates, PostgresStore, Store, StoreError, corrected_share,
    current_counts,
};

/// Tweets to read of a brand, of each kind.
const TWEETS: usize = 3;
/// Minutes of a point of the curve.
const POINT_MINUTES: i64 = 60;

/// The digest of `from..to`, in whole minutes, with the texts of the tweets that it names.
///
/// # Errors
/// The store cannot be read.
pub async fn gather(
    store: &PostgresStore,
    brands: &[String],
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    url: Option<String>,
) -> Result<(Digest, Vec<Example>), StoreError> {
    let before = (from - (to - from), from);
    let mut tweets = Vec::new();
    let mut weeks = Vec::with_capacity(brands.len());
    for brand in brands {
        let (week, curve) = figures(store, brand, (from, to), to).await?;
        let (before, _) = figures(store, brand, before, to).await?;
        let mut surest = async |label| {
            let found = store.surest_tweets(brand, (from, to), label, TWEETS).await?;
            let named = found.iter().map(|(example, probability)| WeekTweet {
                tweet_id: example.tweet_id.clone(),
                probability: *probability,
            });
            let named: Vec<WeekTweet> = named.collect();
            tweets.extend(found.into_iter().map(|(example, _)| example));
            Ok::<_, StoreError>(named)
        };
        let negative = surest(Label::Negative).await?;
        let positive = surest(Label::Positive).await?;
        let incidents = store.incidents_since(brand, Watch::Buzz, Minute::of(from)).await?;
        let incidents = incidents.into_iter().filter(|it| it.opened.start() < to);
        weeks.push(BrandWeek {
            brand: brand.clone(),
            week,
            before,
            curve,
            incidents: incidents
                .map(|it| WeekIncident {
                    id: it.id.0,
                    evidence: it.evidence,
                    severity: it.severity.as_str().to_owned(),
                    opened: it.opened.start(),
                    resolved: it.resolved.map(Minute::start),
                    acknowledged: it.acknowledged.map(|it| it.by),
                })
                .collect(),
            not_judged: store.not_judged(brand, Minute::of(from), Minute::of(to).plus(-1)).await?,
            negative,
            positive,
        });
    }
    weeks.sort_by(|a, b| (b.week.total, &a.brand).cmp(&(a.week.total, &b.brand)));
    let digest = Digest {
        from,
        to,
        brands: weeks,
        dead_letters: store.dead_letters_between((from, to)).await?,
        dead_letters_before: store.dead_letters_between(before).await?,
        url,
    };
    Ok((digest, tweets))
}

/// The figures of a period and its curve, as the model calls the tweets that scores at `at`.
async fn figures(
    store: &PostgresStore,
    brand: &str,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    at: DateTime<Utc>,
) -> Result<(WeekFigures, Vec<CurvePoint>), StoreError> {
    let (first, last) = (Minute::of(from), Minute::of(to).plus(-1));
    let switches = store.switches().await?;
    let model = switches.at(Minute::of(at)).map(|switch| switch.model.as_str());
    // Counts by minute are removed after a while, those by hour stay.
    let by_hour = [from, to].iter().all(|at| at.timestamp() % 3600 == 0);
    let sum = |counts: &[(Minute, Counts)]| {
        counts.iter().fold(Counts::default(), |sum, (_, counts)| sum + *counts)
    };
    let counts = current_counts(store, model, brand, first, last, by_hour).await?;
    let all = sum(&counts);
    let corrected = match model {
        Some(model) => {
            let own = match by_hour {
                true => store.model_hour_counts(model, brand, first, last).await?,
                false => store.model_counts(model, brand, first, last).await?,
            };
            let of = (brand, model);
            corrected_share(store, of, (first, last), sum(&own), 1.0, OtherRates::None).await?
        }
        None => None,
    };
    let mut curve: Vec<CurvePoint> = Vec::new();
    for (minute, counts) in counts {
        let start = Minute(minute.0 - (minute.0 - first.0).rem_euclid(POINT_MINUTES)).start();
        match curve.last_mut() {
            Some(point) if point.at == start => {
                point.total += counts.total;
                point.negative += counts.negative;
            }
            _ => {
                curve.push(CurvePoint { at: start, total: counts.total, negative: counts.negative })
            }
        }
    }
    Ok((WeekFigures { total: all.total, negative: all.negative, corrected }, curve))
}
