//! Why a receiver is not notified of an incident; pure.
//!
//! The model is Alertmanager's `NotifyReason`: every notification that is not sent has a
//! reason, with the same word in metrics, logs and JSON.
//!
//! **Invariant.** Of a step, each receiver gets either a notification or a [`Suppressed`].
//! Deliberately absent: failed deliveries, which are the dispatcher's.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::lifecycle::Audience;
use super::routing::{Recipient, RouteMismatch};
use crate::domain::{Cause, Incident, Minute, Notified, Severity, Silence, Transition};
use crate::keywords;

/// Why a receiver is not notified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum SuppressReason {
    /// A silence covers the brand.
    Silenced,
    /// Somebody has acknowledged the incident, and it has not become worse.
    Acknowledged,
    /// The minute is long past: the daemon is catching up.
    CatchingUp,
    /// No route names the receiver.
    NoRoute,
    /// Its routes are for other brands.
    OtherBrand,
    /// Its routes are for other causes.
    OtherCause,
    /// Its routes are for worse incidents.
    TooMild,
    /// Updates are dropped in its route's quiet hours.
    QuietHours,
    /// It was notified of this severity, and the repeat interval has not passed.
    RepeatNotDue,
    /// It was notified of this severity, and repeats are switched off.
    RepeatsOff,
    /// The incident ends, and the receiver was never notified of it.
    NeverNotified,
}

keywords!(SuppressReason:
    "silenced" => Silenced,
    "acknowledged" => Acknowledged,
    "catching_up" => CatchingUp,
    "no_route" => NoRoute,
    "other_brand" => OtherBrand,
    "other_cause" => OtherCause,
    "too_mild" => TooMild,
    "quiet_hours" => QuietHours,
    "repeat_not_due" => RepeatNotDue,
    "repeats_off" => RepeatsOff,
    "never_notified" => NeverNotified,
);

impl From<RouteMismatch> for SuppressReason {
    fn from(reason: RouteMismatch) -> Self {
        match reason {
            RouteMismatch::OtherBrand => Self::OtherBrand,
            RouteMismatch::OtherCause => Self::OtherCause,
            RouteMismatch::TooMild => Self::TooMild,
            RouteMismatch::QuietHours => Self::QuietHours,
        }
    }
}

/// A notification that a receiver does not get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppressed {
    /// The receiver.
    pub receiver: String,
    /// Why.
    pub reason: SuppressReason,
    /// Which silence, route or person, or when the next repeat is due.
    pub detail: String,
}

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason.as_str().replace('_', " "))?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, " ({})", self.detail) }
    }
}

/// A step, or the state of an open incident, as far as the reasons depend on it.
#[derive(Debug, Clone, Copy)]
pub struct Occasion<'a> {
    /// The brand, or [`crate::domain::STREAM`].
    pub brand: &'a str,
    /// The causes of its phases.
    pub causes: &'a [Cause],
    /// What happened; `Updated` also for an incident that goes on unchanged.
    pub transition: Transition,
    /// Severity now.
    pub severity: Severity,
    /// The incident; `None` if it opens now for the first time.
    pub incident: Option<&'a Incident>,
    /// The receivers that were notified of it before.
    pub notified: &'a [Notified],
    /// The minute in which the latest phase joined.
    pub joined: Option<Minute>,
    /// The minute evaluated.
    pub minute: Minute,
    /// Wall-clock time.
    pub now: DateTime<Utc>,
    /// The silence that covers the brand now, if any.
    pub silence: Option<&'a Silence>,
    /// Whether the minute is so long past that this is not told by itself; never of a resolution.
    pub stale: bool,
}

impl Audience {
    /// The receivers that are notified on this occasion.
    pub fn recipients(&self, o: &Occasion) -> Vec<Recipient> {
        match (o.transition, o.incident) {
            (Transition::Resolved, Some(incident)) if incident.missed => Vec::new(),
            (Transition::Resolved, Some(_)) => self.resolved(o),
            _ if o.silence.is_some() || o.stale => Vec::new(),
            // They know that it had ended, and not that it opened again.
            (Transition::Updated, Some(incident)) if incident.missed && !o.notified.is_empty() => {
                self.reopened(o)
            }
            (Transition::Updated, Some(incident)) => self.updated(o, incident),
            (Transition::Reopened, Some(_)) => self.reopened(o),
            _ => self.opened(o),
        }
    }

    /// The receivers that are not among `recipients`, with the reason for each.
    pub fn suppressed(&self, o: &Occasion, recipients: &[Recipient]) -> Vec<Suppressed> {
        self.receivers
            .iter()
            .filter(|receiver| recipients.iter().all(|recipient| recipient.receiver != **receiver))
            .map(|receiver| {
                let (reason, detail) = self.reason(o, receiver);
                Suppressed { receiver: receiver.clone(), reason, detail }
            })
            .collect()
    }

    fn reason(&self, o: &Occasion, receiver: &str) -> (SuppressReason, String) {
        if o.transition == Transition::Resolved && o.incident.is_some_and(|it| it.missed) {
            return (SuppressReason::CatchingUp, "told in one digest".into());
        }
        if o.transition == Transition::Resolved {
            return (SuppressReason::NeverNotified, String::new());
        }
        if let Some(silence) = o.silence {
            let detail = format!("silence {} by {}: {}", silence.id, silence.who, silence.reason);
            return (SuppressReason::Silenced, detail);
        }
        if o.stale {
            return (SuppressReason::CatchingUp, String::new());
        }
        let notified = o.notified.iter().find(|notified| notified.receiver == receiver);
        let transition = match (o.transition, notified) {
            (Transition::Updated, Some(_)) => Transition::Updated,
            _ => Transition::Opened,
        };
        if let Some(unrouted) = self.unrouted(o, receiver, transition) {
            return unrouted;
        }
        if let Some(by) = o.incident.and_then(|incident| incident.acknowledged.as_ref()) {
            return (SuppressReason::Acknowledged, format!("by {}", by.by));
        }
        let Some(notified) = notified.filter(|_| self.repeat_minutes > 0) else {
            return (SuppressReason::RepeatsOff, String::new());
        };
        let next = notified.at.start() + TimeDelta::minutes(i64::from(self.repeat_minutes));
        let detail = format!("next repeat due {}", next.format("%Y-%m-%d %H:%M UTC"));
        (SuppressReason::RepeatNotDue, detail)
    }

    /// Why no route leads to the receiver; `None` if one does. Of several routes the one that
    /// came closest counts.
    fn unrouted(
        &self,
        o: &Occasion,
        receiver: &str,
        transition: Transition,
    ) -> Option<(SuppressReason, String)> {
        if self.routes.is_empty() {
            return None;
        }
        let mut closest = None;
        for route in &self.routes {
            if !route.receivers.iter().any(|name| name == receiver) {
                continue;
            }
            match route.evaluate(o.brand, o.causes, o.severity, transition, o.now) {
                Ok(_) => return None,
                Err(reason) => {
                    let reason = (SuppressReason::from(reason), format!("route {}", route.name));
                    closest = closest.max(Some(reason));
                }
            }
        }
        Some(closest.unwrap_or((SuppressReason::NoRoute, String::new())))
    }
}

#[cfg(test)]
mod tests;
