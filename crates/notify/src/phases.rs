//! What happens to a brand, in words: all views of its incident in one line, and its course; pure.
//!
//! **Invariant.** Depends only on the notification. Deliberately absent: statistics.

use chrono::{DateTime, Utc};

use monitor_core::domain::{Counts, Evidence, Phase, ResolveReason};
use monitor_core::format::percent;
use monitor_store::Notification;

/// Shares that are told as a fraction.
const FRACTIONS: [(f64, &str); 11] = [
    (0.10, "1 in 10"),
    (0.20, "1 in 5"),
    (0.25, "1 in 4"),
    (1.0 / 3.0, "1 in 3"),
    (0.40, "2 in 5"),
    (0.50, "half"),
    (0.60, "3 in 5"),
    (2.0 / 3.0, "2 in 3"),
    (0.75, "3 in 4"),
    (0.80, "4 in 5"),
    (0.90, "9 in 10"),
];

/// What happens to a brand, such as "50 times as many tweets as usual, 3 in 4 negative, since 20:10";
/// `None` if it is about the stream.
pub fn now(n: &Notification) -> Option<String> {
    let open: Vec<&Evidence> =
        n.phases.iter().filter(|phase| phase.is_open()).map(|phase| &phase.latest).collect();
    let views = if open.is_empty() { vec![&n.evidence] } else { open };
    let since = views.iter().filter_map(|view| view.since()).min()?;
    let volume = views.iter().find_map(|view| match view {
        Evidence::Surge(e) => Some((e, "")),
        _ => None,
    });
    let volume = volume.or_else(|| {
        views.iter().find_map(|view| match view {
            Evidence::NegativeVolume(e) => Some((e, "negative ")),
            _ => None,
        })
    });
    let share = views.iter().find_map(|view| view.share());
    let what = match (volume, share) {
        (Some((e, negative)), share) => {
            let counts = share.map_or(e.tweets, |share| share.observed);
            format!("{} as many {negative}tweets as usual{}", times(e.times()), part(counts))
        }
        (None, Some(share)) => format!(
            "{} of the tweets are negative, usually {}",
            percent(share.observed_share()),
            percent(share.expected_share)
        ),
        (None, None) => return None,
    };
    Some(format!("{what}, since {}", clock(since.start(), n.at)))
}

/// What has happened so far, a line for each phase; none if there was only one, without a relapse.
pub fn course(n: &Notification) -> Vec<String> {
    match &n.phases[..] {
        [] => Vec::new(),
        [phase] if phase.relapses == 0 => Vec::new(),
        phases => phases.iter().map(|phase| line(phase, n.at)).collect(),
    }
}

/// Whether an incident that ends has not calmed down: a level that stays is the new normal.
pub fn is_new_normal(n: &Notification) -> bool {
    n.phases.iter().any(|phase| phase.ended_as == Some(ResolveReason::NewNormal))
}

fn line(phase: &Phase, today: DateTime<Utc>) -> String {
    let at = |minute: monitor_core::domain::Minute| clock(minute.start(), today);
    let mut text = format!("{}: {}", at(phase.began), size(&phase.opening));
    if phase.peak_at != phase.began {
        text += &format!("; at its peak ({}) {}", at(phase.peak_at), size(&phase.peak));
    }
    match phase.relapses {
        0 => {}
        1 => text += "; came back once",
        n => text += &format!("; came back {n} times"),
    }
    match (phase.ended, phase.ended_as) {
        (None, _) => text += "; goes on",
        (Some(end), Some(ResolveReason::NewNormal)) => {
            text += &format!("; the new normal since {}", at(end));
        }
        (Some(end), _) => text += &format!("; over since {}", at(end)),
    }
    text
}

/// How large it is: "78 % negative, usually 55 %".
pub fn size(evidence: &Evidence) -> String {
    match evidence {
        Evidence::Share(e) => format!(
            "{} negative, usually {}",
            percent(e.observed_share()),
            percent(e.expected_share)
        ),
        Evidence::NegativeVolume(e) => {
            format!("{} as many negative tweets as usual", times(e.times()))
        }
        Evidence::Surge(e) => format!("{} as many tweets as usual", times(e.times())),
        Evidence::Quiet(_) | Evidence::BrandQuiet(_) | Evidence::Lag(_) => String::new(),
    }
}

/// The negative part of tweets; nothing of few tweets, or if hardly any is negative.
fn part(counts: Counts) -> String {
    let Some(share) = counts.share().filter(|_| counts.total >= 10) else { return String::new() };
    if share < 0.05 {
        return String::new();
    }
    if share >= 0.95 {
        return ", nearly all negative".into();
    }
    let distance = |fraction: &(f64, &str)| (fraction.0 - share).abs();
    let nearest = FRACTIONS.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
    nearest.map_or_else(String::new, |(_, words)| format!(", {words} negative"))
}

/// A factor: "4.1 times", "12 times".
pub fn times(factor: f64) -> String {
    if factor < 9.95 { format!("{factor:.1} times") } else { format!("{factor:.0} times") }
}

/// A time of day, with the date unless it is that of `today`.
pub fn clock(at: DateTime<Utc>, today: DateTime<Utc>) -> String {
    let same = at.date_naive() == today.date_naive();
    at.format(if same { "%H:%M" } else { "%-d %b, %H:%M" }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::fixtures;
    use monitor_core::domain::Cause;

    #[test]
    fn tells_all_views_in_one_line() {
        let check = |name: &str, n: &Notification, expected: Option<&str>| {
            assert_eq!(now(n).as_deref(), expected, "{name}");
        };
        let of = |cause| fixtures::notification(cause, "opened");
        let share = "78 % of the tweets are negative, usually 55 %, since 13:20";
        check("share", &of(Cause::Share), Some(share));
        let negative = "5.0 times as many negative tweets as usual, 1 in 3 negative, since 13:20";
        check("negative volume", &of(Cause::NegativeVolume), Some(negative));
        let surge = "4.1 times as many tweets as usual, 1 in 3 negative, since 13:20";
        check("surge", &of(Cause::Surge), Some(surge));
        check("stream", &of(Cause::Lag), None);
        let all = fixtures::crisis("updated");
        let joined = "5.0 times as many negative tweets as usual, 4 in 5 negative, since 13:20";
        check("share and negative volume", &all, Some(joined));
    }

    #[test]
    fn tells_the_course_of_several_phases() {
        assert_eq!(course(&fixtures::notification(Cause::Share, "updated")), [""; 0]);
        insta::assert_snapshot!(course(&fixtures::crisis("updated")).join("\n"), @r"
        14:05: 78 % negative, usually 55 %; came back once; goes on
        14:20: 5.0 times as many negative tweets as usual; goes on
        ");
        insta::assert_snapshot!(course(&fixtures::crisis("resolved")).join("\n"), @r"
        14:05: 65 % negative, usually 55 %; came back once; the new normal since 18:45
        14:20: 1.3 times as many negative tweets as usual; over since 18:45
        ");
    }

    #[test]
    fn a_share_is_told_as_a_fraction() {
        let check = |negative, expected: &str| {
            assert_eq!(part(Counts { total: 100, negative }), expected, "{negative} %");
        };
        check(3, "");
        check(74, ", 3 in 4 negative");
        check(52, ", half negative");
        check(97, ", nearly all negative");
        assert_eq!(part(Counts { total: 3, negative: 3 }), "", "few tweets");
    }
}
