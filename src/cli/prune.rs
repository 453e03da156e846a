use chrono::{DateTime, Utc};
use serde_json::json;

use super::output::{print, print_json};
use super::with_store;
use monitor_config::Settings;
use monitor_core::clock::{Clock, SystemClock};
use monitor_store::{Keep, Pruned};

/// Remove what is older than the settings keep
///
/// Removes tweets by whole weeks, with what drift found in them (store.keep_days), resolved incidents and notifications
/// (store.keep_history_days) and dead letters (store.keep_dead_letters_days). Counts by hour and by
/// day stay. The daemon does the same every hour; use this command after a change of the settings, or
/// to see first what would go. What is removed cannot be brought back.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,

    /// Print JSON: an object with dry_run, weeks (a list of objects with table and about how many
    /// tweets), tweets (of the time before tables were weekly), minutes (counts by minute), drift_days,
    /// dead_letters, notifications and incidents
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, settings: Settings) -> anyhow::Result<()> {
    let keep = Keep::from(&settings.store);
    let now = SystemClock::new().now();
    let tell = |line: &str| eprintln!("{line}");
    let pruned =
        with_store(&settings, async |store| store.prune(&keep, now, args.dry_run, &tell).await)?;
    if args.json {
        return print_json(&json!({
            "dry_run": args.dry_run,
            "weeks": pruned.parts.iter()
                .map(|(table, tweets)| json!({"table": table, "tweets": tweets}))
                .collect::<Vec<_>>(),
            "tweets": pruned.tweets,
            "minutes": pruned.minutes,
            "drift_days": pruned.drift_days,
            "dead_letters": pruned.dead_letters,
            "notifications": pruned.notifications,
            "incidents": pruned.incidents,
        }));
    }
    print(&report(&keep, &pruned, now, args.dry_run))
}

fn report(keep: &Keep, pruned: &Pruned, now: DateTime<Utc>, dry_run: bool) -> String {
    let verb = if dry_run { "would remove" } else { "removed" };
    let mut lines = Vec::new();
    for (table, tweets) in &pruned.parts {
        lines.push(format!("{verb} {table}: about {tweets} tweets"));
    }
    let counts = [
        (pruned.tweets, "tweets from before the tables were weekly"),
        (pruned.minutes, "counts by minute"),
        (pruned.drift_days, "days of drift"),
        (pruned.dead_letters, "dead letters"),
        (pruned.notifications, "notifications"),
        (pruned.incidents, "incidents with their histories"),
    ];
    lines.extend(
        (counts.iter().filter(|(count, _)| *count > 0))
            .map(|(count, what)| format!("{verb} {count} {what}")),
    );
    if lines.is_empty() {
        lines.push("nothing is too old".into());
    }
    for (key, days) in [
        ("store.keep_days", keep.tweets_days),
        ("store.keep_history_days", keep.history_days),
        ("store.keep_dead_letters_days", keep.dead_letters_days),
    ] {
        let since = match i64::from(days) {
            0 => "for ever".into(),
            days => format!("since {}", (now - chrono::TimeDelta::days(days)).date_naive()),
        };
        lines.push(format!("{key} = {days} keeps {since}"));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_went_and_what_stays() {
        let keep = Keep { tweets_days: 30, history_days: 0, dead_letters_days: 90 };
        let now = "2026-11-27T21:00:00Z".parse().unwrap();
        let nothing = report(&keep, &Pruned::default(), now, true);
        assert!(nothing.starts_with("nothing is too old\n"), "{nothing}");
        assert!(nothing.contains("store.keep_days = 30 keeps since 2026-10-28\n"), "{nothing}");
        assert!(nothing.contains("store.keep_history_days = 0 keeps for ever\n"), "{nothing}");
        let parts = vec![("scores_2026_10_19".to_owned(), 7000)];
        let pruned = Pruned { parts, drift_days: 7, dead_letters: 3, ..Pruned::default() };
        let some = report(&keep, &pruned, now, true);
        assert!(some.starts_with("would remove scores_2026_10_19: about 7000 tweets\n"), "{some}");
        assert!(
            some.contains("\nwould remove 7 days of drift\nwould remove 3 dead letters\n"),
            "{some}"
        );
        assert!(report(&keep, &pruned, now, false).starts_with("removed scores_2026_10_19"));
    }
}
