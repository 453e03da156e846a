//! The reason of a step, in one or two sentences; pure.

use monitor_core::alerting::{BuzzVerdict, Course, News, ResolveReason};
use monitor_core::domain::{
    Cause, Evidence, Interval, Minute, Phase, ShareEvidence, Transition, VolumeEvidence,
};
use monitor_core::format::{percent, percent_interval};

/// The reason of the end of an incident that no detector watches any more.
pub(super) const UNWATCHED: &str = "Closed because the settings or the detector's state have changed. \
                                   If the trouble goes on and is still watched, another alert follows.";

/// Of fewer tweets than this no share is told.
const FEW_TWEETS: u64 = 10;

/// The reason of a step of a brand's incident at `minute`.
pub(super) fn told(brand: &str, verdict: &BuzzVerdict, course: &Course, minute: Minute) -> String {
    let rise = |phase: &Phase| reason(brand, &phase.latest, Transition::Updated, None, minute);
    let end =
        |phase: &Phase| reason(brand, &phase.latest, Transition::Resolved, phase.ended_as, minute);
    let Some(leading) = course.leading() else { return String::new() };
    match verdict {
        BuzzVerdict::Quiet | BuzzVerdict::Open => rise(leading),
        BuzzVerdict::Reopen => format!("It is back. {}", rise(leading)),
        BuzzVerdict::Firing(news) if news.is_empty() => rise(leading),
        BuzzVerdict::Firing(News { joined, relapsed, ended }) => {
            let of = |causes: &[Cause], tell: &dyn Fn(&Phase) -> String| {
                let phases = causes.iter().filter_map(|cause| course.phase(*cause));
                phases.map(tell).collect::<Vec<_>>()
            };
            let joined = of(joined, &|phase| format!("New: {}", rise(phase)));
            let relapsed = of(relapsed, &|phase| format!("Again: {}", rise(phase)));
            let ended = of(ended, &|phase| format!("{} The incident goes on.", end(phase)));
            [joined, relapsed, ended].concat().join(" ")
        }
        BuzzVerdict::Resolve(why) => {
            let stayed = |phase: &&Phase| phase.ended_as == Some(ResolveReason::NewNormal);
            match course.phases.iter().find(stayed) {
                Some(phase) if phase.cause() != leading.cause() => {
                    debug_assert_eq!(*why, ResolveReason::NewNormal);
                    format!("{} {}", end(leading), end(phase))
                }
                _ => end(leading),
            }
        }
    }
}

/// The reason of a step at `minute`; `why` says how an incident of a brand ended.
pub fn reason(
    brand: &str,
    evidence: &Evidence,
    transition: Transition,
    why: Option<ResolveReason>,
    minute: Minute,
) -> String {
    let ended = transition == Transition::Resolved;
    match evidence {
        Evidence::Share(e) => match why {
            None if ended => format!("The share for {brand} is no longer watched."),
            None => rise(brand, e, minute),
            Some(ResolveReason::Calm) if e.recent.total < FEW_TWEETS => format!(
                "Few tweets about {brand} come any more: {} in the last {}, {} of them negative.",
                e.recent.total,
                span(i64::from(e.recent_minutes)),
                e.recent.negative,
            ),
            Some(ResolveReason::Calm) => format!(
                "{} of the {} tweets about {brand} in the last {} were negative, back near the {} \
                 expected.",
                percent(e.recent.share().unwrap_or(0.0)),
                e.recent.total,
                span(i64::from(e.recent_minutes)),
                percent(e.expected_share),
            ),
            Some(ResolveReason::NewNormal) => format!(
                "The share for {brand} has stayed up ({} now, {} before) for so long that it is \
                 taken as the new normal.",
                percent(e.recent.share().unwrap_or(0.0)),
                percent(e.expected_share),
            ),
        },
        Evidence::NegativeVolume(e) => volume(brand, "negative tweets", e, why, ended, minute),
        Evidence::Surge(e) => volume(brand, "tweets", e, why, ended, minute),
        Evidence::Quiet(_) if ended => "Tweets are coming again.".to_owned(),
        Evidence::Quiet(e) => format!(
            "No record has come for {}{}, in which {:.0} tweets were expected: check what feeds the \
             topic. Meanwhile no brand is watched.",
            span(i64::from(e.minutes)),
            e.last.map_or(String::new(), |at| format!(" (the last at {})", at.format("%H:%M UTC"))),
            e.expected_tweets,
        ),
        Evidence::BrandQuiet(_) if ended => format!("Tweets about {brand} are coming again."),
        Evidence::BrandQuiet(e) if e.minutes < e.limit_minutes => format!(
            "Tweets about {brand} are coming again; the alert ends once they have for {}.",
            span(i64::from(e.limit_minutes)),
        ),
        Evidence::BrandQuiet(e) => format!(
            "No tweet about {brand} has come for {}{}, in which {:.0} were expected, while the stream goes on: check \
             what collects its tweets, and its keywords. Meanwhile {brand} is not watched.",
            span(i64::from(e.minutes)),
            e.last.map_or(String::new(), |at| format!(" (the last at {})", at.format("%H:%M UTC"))),
            e.expected_tweets,
        ),
        Evidence::Lag(_) if ended => "Reading keeps up with the stream again.".to_owned(),
        Evidence::Lag(e) => format!(
            "The oldest record not yet read is {} old, more than {} minutes: alerts about brands \
             come late. Check the daemon's log and Postgres, or start another daemon.",
            span(i64::from(e.behind_minutes)),
            e.limit_minutes,
        ),
    }
}

fn volume(
    brand: &str,
    what: &str,
    e: &VolumeEvidence,
    why: Option<ResolveReason>,
    ended: bool,
    minute: Minute,
) -> String {
    let VolumeEvidence { observed, expected, .. } = e;
    let span = span(minute.0 - e.since.0 + 1);
    match why {
        Some(ResolveReason::NewNormal) => format!(
            "There have been as many {what} about {brand} for two days, {:.1} times as many as before: \
             this is taken as the new normal.",
            e.times()
        ),
        _ if ended => format!(
            "{brand} has its usual number of {what} again. Since {}, {observed} came where \
             {expected:.0} were expected.",
            e.since.start().format("%-d %b, %H:%M UTC")
        ),
        _ => {
            format!("{observed} {what} about {brand} in {span}, where {expected:.0} were expected.")
        }
    }
}

fn rise(brand: &str, e: &ShareEvidence, minute: Minute) -> String {
    let observed = format!(
        "{} of the {} tweets about {brand} in the last {} were negative ({}), where its own past \
         leads us to expect {} ({})",
        percent(e.observed_share()),
        e.observed.total,
        span(minute.0 - e.since.0 + 1),
        interval(e.observed_interval),
        percent(e.expected_share),
        interval(e.expected_interval),
    );
    match e.rule {
        "e-detector" => {
            format!("{observed}. Chance alone does this at most once in {}.", time(e.threshold),)
        }
        "share-above" => format!("{observed}; the rule alerts from {} on.", percent(e.threshold)),
        _ => format!(
            "{observed}; it is {:.1} times that of the window before, and the rule alerts from \
             {:.1} times on.",
            e.statistic, e.threshold
        ),
    }
}

/// A time in months of 30 days, as text with a suitable unit.
fn time(months: f64) -> String {
    let count = |n: f64, noun: &str| match n.round() {
        1.0 => format!("a {noun}"),
        n => format!("{n} {noun}s"),
    };
    match months {
        m if m >= 24.0 => count(m * 30.0 / 365.0, "year"),
        m if m >= 0.9 => count(m, "month"),
        m => count((m * 30.0).max(1.0), "day"),
    }
}

fn interval(Interval { low, high }: Interval) -> String {
    percent_interval(low, high)
}

fn span(minutes: i64) -> String {
    match minutes {
        1 => "minute".to_owned(),
        60 => "hour".to_owned(),
        m if m > 60 && m % 60 == 0 => format!("{} hours", m / 60),
        m if m > 180 => format!("{:.1} hours", m as f64 / 60.0),
        m => format!("{m} minutes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use monitor_core::domain::Counts;

    #[test]
    fn a_reason_names_the_figures() {
        let evidence = |rule, statistic, threshold| {
            Evidence::Share(ShareEvidence {
                rule,
                since: Minute(1000),
                window_minutes: 95,
                observed: Counts { total: 120, negative: 80 },
                observed_interval: Interval { low: 0.58, high: 0.75 },
                recent_minutes: 15,
                recent: Counts { total: 20, negative: 9 },
                baseline: Counts { total: 2000, negative: 800 },
                expected_share: 0.4,
                expected_interval: Interval { low: 0.37, high: 0.43 },
                statistic,
                threshold,
                dispersion: 1.2,
            })
        };
        let check = |name: &str, evidence: Evidence, transition, why, expected: &str| {
            let found = reason("Acme", &evidence, transition, why, Minute(1094));
            assert_eq!(found, expected, "{name}");
        };
        use Transition::{Opened, Resolved};
        let rise = "67 % of the 120 tweets about Acme in the last 95 minutes were negative (58 to 75 %), \
                    where its own past leads us to expect 40 % (37 to 43 %)";
        check(
            "e-detector",
            evidence("e-detector", 1.0, 1.0),
            Opened,
            None,
            &format!("{rise}. Chance alone does this at most once in a month."),
        );
        check(
            "a strict budget",
            evidence("e-detector", 100.0, 100.0),
            Opened,
            None,
            &format!("{rise}. Chance alone does this at most once in 8 years."),
        );
        check(
            "a generous budget",
            evidence("e-detector", 0.1, 0.1),
            Opened,
            None,
            &format!("{rise}. Chance alone does this at most once in 3 days."),
        );
        check(
            "share-above",
            evidence("share-above", 0.67, 0.5),
            Opened,
            None,
            &format!("{rise}; the rule alerts from 50 % on."),
        );
        check(
            "calm",
            evidence("e-detector", 1.0, 1.0),
            Resolved,
            Some(ResolveReason::Calm),
            "45 % of the 20 tweets about Acme in the last 15 minutes were negative, back near the 40 % \
             expected.",
        );
        let few = |evidence| match evidence {
            Evidence::Share(e) => {
                Evidence::Share(ShareEvidence { recent: Counts { total: 1, negative: 0 }, ..e })
            }
            other => other,
        };
        check(
            "one tweet",
            few(evidence("e-detector", 1.0, 1.0)),
            Resolved,
            Some(ResolveReason::Calm),
            "Few tweets about Acme come any more: 1 in the last 15 minutes, 0 of them negative.",
        );
    }
}
