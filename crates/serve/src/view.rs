//! The data of the page and of the API, gathered from the store.
//!
//! **Invariant.** The JSON types are part of the API: fields are added, never changed or
//! removed. Shares are in 0..=1, times are event times in UTC.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use monitor_core::domain::{Cause, Counts, Evidence, Incident, Language, Minute};
use monitor_store::{Store, StoreError, Totals};

/// The hours that a brand's chart covers, at most.
const HOURS_MAX: i64 = 8 * 24;
/// Incidents read from the store, at most: so many that no open one is missed.
const INCIDENTS_MAX: u32 = 1000;
/// Resolved incidents listed, at most.
const RESOLVED_MAX: usize = 50;

/// Everything the page shows.
#[derive(Debug)]
pub struct View {
    pub totals: Totals,
    pub brands: Vec<BrandView>,
    /// Newest first.
    pub latest: Vec<Incident>,
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
    pub async fn gather(store: &dyn Store, brands: &[String]) -> Result<Self, StoreError> {
        let mut views = Vec::with_capacity(brands.len());
        for brand in brands {
            views.push(BrandView::gather(store, brand).await?);
        }
        // Brands with an open incident first, then those with the most tweets.
        views.sort_by_key(|b| (b.open().is_none(), std::cmp::Reverse(b.day.total)));
        let mut latest = store.incidents(INCIDENTS_MAX).await?;
        let mut resolved = 0;
        latest.retain(|incident| {
            resolved += usize::from(incident.resolved.is_some());
            incident.resolved.is_none() || resolved <= RESOLVED_MAX
        });
        Ok(Self { totals: store.totals().await?, brands: views, latest })
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
    async fn gather(store: &dyn Store, brand: &str) -> Result<Self, StoreError> {
        let mut view = Self {
            name: brand.to_owned(),
            hours: Vec::new(),
            day: Counts::default(),
            not_judged: Vec::new(),
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
        for (minute, counts) in store.minute_counts(brand, from, newest).await? {
            let place = usize::try_from(minute.0.div_euclid(60) - first_hour).ok();
            if let Some(hour) = place.and_then(|place| view.hours.get_mut(place)) {
                hour.counts += counts;
            }
            if minute > newest.plus(-1440) {
                view.day += counts;
            }
        }
        view.not_judged = store.not_judged(brand, newest.plus(-1439), newest).await?;
        view.incidents = store.incidents_since(brand, Cause::Share, from).await?;
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
