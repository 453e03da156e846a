//! Compares alerts with a file of what really happened.
//!
//! **Invariant.** An episode is found if an incident of its brand was open at any time of it; what counts is
//! when the incident opened, or opened again. An alert is false if its incident was open in no episode of its
//! brand. Pure.

use chrono::{DateTime, Utc};
use serde::Serialize;

use monitor_core::alerting::Alert;
use monitor_core::domain::Minute;

use super::Trial;

/// Something that really happened to a brand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Episode {
    /// What happened.
    pub name: String,
    /// The brand; `None` stands for all brands.
    pub brand: Option<String>,
    /// The first minute.
    pub start: Minute,
    /// The last minute, included.
    pub end: Minute,
}

/// What a rule made of the episodes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Detection {
    /// One for each episode, in the order of the file.
    pub episodes: Vec<Found>,
    /// Alerts outside all episodes.
    pub false_alarms: usize,
    /// The same for each brand in 30 days; `None` for a time that is too short.
    pub false_alarms_per_30_days: Option<f64>,
}

/// An episode, and whether and when it was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// What happened.
    pub name: String,
    /// When it began.
    pub start: DateTime<Utc>,
    /// When the first alert about it opened, or opened again; `None` if it was missed.
    pub opened: Option<DateTime<Utc>>,
    /// The alert's cause.
    pub cause: Option<&'static str>,
    /// Minutes from its beginning to the alert; 0 if an incident was open already.
    pub delay_minutes: Option<i64>,
}

/// What the alerts of a trial make of the episodes.
pub(super) fn detect(trial: &Trial, episodes: &[Episode]) -> Detection {
    let alerts: Vec<(&str, &Alert)> = (trial.brands.iter())
        .flat_map(|result| result.outcome.alerts.iter().map(|alert| (&*result.brand, alert)))
        .collect();
    // When an alert opened of which the episode has seen something.
    let opened = |episode: &Episode, (brand, alert): &(&str, &Alert)| {
        let is_seen = |(from, to): &&(Minute, Option<Minute>)| {
            *from <= episode.end && to.is_none_or(|to| to >= episode.start)
        };
        let is_of = episode.brand.as_deref().is_none_or(|of| of == *brand);
        alert.spans.iter().find(is_seen).map(|(from, _)| *from).filter(|_| is_of)
    };
    let found = |episode: &Episode| {
        let of_it = alerts.iter().filter_map(|it| Some((opened(episode, it)?, it.1)));
        let first = of_it.min_by_key(|(opened, _)| *opened);
        Found {
            name: episode.name.clone(),
            start: episode.start.start(),
            opened: first.map(|(opened, _)| opened.start()),
            cause: first.map(|(_, alert)| alert.opening.cause().as_str()),
            delay_minutes: first.map(|(opened, _)| (opened.0 + 1 - episode.start.0).max(0)),
        }
    };
    let is_false = |alert: &&(&str, &Alert)| !episodes.iter().any(|it| opened(it, alert).is_some());
    let false_alarms = alerts.iter().filter(is_false).count();
    Detection {
        episodes: episodes.iter().map(found).collect(),
        false_alarms,
        false_alarms_per_30_days: super::report::rate(false_alarms, trial.watched_days()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backtest::BrandOutcome;
    use monitor_core::alerting::{Backtest, ResolveReason};
    use monitor_core::domain::{Evidence, LagEvidence, Severity};

    fn alert(opened: i64, resolved: Option<i64>) -> Alert {
        let evidence = Evidence::Lag(LagEvidence { behind_minutes: 1, limit_minutes: 1 });
        Alert {
            opened: Minute(opened),
            resolved: resolved.map(|at| (Minute(at), ResolveReason::Calm)),
            opening: evidence,
            severity: Severity::Notice,
            phases: Vec::new(),
            spans: vec![(Minute(opened), resolved.map(Minute))],
        }
    }

    #[test]
    fn finds_misses_and_false_alarms() {
        let outcome = |brand: &str, alerts| BrandOutcome {
            brand: brand.into(),
            from: Minute(0),
            to: Minute(14_400),
            outcome: Backtest { alerts, minutes: 14_400, ..Backtest::default() },
        };
        let trial = Trial {
            rule: "r".into(),
            alerting: monitor_config::Alerting::default(),
            brands: vec![
                outcome("a", vec![alert(100, Some(150)), alert(900, Some(1000))]),
                outcome("b", vec![alert(5000, None)]),
            ],
        };
        let episode = |name: &str, brand: Option<&str>, start, end| Episode {
            name: name.into(),
            brand: brand.map(str::to_owned),
            start: Minute(start),
            end: Minute(end),
        };
        let found = detect(
            &trial,
            &[
                episode("storm", Some("a"), 80, 400),
                episode("strike", Some("a"), 2000, 3000),
                episode("leak", None, 5500, 6000),
            ],
        );
        let delays: Vec<_> = found.episodes.iter().map(|found| found.delay_minutes).collect();
        assert_eq!(delays, [Some(21), None, Some(0)]);
        assert_eq!(found.false_alarms, 1, "the one of minute 900");
        assert_eq!(found.false_alarms_per_30_days, Some(1.5), "in twenty days");
    }
}
