//! Who hears of an incident's step, when, and by which route.
//!
//! **Invariant.** The answer depends on the routes, the step and `now` alone. Nobody is
//! told before `now`, nor within quiet hours that hold for the step; a receiver hears once
//! of a step, by the route that tells it first.
//! Deliberately absent: silences in routes (nobody hears of a silenced brand, whatever the
//! route; see [`crate::domain::silenced`]), and receivers' names (settings are checked at start).

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Days, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::{GapInfo, Tz};

use crate::domain::{Cause, Severity, Transition};

/// A rule that says who hears of what, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Its name, which stands in logs as the reason.
    pub name: String,
    /// Brands, or [`crate::domain::STREAM`]; empty is all, and the stream.
    pub brands: Vec<String>,
    /// Causes; empty is all.
    pub causes: Vec<Cause>,
    /// The mildest severity told.
    pub severity_min: Severity,
    /// Who is told.
    pub receivers: Vec<String>,
    /// Hours in which notifications wait.
    pub quiet: Option<QuietHours>,
    /// How long a first notification waits for other brands to join it; zero is no grouping.
    pub group_wait: TimeDelta,
}

/// Hours of the day in which people are left alone. What a clock on the wall shows there
/// decides, also on days when it is put forward or back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuietHours {
    /// From here, by the zone's clock ...
    pub from: NaiveTime,
    /// ... up to but not including here, over midnight where it is earlier than `from`. Where
    /// both are the same there are no quiet hours.
    pub to: NaiveTime,
    /// Whose clock.
    pub zone: Tz,
    /// The mildest severity that does not wait.
    pub severity: Severity,
}

impl QuietHours {
    /// Whether `at` lies in them.
    pub fn contains(&self, at: DateTime<Utc>) -> bool {
        let time = at.with_timezone(&self.zone).time();
        if self.from <= self.to {
            (self.from..self.to).contains(&time)
        } else {
            time >= self.from || time < self.to
        }
    }

    /// When the quiet hours that hold `now` end: the next time that the clock shows `to`. Where
    /// it shows it twice, as it is put back, the first; where it leaves it out, as it is put
    /// forward, the time that it is put forward to.
    fn end(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let today = now.with_timezone(&self.zone).date_naive();
        (0..7)
            .filter_map(|days| Some(today.checked_add_days(Days::new(days))?.and_time(self.to)))
            .flat_map(|local| {
                let shown = self.zone.from_local_datetime(&local);
                let skipped = GapInfo::new(&local, &self.zone).and_then(|gap| gap.end);
                [shown.earliest(), shown.latest(), skipped]
            })
            .flatten()
            .map(|end| end.with_timezone(&Utc))
            .find(|end| *end > now && !self.contains(*end))
            .expect("in some day of a week the clock shows the end of hours that are not all day")
    }
}

/// When somebody hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At once.
    AtOnce,
    /// Then, as others may join it meanwhile.
    AfterGroupWait(DateTime<Utc>),
    /// Then, as the quiet hours are over.
    AfterQuietHours(DateTime<Utc>),
}

impl When {
    /// The earliest time to send it; `None` is at once.
    pub fn not_before(self) -> Option<DateTime<Utc>> {
        match self {
            Self::AtOnce => None,
            Self::AfterGroupWait(at) | Self::AfterQuietHours(at) => Some(at),
        }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtOnce => write!(f, "at once"),
            Self::AfterGroupWait(at) => write!(f, "at {at}, so that others can join it"),
            Self::AfterQuietHours(at) => write!(f, "at {at}, after the quiet hours"),
        }
    }
}

/// Why a route does not notify its receivers of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteMismatch {
    /// It is for other brands.
    OtherBrand,
    /// It is for other causes.
    OtherCause,
    /// It is for worse incidents.
    TooMild,
    /// It is an update in quiet hours: the next update is enough.
    QuietHours,
}

impl fmt::Display for RouteMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherBrand => "it is for other brands",
            Self::OtherCause => "it is for other causes",
            Self::TooMild => "it is for worse incidents",
            Self::QuietHours => "updates are dropped in its quiet hours",
        })
    }
}

impl Route {
    /// Whether the route notifies its receivers of this step, and when.
    ///
    /// # Errors
    /// [`RouteMismatch`] if it does not.
    pub fn evaluate(
        &self,
        brand: &str,
        cause: Cause,
        severity: Severity,
        transition: Transition,
        now: DateTime<Utc>,
    ) -> Result<When, RouteMismatch> {
        if !self.brands.is_empty() && !self.brands.iter().any(|b| b == brand) {
            return Err(RouteMismatch::OtherBrand);
        }
        if !self.causes.is_empty() && !self.causes.contains(&cause) {
            return Err(RouteMismatch::OtherCause);
        }
        if severity < self.severity_min {
            return Err(RouteMismatch::TooMild);
        }
        let quiet = self.quiet.filter(|quiet| severity < quiet.severity);
        let is_quiet = |at| quiet.is_some_and(|quiet| quiet.contains(at));
        let gathered = now + self.group_wait;
        match (quiet, transition) {
            (Some(_), Transition::Updated) if is_quiet(now) => Err(RouteMismatch::QuietHours),
            (Some(quiet), _) if is_quiet(now) => Ok(When::AfterQuietHours(quiet.end(now))),
            // Better alone than in the morning.
            (_, Transition::Opened) if gathered > now && !is_quiet(gathered) => {
                Ok(When::AfterGroupWait(gathered))
            }
            _ => Ok(When::AtOnce),
        }
    }
}

/// Somebody who hears of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The receiver.
    pub receiver: String,
    /// The route by which it hears; `None` where there are no routes.
    pub route: Option<String>,
    /// When.
    pub when: When,
    /// Whether it may be told together with what it is told of other brands. What goes at
    /// once never waits for others.
    pub group: bool,
}

/// Who hears of a step, by receiver. Of several routes to one receiver the one that tells it
/// first counts, and of those the first. Where there are no routes all of `receivers` hear
/// of everything at once.
pub fn route(
    routes: &[Route],
    receivers: &[String],
    brand: &str,
    cause: Cause,
    severity: Severity,
    transition: Transition,
    now: DateTime<Utc>,
) -> Vec<Recipient> {
    if routes.is_empty() {
        let at_once = |receiver: &String| Recipient {
            receiver: receiver.clone(),
            route: None,
            when: When::AtOnce,
            group: false,
        };
        return receivers.iter().map(at_once).collect();
    }
    let mut told: BTreeMap<&str, Recipient> = BTreeMap::new();
    for route in routes {
        let Ok(when) = route.evaluate(brand, cause, severity, transition, now) else { continue };
        for receiver in &route.receivers {
            let earlier = told.get(receiver.as_str()).is_some_and(|known| {
                // `None`, at once, is before any time.
                known.when.not_before() <= when.not_before()
            });
            if !earlier {
                let recipient = Recipient {
                    receiver: receiver.clone(),
                    route: Some(route.name.clone()),
                    when,
                    group: when != When::AtOnce && route.group_wait > TimeDelta::zero(),
                };
                told.insert(receiver, recipient);
            }
        }
    }
    told.into_values().collect()
}

#[cfg(test)]
mod tests;
