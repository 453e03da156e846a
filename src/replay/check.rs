//! What the daemon would make of a file: rows counted by outcome, each with its first example.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

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

/// Rows with the same format and outcome.
#[derive(Debug, Clone, Default)]
struct Group {
    rows: u64,
    /// Line of the first one, and for a row that is no tweet what is wrong and how it begins.
    first: (u64, String),
}

/// The outcome of a check, as a report for people.
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
        let (outcome, problem) = match &row.decoded.content {
            Ok(Content::Tweet(tweet)) => {
                checked.cut += u64::from(tweet.is_cut);
                checked.edits += u64::from(!tweet.edit_of.is_empty());
                (Outcome::Tweet, String::new())
            }
            Ok(Content::Notice(notice)) => (Outcome::Notice(notice.reason()), String::new()),
            Err(rejected) => (Outcome::DeadLetter(rejected.kind()), rejected.to_string()),
        };
        checked.wrapped += u64::from(row.decoded.layers > 0);
        let group = checked.groups.entry((outcome, row.decoded.format)).or_default();
        group.rows += 1;
        if group.rows == 1 {
            let shown = String::from_utf8_lossy(&row.payload);
            let shown: String = shown.chars().take(SHOWN_CHARS_MAX).collect();
            let shown = shown.replace(char::is_control, " ");
            group.first = match outcome {
                Outcome::Tweet => (row.line, String::new()),
                Outcome::Notice(_) => (row.line, shown),
                Outcome::DeadLetter(_) => (row.line, format!("{problem}\n      {shown}")),
            };
        }
    }
    checked.unreadable = tweets.counts().bad;
    checked.faults.clone_from(&tweets.counts().faults);
    Ok(checked)
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((outcome, format), Group { rows, first: (line, shown) }) in &self.groups {
            let format = format.map_or("unknown format", StreamFormat::as_str);
            match outcome {
                Outcome::Tweet => {
                    writeln!(f, "{rows:>8} tweets ({format}), the first in line {line}")?
                }
                Outcome::Notice(reason) => {
                    writeln!(
                        f,
                        "{rows:>8} notices: {reason} ({format}), the first in line {line}:"
                    )?;
                    writeln!(f, "      {shown}")?;
                }
                Outcome::DeadLetter(kind) => {
                    writeln!(
                        f,
                        "{rows:>8} dead letters: {kind} ({format}), the first in line {line}:"
                    )?;
                    writeln!(f, "      {shown}")?;
                }
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
