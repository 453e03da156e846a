//! What the daemon would make of a file: rows counted by outcome, each with its first example.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Serialize, Serializer};
use serde_json::json;

use monitor_config as config;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::StreamFormat;
use monitor_ingest::{Content, WireLimits};

use super::ReplayError;
use crate::tweets::Tweets;

/// Characters of an example's record that are shown.
const SHOWN_CHARS_MAX: usize = 100;

/// What a row becomes; sorted as it is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Tweet,
    Notice(&'static str),
    DeadLetter(&'static str),
}

impl Outcome {
    /// As in the report.
    fn kind(self) -> &'static str {
        match self {
            Self::Tweet => "tweets",
            Self::Notice(_) => "notices",
            Self::DeadLetter(_) => "dead letters",
        }
    }

    fn reason(self) -> Option<&'static str> {
        match self {
            Self::Tweet => None,
            Self::Notice(reason) | Self::DeadLetter(reason) => Some(reason),
        }
    }
}

/// Rows with the same format and outcome.
#[derive(Debug, Clone, Default)]
struct Group {
    rows: u64,
    /// Line of the first one.
    line: u64,
    /// How it begins, if it is no tweet.
    record: Option<String>,
    /// What is wrong with it, if it is a dead letter.
    problem: Option<String>,
}

/// The outcome of a check, as a report for people and as JSON.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    groups: BTreeMap<(Outcome, Option<StreamFormat>), Group>,
    /// Rows of a CSV that replay would leave out, and the first few of them.
    unreadable: u64,
    faults: Vec<(u64, String)>,
    wrapped: u64,
    cut: u64,
    edits: u64,
}

impl Checked {
    /// Tweets and notices.
    pub fn readable(&self) -> u64 {
        let groups = self.groups.iter();
        groups
            .filter(|((outcome, _), _)| !matches!(outcome, Outcome::DeadLetter(_)))
            .map(|(_, group)| group.rows)
            .sum()
    }
}

/// Reads a file to its end; sends nothing.
///
/// # Errors
/// The file cannot be read, or has no ids.
pub fn check(file: &Path, kafka: &config::Kafka) -> Result<Checked, ReplayError> {
    let now = SystemClock::new().now();
    let mut tweets = Tweets::open(file, None, WireLimits::of(kafka), now)?.with_record_times();
    if !tweets.has_ids() {
        return Err(ReplayError::NoIds(file.to_owned()));
    }
    let mut checked = Checked::default();
    while let Some(row) = tweets.next_with(Ok)? {
        let mut problem = None;
        let outcome = match &row.decoded.content {
            Ok(Content::Tweet(tweet)) => {
                checked.cut += u64::from(tweet.is_cut);
                checked.edits += u64::from(!tweet.edit_of.is_empty());
                Outcome::Tweet
            }
            Ok(Content::Notice(notice)) => Outcome::Notice(notice.reason()),
            Err(rejected) => {
                problem = Some(rejected.to_string());
                Outcome::DeadLetter(rejected.kind())
            }
        };
        checked.wrapped += u64::from(row.decoded.layers > 0);
        let group = checked.groups.entry((outcome, row.decoded.format)).or_default();
        group.rows += 1;
        if group.rows == 1 {
            let shown = String::from_utf8_lossy(&row.payload);
            let shown: String = shown.chars().take(SHOWN_CHARS_MAX).collect();
            let shown = shown.replace(char::is_control, " ");
            group.line = row.line;
            group.record = (outcome != Outcome::Tweet).then_some(shown);
            group.problem = problem;
        }
    }
    checked.unreadable = tweets.counts().bad;
    checked.faults.clone_from(&tweets.counts().faults);
    Ok(checked)
}

impl Serialize for Checked {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let of_kind = |wanted: &str| -> Vec<_> {
            let groups = self.groups.iter().filter(|((outcome, _), _)| outcome.kind() == wanted);
            let told = groups.map(|((outcome, format), group)| {
                json!({
                    "reason": outcome.reason(),
                    "format": format.map(StreamFormat::as_str),
                    "rows": group.rows,
                    "first_line": group.line,
                    "first_problem": group.problem,
                    "first_record": group.record,
                })
            });
            told.collect()
        };
        let faults = self.faults.iter();
        let faults: Vec<_> =
            faults.map(|(line, reason)| json!({"line": line, "reason": reason})).collect();
        json!({
            "tweets": of_kind("tweets"),
            "notices": of_kind("notices"),
            "dead_letters": of_kind("dead letters"),
            "unreadable": {"rows": self.unreadable, "first": faults},
            "wrapped": self.wrapped,
            "edits": self.edits,
            "cut": self.cut,
        })
        .serialize(serializer)
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((outcome, format), Group { rows, line, record, problem }) in &self.groups {
            let format = format.map_or("unknown format", StreamFormat::as_str);
            let end = if record.is_some() { ":" } else { "" };
            let reason = outcome.reason().map_or(String::new(), |reason| format!(": {reason}"));
            let kind = outcome.kind();
            writeln!(f, "{rows:>8} {kind}{reason} ({format}), the first in line {line}{end}")?;
            for line in [problem, record].into_iter().flatten() {
                writeln!(f, "      {line}")?;
            }
        }
        if self.unreadable > 0 {
            writeln!(
                f,
                "{:>8} rows of the file that cannot be read, and are left out:",
                self.unreadable
            )?;
            for (line, reason) in &self.faults {
                writeln!(f, "      line {line}: {reason}")?;
            }
        }
        if self.wrapped > 0 {
            writeln!(
                f,
                "{} rows are wrapped (Kafka Connect, Debezium, CloudEvents, ...).",
                self.wrapped
            )?;
        }
        if self.edits > 0 {
            writeln!(f, "{} tweets are later versions of others.", self.edits)?;
        }
        if self.cut > 0 {
            writeln!(
                f,
                "{} texts are cut; ask X for expansions=referenced_tweets.id and tweet.fields=note_tweet.",
                self.cut
            )?;
        }
        Ok(())
    }
}
