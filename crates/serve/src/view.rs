//! The data of the page and of the API, gathered from the store.
//!
//! **Invariant.** The JSON types are part of the API: fields are added, never changed or
//! removed. Shares are in 0..=1, times are event times in UTC.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use serde::Serialize;

use monitor_core::domain::{Counts, Evidence, Incident, Language, Minute, Watch};
use monitor_core::quantify::Estimate;
use monitor_store::{
    Example, OtherRates, Store, StoreError, Switches, Totals, corrected_share,
    current_counts as counts, with_own,
};

/// The hours that a brand's chart covers, at most.
const HOURS_MAX: i64 = 8 * 24;
/// Incidents read from the store, at most: so many that no open one is missed.
const INCIDENTS_MAX: u32 = 1000;
/// Resolved incidents listed, at most.
const RESOLVED_MAX: usize = 50;

/// Brands that are read from the store at once.
const BRANDS_AT_ONCE: usize = 4;
/// Open incidents whose tweets are read, at most.
const WITH_EXAMPLES_MAX: usize = 10;

/// Everything the page shows.
#[derive(Debug)]
pub struct View {
    pub totals: Totals,
    pub brands: Vec<BrandView>,
    /// Newest first.
    pub latest: Vec<Incident>,
    /// Tweets of the latest open incidents, by the incident's number.
    pub examples: BTreeMap<i64, Vec<Example>>,
    /// The model that scores now, `name@version`; `None` before the first tweet.
    pub model: Option<String>,
    /// Number of silences in force or ahead.
    pub silences: usize,
}

/// One brand.
#[derive(Debug)]
pub struct BrandView {
    pub name: String,
    /// Oldest first, without gaps; empty if the brand has no tweet.
    pub hours: Vec<Hour>,
    /// The 24 hours up to the newest minute.
    pub day: Counts,
    /// The tweets of those 24 hours without a score, by language, most first.
    pub not_judged: Vec<(Language, u64)>,
    /// The share of those 24 hours, corrected for the errors of the model that scores now; `None` if
    /// it cannot be corrected.
    pub corrected: Option<Estimate>,
    /// The newest minute with a tweet.
    pub newest: Option<Minute>,
    /// The share incidents that overlap the hours shown, oldest first.
    pub incidents: Vec<Incident>,
}

/// Counts of one hour.
#[derive(Debug, Clone, Copy)]
pub struct Hour {
    pub start: Minute,
    pub counts: Counts,
}

impl View {
    /// Reads everything from the store.
    pub async fn gather(
        store: &dyn Store,
        brands: &[String],
        now: DateTime<Utc>,
    ) -> Result<Self, StoreError> {
        let switches = store.switches().await?;
        let read: Vec<_> =
            brands.iter().map(|brand| BrandView::gather(store, &switches, brand).boxed()).collect();
        let mut views: Vec<BrandView> =
            stream::iter(read).buffered(BRANDS_AT_ONCE).try_collect().await?;
        // Brands with an open incident first, then those with the most tweets.
        views.sort_by_key(|b| (b.open().is_none(), std::cmp::Reverse(b.day.total)));
        let mut latest = store.incidents(INCIDENTS_MAX).await?;
        let mut resolved = 0;
        latest.retain(|incident| {
            resolved += usize::from(incident.resolved.is_some());
            incident.resolved.is_none() || resolved <= RESOLVED_MAX
        });
        let mut examples = BTreeMap::new();
        let open = latest.iter().filter(|incident| incident.resolved.is_none());
        for incident in open.take(WITH_EXAMPLES_MAX) {
            examples.insert(incident.id.0, store.examples(incident.id).await?);
        }
        let newest = views.iter().filter_map(|brand: &BrandView| brand.newest).max();
        Ok(Self {
            totals: store.totals().await?,
            brands: views,
            latest,
            examples,
            model: newest.and_then(|newest| Some(switches.at(newest)?.model.clone())),
            silences: store.silences(now).await?.len(),
        })
    }

    /// The incidents that are open, newest first.
    pub fn open(&self) -> impl Iterator<Item = &Incident> {
        self.latest.iter().filter(|incident| incident.resolved.is_none())
    }

    /// The response of `/api/status`.
    pub fn status(&self) -> Status {
        Status {
            totals: TotalsJson {
                scores: self.totals.scores,
                not_judged: self.totals.not_judged,
                dead_letters: self.totals.dead_letters,
                outbox_pending: self.totals.outbox_pending,
                outbox_dead: self.totals.outbox_dead,
            },
            brands: self
                .brands
                .iter()
                .map(|b| BrandJson {
                    name: b.name.clone(),
                    newest_minute: b.newest.map(Minute::start),
                    last_24_hours: b.day.into(),
                    corrected_24_hours: b.corrected,
                    not_judged_24_hours: b.not_judged.iter().copied().collect(),
                    open_incident: b.open().map(|incident| incident.id.0),
                })
                .collect(),
            open_incidents: self.open().map(IncidentJson::from).collect(),
            latest_incidents: self.latest.iter().map(IncidentJson::from).collect(),
        }
    }
}

impl BrandView {
    async fn gather(
        store: &dyn Store,
        switches: &Switches,
        brand: &str,
    ) -> Result<Self, StoreError> {
        let mut view = Self {
            name: brand.to_owned(),
            hours: Vec::new(),
            day: Counts::default(),
            not_judged: Vec::new(),
            corrected: None,
            newest: store.last_minute(brand).await?,
            incidents: Vec::new(),
        };
        let (Some(first), Some(newest)) = (store.first_minute(brand).await?, view.newest) else {
            return Ok(view);
        };
        let last_hour = newest.0.div_euclid(60);
        let first_hour = first.0.div_euclid(60).max(last_hour - HOURS_MAX + 1);
        let from = Minute(first_hour * 60);
        view.hours = (first_hour..=last_hour)
            .map(|hour| Hour { start: Minute(hour * 60), counts: Counts::default() })
            .collect();
        let model = switches.at(newest).map(|switch| switch.model.as_str());
        let day = (newest.plus(-1439), newest);
        for (start, counts) in counts(store, model, brand, from, newest, true).await? {
            let place = usize::try_from(start.0.div_euclid(60) - first_hour).ok();
            if let Some(hour) = place.and_then(|place| view.hours.get_mut(place)) {
                hour.counts += counts;
            }
        }
        let own = match model {
            Some(model) => store.model_counts(model, brand, day.0, day.1).await?,
            None => Vec::new(),
        };
        let sum = |counts: &[(Minute, Counts)]| {
            counts.iter().fold(Counts::default(), |sum, (_, counts)| sum + *counts)
        };
        view.day = sum(&with_own(store.minute_counts(brand, day.0, day.1).await?, &own));
        if let Some(model) = model {
            let own = sum(&own);
            let of = (brand, model);
            view.corrected = corrected_share(store, of, day, own, 1.0, OtherRates::HeldOut).await?;
        }
        view.not_judged = store.not_judged(brand, day.0, day.1).await?;
        view.incidents = store.incidents_since(brand, Watch::Buzz, from).await?;
        Ok(view)
    }

    /// The open incident, if any.
    pub fn open(&self) -> Option<&Incident> {
        self.incidents.iter().find(|incident| incident.resolved.is_none())
    }
}

/// The body of `/api/status`.
#[derive(Debug, Serialize)]
pub struct Status {
    totals: TotalsJson,
    brands: Vec<BrandJson>,
    open_incidents: Vec<IncidentJson>,
    latest_incidents: Vec<IncidentJson>,
}

#[derive(Debug, Serialize)]
struct TotalsJson {
    scores: u64,
    not_judged: u64,
    dead_letters: u64,
    outbox_pending: u64,
    outbox_dead: u64,
}

#[derive(Debug, Serialize)]
struct BrandJson {
    name: String,
    newest_minute: Option<DateTime<Utc>>,
    last_24_hours: CountsJson,
    /// Null if it cannot be corrected.
    corrected_24_hours: Option<Estimate>,
    not_judged_24_hours: BTreeMap<Language, u64>,
    open_incident: Option<i64>,
}

#[derive(Debug, Serialize)]
struct CountsJson {
    total: u64,
    negative: u64,
    /// Null if there is no tweet.
    share: Option<f64>,
}

impl From<Counts> for CountsJson {
    fn from(counts: Counts) -> Self {
        Self { total: counts.total, negative: counts.negative, share: counts.share() }
    }
}

#[derive(Debug, Serialize)]
struct IncidentJson {
    id: i64,
    brand: String,
    opened_at: DateTime<Utc>,
    resolved_at: Option<DateTime<Utc>>,
    severity: &'static str,
    acknowledged_by: Option<String>,
    evidence: Evidence,
}

impl From<&Incident> for IncidentJson {
    fn from(incident: &Incident) -> Self {
        Self {
            id: incident.id.0,
            brand: incident.brand.clone(),
            opened_at: incident.opened.start(),
            resolved_at: incident.resolved.map(Minute::start),
            severity: incident.severity.as_str(),
            acknowledged_by: incident.acknowledged.as_ref().map(|a| a.by.clone()),
            evidence: incident.evidence,
        }
    }
}
