//! The first lines of a mail: what happened, and since when.

use monitor_core::domain::{Evidence, LagEvidence, QuietEvidence, ShareEvidence, VolumeEvidence};
use monitor_core::format::percent;
use monitor_store::Notification;

use super::super::phases;
use super::super::words::{line, moment};
use super::word;
use super::words::length;

/// A share that ends further above the expected one has not calmed down.
const STILL_HIGH: f64 = 0.05;

/// What happened, in one line.
pub(super) fn headline(n: &Notification) -> String {
    let brand = word(&n.brand);
    if n.transition != "resolved"
        && let Some(now) = phases::now(n)
    {
        let turn = match n.transition.as_str() {
            "updated" => ", still",
            "reopened" => ", again",
            _ => "",
        };
        return format!("{brand}{turn}: {now}");
    }
    match (&n.evidence, n.transition.as_str()) {
        (Evidence::Share(e), _) if is_still_high(n) => format!(
            "{} of the tweets about {brand} are negative: this is the new normal",
            percent(e.recent_share())
        ),
        (Evidence::NegativeVolume(_) | Evidence::Surge(_), _) if is_still_high(n) => {
            format!("{brand}: what was a rise is the new normal")
        }
        (Evidence::Share(_) | Evidence::NegativeVolume(_), _) => {
            format!("{brand}: the alert has ended")
        }
        (Evidence::Surge(_), _) => format!("{brand}: the surge of tweets has ended"),
        (Evidence::Quiet(_), "resolved") => "Tweets arrive again".into(),
        (Evidence::Quiet(QuietEvidence { minutes, .. }), transition) => {
            let no = if transition == "updated" { "Still no" } else { "No" };
            format!("{no} tweet has arrived for {}", length(u64::from(*minutes)))
        }
        (Evidence::BrandQuiet(_), "resolved") => format!("{brand}: tweets arrive again"),
        (Evidence::BrandQuiet(QuietEvidence { minutes, .. }), transition) => {
            let no = if transition == "updated" { "still no" } else { "no" };
            format!("{brand}: {no} tweet for {}", length(u64::from(*minutes)))
        }
        (Evidence::Lag(_), "resolved") => "Reading has caught up".into(),
        (Evidence::Lag(LagEvidence { behind_minutes, .. }), transition) => {
            let still = if transition == "updated" { "still " } else { "" };
            format!("Reading is {still}{} behind", length(u64::from(*behind_minutes)))
        }
    }
}

/// Whether an incident that ends has not calmed down but has become the new normal.
pub(super) fn is_still_high(n: &Notification) -> bool {
    match &n.evidence {
        _ if !n.phases.is_empty() => phases::is_new_normal(n),
        Evidence::Share(e) => e.recent_share() - e.expected_share >= STILL_HIGH,
        Evidence::NegativeVolume(e) | Evidence::Surge(e) => e.statistic >= e.threshold,
        Evidence::Quiet(_) | Evidence::BrandQuiet(_) | Evidence::Lag(_) => false,
    }
}

/// When the incident began and how long it has lasted; for the stream also the consequence.
pub(super) fn period(n: &Notification) -> String {
    let minutes = (n.at - n.opened_at).num_minutes().unsigned_abs();
    let (opened, lasted) = (moment(n.opened_at), length(minutes));
    match (&n.evidence, n.transition.as_str()) {
        (_, "resolved") => format!("From {opened} to {}: {lasted}.", moment(n.at)),
        (Evidence::Quiet(QuietEvidence { last, .. }), _) => {
            let since = last.map_or(opened, moment);
            format!("Since {since}. Meanwhile, no bad buzz can be detected.")
        }
        (Evidence::BrandQuiet(QuietEvidence { last, .. }), _) => {
            let since = last.map_or(opened, moment);
            format!(
                "Since {since}, while the stream goes on. Meanwhile, no bad buzz about {} can be detected.",
                line(&n.brand, 64)
            )
        }
        (Evidence::Lag(_), _) => {
            format!("Detected on {opened}. Meanwhile, bad buzz is detected late.")
        }
        (_, "updated") => format!("Open since {opened}, for {lasted}."),
        (_, "reopened") => format!("First opened on {opened}; it is open again."),
        (
            Evidence::Share(ShareEvidence { since, .. })
            | Evidence::NegativeVolume(VolumeEvidence { since, .. })
            | Evidence::Surge(VolumeEvidence { since, .. }),
            _,
        ) => {
            format!("The rise began on {}.", moment(since.start()))
        }
    }
}
