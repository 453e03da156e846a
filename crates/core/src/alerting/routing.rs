//! Decides which receivers are notified of a change of an incident, when, and by which route.
//!
//! **Invariant.** The result depends only on the routes, the change and `now`. Nobody is notified
//! before `now`, nor within quiet hours that apply to the change. A receiver is notified once of a
//! change, by the route with the earliest time.
//! Deliberately absent: silences per route (a silence applies to all routes; see
//! [`crate::domain::silenced`]), and checks of receivers' names (settings are checked at start).

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Days, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::{GapInfo, Tz};

use crate::domain::{Cause, Severity, Transition};

/// A rule that says who is notified of what, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// The route's name, for logs.
    pub name: String,
    /// Brands, or [`crate::domain::STREAM`]; empty means all brands and the stream.
    pub brands: Vec<String>,
    /// Causes; empty means all.
    pub causes: Vec<Cause>,
    /// Lowest severity that it applies to.
    pub severity_min: Severity,
    /// The receivers that it notifies.
    pub receivers: Vec<String>,
    /// Hours in which notifications are delayed.
    pub quiet: Option<QuietHours>,
    /// How long the first notification waits to be grouped with those of other brands; zero
    /// disables grouping.
    pub group_wait: TimeDelta,
}

/// Hours of the day without notifications, in the local time of a time zone, also on days when
/// clocks are put forward or back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuietHours {
    /// Start, in local time.
    pub from: NaiveTime,
    /// End, exclusive, in local time; on the next day if it is earlier than `from`. If both are
    /// equal, there are no quiet hours.
    pub to: NaiveTime,
    /// The time zone.
    pub zone: Tz,
    /// Lowest severity that is not delayed.
    pub severity: Severity,
}

impl QuietHours {
    /// Whether `at` is within the quiet hours.
    pub fn contains(&self, at: DateTime<Utc>) -> bool {
        let time = at.with_timezone(&self.zone).time();
        if self.from <= self.to {
            (self.from..self.to).contains(&time)
        } else {
            time >= self.from || time < self.to
        }
    }

    /// When the quiet hours that contain `now` end: at the next local time `to` that is outside
    /// the quiet hours. If clocks are put back and `to` occurs twice, this is the first
    /// occurrence after `now`. If clocks are put forward and skip `to`, it is the end of the
    /// skipped time.
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
            .expect("quiet hours are not all day, so they end within a week")
    }
}

/// When a notification is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At once.
    AtOnce,
    /// At this time, after the wait to group it with others.
    AfterGroupWait(DateTime<Utc>),
    /// At this time, when the quiet hours end.
    AfterQuietHours(DateTime<Utc>),
}

impl When {
    /// The earliest time to send it; `None` means at once.
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
    /// Whether the route notifies its receivers of this step, and when. `causes` are those of the
    /// incident's phases; one that the route is for is enough.
    ///
    /// # Errors
    /// [`RouteMismatch`] if it does not.
    pub fn evaluate(
        &self,
        brand: &str,
        causes: &[Cause],
        severity: Severity,
        transition: Transition,
        now: DateTime<Utc>,
    ) -> Result<When, RouteMismatch> {
        if !self.brands.is_empty() && !self.brands.iter().any(|b| b == brand) {
            return Err(RouteMismatch::OtherBrand);
        }
        if !self.causes.is_empty() && !causes.iter().any(|cause| self.causes.contains(cause)) {
            return Err(RouteMismatch::OtherCause);
        }
        if severity < self.severity_min {
            return Err(RouteMismatch::TooMild);
        }
        let quiet = self.quiet.filter(|quiet| severity < quiet.severity);
        let is_quiet = |at| quiet.is_some_and(|quiet| quiet.contains(at));
        let group_end = now + self.group_wait;
        match (quiet, transition) {
            (Some(_), Transition::Updated) if is_quiet(now) => Err(RouteMismatch::QuietHours),
            (Some(quiet), _) if is_quiet(now) => Ok(When::AfterQuietHours(quiet.end(now))),
            // Not grouped if the wait would end in quiet hours and delay it to the morning.
            (_, Transition::Opened) if group_end > now && !is_quiet(group_end) => {
                Ok(When::AfterGroupWait(group_end))
            }
            _ => Ok(When::AtOnce),
        }
    }
}

/// A receiver that is notified of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The receiver.
    pub receiver: String,
    /// The route that notifies it; `None` if there are no routes.
    pub route: Option<String>,
    /// When it is notified.
    pub when: When,
    /// Whether its notification may be grouped with those of other brands; never for one that is
    /// sent at once.
    pub group: bool,
}

/// The recipients of a change, sorted by receiver. If several routes notify a receiver, the one
/// with the earliest time applies, and of several with that time the first. Without routes, all
/// `receivers` are notified of everything at once.
pub fn route(
    routes: &[Route],
    receivers: &[String],
    brand: &str,
    causes: &[Cause],
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
    let mut recipients: BTreeMap<&str, Recipient> = BTreeMap::new();
    for route in routes {
        let Ok(when) = route.evaluate(brand, causes, severity, transition, now) else { continue };
        for receiver in &route.receivers {
            let has_earlier = recipients.get(receiver.as_str()).is_some_and(|known| {
                // `None` means at once and is less than any time.
                known.when.not_before() <= when.not_before()
            });
            if !has_earlier {
                let recipient = Recipient {
                    receiver: receiver.clone(),
                    route: Some(route.name.clone()),
                    when,
                    group: when != When::AtOnce && route.group_wait > TimeDelta::zero(),
                };
                recipients.insert(receiver, recipient);
            }
        }
    }
    recipients.into_values().collect()
}

#[cfg(test)]
mod tests;
