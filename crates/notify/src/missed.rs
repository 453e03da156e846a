//! The digest of incidents that were over when they were found, in words that all services share; pure.
//!
//! **Invariant.** Depends only on the notification. Strings have no line break and a maximum length.
//! Deliberately absent: layout.

use chrono::{DateTime, Utc};

use super::phases;
use super::words::{line, moment};
use monitor_core::domain::{Phase, ResolveReason};
use monitor_core::format::thousands;
use monitor_store::{Missed, Notification};

/// What the digest is about, in one line.
pub fn headline(n: &Notification) -> String {
    let are = if n.missed.len() == 1 { "alert was" } else { "alerts were" };
    let brand =
        if is_of_one_brand(n) { format!("{}: ", line(&n.brand, 64)) } else { String::new() };
    format!("{brand}{} {are} over before Monitor had caught up", n.missed.len())
}

/// Whether all its incidents are about one brand.
pub fn is_of_one_brand(n: &Notification) -> bool {
    n.missed.windows(2).all(|pair| pair[0].brand == pair[1].brand)
}

/// An incident in one line.
pub fn entry(it: &Missed) -> String {
    format!(
        "{} ({}), {}: {}; {} (incident {})",
        line(&it.brand, 64),
        line(&it.severity, 64),
        period(it),
        peaks(it),
        negative(it),
        it.incident_id
    )
}

/// From when to when: "20 Feb 2015, 14:05 to 18:45 UTC".
pub fn period(it: &Missed) -> String {
    let date = |at: DateTime<Utc>| at.format("%-d %b %Y, %H:%M");
    match it.opened_at.date_naive() == it.resolved_at.date_naive() {
        true => format!("{} to {} UTC", date(it.opened_at), it.resolved_at.format("%H:%M")),
        false => format!("{} to {}", date(it.opened_at), moment(it.resolved_at)),
    }
}

/// How large each of its phases was at its peak, and whether it calmed down.
pub fn peaks(it: &Missed) -> String {
    let peak = |phase: &Phase| phases::size(&phase.peak);
    let sizes: Vec<_> = it.phases.iter().map(peak).filter(|size| !size.is_empty()).collect();
    let stays = it.phases.iter().any(|phase| phase.ended_as == Some(ResolveReason::NewNormal));
    let end = if stays { "; it became the new normal" } else { "" };
    format!("at its peak {}{end}", sizes.join(", and "))
}

/// "1,417 of 2,180 tweets negative".
pub fn negative(it: &Missed) -> String {
    format!("{} of {} tweets negative", thousands(it.tweets.negative), thousands(it.tweets.total))
}
