//! Describes a file of labelled tweets before training.
//!
//! **Invariant.** [`Profiler`] is a pure fold over rows, in one pass. It keeps hashes, not
//! texts: 20 to 40 bytes for each distinct text and as much for each distinct author (a hash
//! table is between half and nearly full), so 1.6 million tweets of 660,000 authors take
//! some 70 MB; everything else is bounded by the longest text and the number of days. A hash
//! collision happens once in ten million such files. Deliberately absent: recommendations;
//! [`super::read`] drops the rows that training must not use.

mod picture;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;

use monitor_core::domain::Label;
use monitor_core::text::Analyzer;

use super::{DatasetError, LabelledReader, ReadReport, Row, file_name, text_hash};

pub use picture::picture;

/// Number of authors that are listed.
const PROLIFIC_MAX: usize = 10;
/// Rows between two calls of `progress`.
const TELL_ROWS: u64 = 10_000;

/// A number of rows of each target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Balance {
    /// Negative rows.
    pub negative: u64,
    /// Neutral rows.
    pub neutral: u64,
    /// Positive rows.
    pub positive: u64,
}

impl Balance {
    fn add(&mut self, target: Label) {
        match target {
            Label::Negative => self.negative += 1,
            Label::Neutral => self.neutral += 1,
            Label::Positive => self.positive += 1,
        }
    }

    fn merge(&mut self, other: Self) {
        self.negative += other.negative;
        self.neutral += other.neutral;
        self.positive += other.positive;
    }

    /// Rows of one target.
    pub fn of(self, target: Label) -> u64 {
        match target {
            Label::Negative => self.negative,
            Label::Neutral => self.neutral,
            Label::Positive => self.positive,
        }
    }

    /// All rows.
    pub fn total(self) -> u64 {
        self.negative + self.neutral + self.positive
    }
}

/// Quantiles by the nearest rank: the smallest value that at least this share of the rows
/// does not exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[allow(missing_docs)]
pub struct Quantiles {
    pub p50: usize,
    pub p75: usize,
    pub p90: usize,
    /// 95 %. For words, this is the study's sequence length.
    pub p95: usize,
    pub p99: usize,
    pub max: usize,
}

/// Rows of one author.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Author {
    /// Name, in lower case.
    pub user: String,
    /// Rows.
    pub rows: u64,
}

/// Figures of the authors.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Users {
    /// Number of different authors, ignoring case.
    pub distinct: usize,
    /// Rows without an author.
    pub rows_without: u64,
    /// The authors with the most rows, at most ten.
    pub most_prolific: Vec<Author>,
}

/// Texts that occur more than once, ignoring leading and trailing white space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Duplicates {
    /// Different texts.
    pub distinct_texts: usize,
    /// Rows whose text occurred before.
    pub duplicate_rows: u64,
    /// Texts with more than one target.
    pub conflicting_texts: usize,
    /// Rows of these texts.
    pub conflicting_rows: u64,
}

/// Rows left out for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Why.
    pub reason: String,
    /// How many.
    pub rows: usize,
    /// The first of their lines, counted from 1.
    pub first_lines: Vec<u64>,
}

/// When the rows were written, in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Dates {
    /// The first.
    pub from: Option<DateTime<Utc>>,
    /// The last.
    pub to: Option<DateTime<Utc>>,
    /// Rows without a time.
    pub rows_without: u64,
    /// Rows of each day; days without rows are absent.
    pub days: BTreeMap<NaiveDate, Balance>,
}

impl Dates {
    /// Rows of each day, or of each month if there are more than `days_max` days.
    pub fn listed(&self, days_max: usize) -> BTreeMap<String, Balance> {
        let form = if self.days.len() > days_max { "%Y-%m" } else { "%Y-%m-%d" };
        let mut listed: BTreeMap<String, Balance> = BTreeMap::new();
        for (day, balance) in &self.days {
            listed.entry(day.format(form).to_string()).or_default().merge(*balance);
        }
        listed
    }
}

/// Description of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Profile {
    /// Its name, without folders.
    pub file: String,
    /// SHA-256 of the stored file.
    pub sha256: String,
    /// Its layout.
    pub layout: String,
    /// Rows in it.
    pub rows_read: usize,
    /// Rows left out, and why.
    pub left_out: Vec<LeftOut>,
    /// The other rows by target; all fields below describe these.
    pub balance: Balance,
    /// Authors.
    pub users: Users,
    /// Duplicate texts.
    pub duplicates: Duplicates,
    /// Words of a text, separated by white space.
    pub words: Quantiles,
    /// Words of a text in the preset `tweet`.
    pub tweet_words: Quantiles,
    /// Characters of a text.
    pub characters: Quantiles,
    /// Number of rows with 0, 1, 2, ... words, separated by white space.
    pub words_histogram: Vec<Balance>,
    /// Times of the rows.
    pub dates: Dates,
}

/// Progress of reading a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Valid rows so far.
    pub rows: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Bytes of the file.
    pub bytes_total: u64,
}

/// Profiles the file at `path`; `progress` is called every few rows.
///
/// # Errors
/// As [`super::read`].
pub fn profile(path: &Path, mut progress: impl FnMut(Place)) -> Result<Profile, DatasetError> {
    let mut reader = LabelledReader::open(path)?;
    let mut profiler = Profiler::default();
    while let Some(row) = reader.next()? {
        profiler.add(&row);
        let rows = profiler.balance.total();
        if rows.is_multiple_of(TELL_ROWS) {
            let (bytes, bytes_total) = reader.place();
            progress(Place { rows, bytes, bytes_total });
        }
    }
    let (report, sha256) = reader.finish()?;
    Ok(profiler.end(file_name(path), sha256, &report))
}

/// Folds rows into a profile.
#[derive(Debug, Default)]
struct Profiler {
    balance: Balance,
    texts: HashMap<u64, Seen>,
    authors: Authors,
    rows_without_user: u64,
    words: Vec<Balance>,
    tweet_words: Vec<u64>,
    characters: Vec<u64>,
    dates: Dates,
}

/// State of one text.
#[derive(Debug, Default)]
struct Seen {
    rows: u32,
    /// A bit for each target.
    targets: u8,
}

impl Profiler {
    fn add(&mut self, row: &Row) {
        let target = row.label;
        self.balance.add(target);
        let seen = self.texts.entry(text_hash(&row.text)).or_default();
        seen.rows += 1;
        seen.targets |= 1 << target as u8;
        if row.user.is_empty() {
            self.rows_without_user += 1;
        } else {
            self.authors.add(&row.user.to_lowercase());
        }
        at(&mut self.words, row.text.split_whitespace().count()).add(target);
        *at(&mut self.tweet_words, Analyzer::tweet().words(&row.text, usize::MAX).len()) += 1;
        *at(&mut self.characters, row.text.chars().count()) += 1;
        match row.created_at {
            Some(time) => {
                let dates = &mut self.dates;
                dates.from = dates.from.map_or(Some(time), |from| Some(from.min(time)));
                dates.to = dates.to.max(Some(time));
                dates.days.entry(time.date_naive()).or_default().add(target);
            }
            None => self.dates.rows_without += 1,
        }
    }

    fn end(self, file: String, sha256: String, report: &ReadReport) -> Profile {
        let left_out = report.faults.iter().map(|(fault, faulty)| LeftOut {
            reason: fault.to_string(),
            rows: faulty.rows,
            first_lines: faulty.lines.clone(),
        });
        let conflicting = || self.texts.values().filter(|seen| seen.targets.count_ones() > 1);
        let words: Vec<u64> = self.words.iter().map(|balance| balance.total()).collect();
        Profile {
            file,
            sha256,
            layout: report.layout.to_string(),
            rows_read: report.read,
            left_out: left_out.collect(),
            balance: self.balance,
            duplicates: Duplicates {
                distinct_texts: self.texts.len(),
                duplicate_rows: self.balance.total() - self.texts.len() as u64,
                conflicting_texts: conflicting().count(),
                conflicting_rows: conflicting().map(|seen| u64::from(seen.rows)).sum(),
            },
            users: Users {
                distinct: self.authors.rows.len(),
                rows_without: self.rows_without_user,
                most_prolific: self.authors.most,
            },
            words: quantiles(&words),
            tweet_words: quantiles(&self.tweet_words),
            characters: quantiles(&self.characters),
            words_histogram: self.words,
            dates: self.dates,
        }
    }
}

/// Counts rows by author and keeps only the names of the ten with the most rows.
#[derive(Debug, Default)]
struct Authors {
    rows: HashMap<u64, u64>,
    /// Authors with equal counts are in the order in which they reached the count.
    most: Vec<Author>,
}

impl Authors {
    /// An author enters the ten with one of their own rows, which has the name; so the names of
    /// the final ten are always known.
    fn add(&mut self, user: &str) {
        let rows = self.rows.entry(text_hash(user)).or_default();
        *rows += 1;
        let rows = *rows;
        if self.most.len() == PROLIFIC_MAX && self.most[PROLIFIC_MAX - 1].rows >= rows {
            return;
        }
        match self.most.iter_mut().find(|author| author.user == user) {
            Some(author) => author.rows = rows,
            None => {
                self.most.truncate(PROLIFIC_MAX - 1);
                self.most.push(Author { user: user.to_owned(), rows });
            }
        }
        self.most.sort_by_key(|author| std::cmp::Reverse(author.rows));
    }
}

/// The element at `index`; the vector grows if necessary.
fn at<T: Default + Clone>(values: &mut Vec<T>, index: usize) -> &mut T {
    if values.len() <= index {
        values.resize(index + 1, T::default());
    }
    &mut values[index]
}

/// Quantiles of the values 0, 1, 2, ..., given how often each occurred.
fn quantiles(counts: &[u64]) -> Quantiles {
    let total: u64 = counts.iter().sum();
    let of = |percent: u64| {
        let mut seen = 0;
        let reaches = |count: &u64| {
            seen += count;
            100 * seen >= percent * total
        };
        counts.iter().position(reaches).unwrap_or(0)
    };
    Quantiles { p50: of(50), p75: of(75), p90: of(90), p95: of(95), p99: of(99), max: of(100) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(rows: &[Row]) -> Profile {
        let mut profiler = Profiler::default();
        rows.iter().for_each(|row| profiler.add(row));
        profiler.end("a.csv".into(), "00".into(), &ReadReport::default())
    }

    #[test]
    fn figures_match_hand_computed_values() {
        use Label::*;
        let row = |target, user: &str, at: &str, text: &str| {
            let (user, created_at) = (user.to_owned(), at.parse().ok());
            Row { user, created_at, ..Row::new(target, text) }
        };
        let found = folded(&[
            row(Negative, "Ann", "2009-04-07T05:19:45Z", "so sad"),
            row(Positive, "ann", "2009-04-06T23:59:59Z", "so sad "),
            row(Neutral, "bob", "2009-05-01T00:00:00Z", "a table, at 5:30"),
            row(Positive, "", "", "glad"),
            row(Positive, "bob", "2009-04-07T00:00:00Z", "glad"),
        ]);
        assert_eq!(found.balance, Balance { negative: 1, neutral: 1, positive: 3 });
        let author = |user: &str, rows| Author { user: user.into(), rows };
        assert_eq!(
            found.users,
            Users {
                distinct: 2,
                rows_without: 1,
                most_prolific: vec![author("ann", 2), author("bob", 2)]
            }
        );
        let expected = Duplicates {
            distinct_texts: 3,
            duplicate_rows: 2,
            conflicting_texts: 1,
            conflicting_rows: 2,
        };
        assert_eq!(found.duplicates, expected);
        let words = |p50, p75, p90| Quantiles { p50, p75, p90, p95: 4, p99: 4, max: 4 };
        assert_eq!(found.words, words(2, 2, 4));
        assert_eq!(found.tweet_words, words(2, 2, 4), "a table at <number>");
        let long = Quantiles { p50: 6, p75: 7, p90: 16, p95: 16, p99: 16, max: 16 };
        assert_eq!(found.characters, long);
        let none = Balance::default();
        assert_eq!(
            found.words_histogram,
            [
                none,
                Balance { positive: 2, ..none },
                Balance { negative: 1, positive: 1, ..none },
                none,
                Balance { neutral: 1, ..none },
            ]
        );
        let dates = &found.dates;
        assert_eq!(dates.from.map(|at| at.to_rfc3339()), Some("2009-04-06T23:59:59+00:00".into()));
        assert_eq!(dates.to.map(|at| at.to_rfc3339()), Some("2009-05-01T00:00:00+00:00".into()));
        assert_eq!(dates.rows_without, 1);
        let listed = |days_max| -> Vec<(String, u64)> {
            dates.listed(days_max).into_iter().map(|(name, rows)| (name, rows.total())).collect()
        };
        let days = [("2009-04-06", 1), ("2009-04-07", 2), ("2009-05-01", 1)];
        assert_eq!(listed(3), days.map(|(name, rows)| (name.to_owned(), rows)));
        let months = [("2009-04", 3), ("2009-05", 1)];
        assert_eq!(listed(2), months.map(|(name, rows)| (name.to_owned(), rows)));
    }

    #[test]
    fn quantiles_by_the_nearest_rank() {
        let check = |name: &str, counts: &[u64], expected: [usize; 6]| {
            let q = quantiles(counts);
            assert_eq!([q.p50, q.p75, q.p90, q.p95, q.p99, q.max], expected, "{name}");
        };
        check("none", &[], [0; 6]);
        check("one", &[0, 0, 0, 1], [3; 6]);
        check("one to a hundred", &[&[0][..], &[1; 100]].concat(), [50, 75, 90, 95, 99, 100]);
        check("exactly 95 of 100", &[0, 95, 4, 0, 1], [1, 1, 1, 1, 2, 4]);
        check("94 of 100", &[0, 94, 6], [1, 1, 1, 2, 2, 2]);
    }

    #[test]
    fn lists_the_authors_with_the_most_rows() {
        // user0 writes once, user1 twice, ... user49 fifty times, all at once and in turns.
        let turns = (0..50).flat_map(|turn| (turn..50).map(|user| format!("user{user}")));
        let rows: Vec<_> =
            turns.map(|user| Row { user, ..Row::new(Label::Positive, "hello") }).collect();
        let users = folded(&rows).users;
        assert_eq!(users.distinct, 50);
        let found: Vec<_> = users.most_prolific.iter().map(|a| (a.user.as_str(), a.rows)).collect();
        let expected: Vec<_> = (40..50).rev().map(|n| (format!("user{n}"), n + 1)).collect();
        let expected: Vec<_> = expected.iter().map(|(user, rows)| (user.as_str(), *rows)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn draws_a_picture_of_any_profile() {
        let check = |name: &str, rows: &[Row], expected: &[&str]| {
            let svg = picture(&folded(rows));
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{name}");
            for part in expected {
                assert!(svg.contains(part), "{name}: no {part}");
            }
        };
        let row = |at: &str| {
            let created_at = at.parse().ok();
            Row { created_at, ..Row::new(Label::Negative, "so very sad") }
        };
        check("nothing", &[], &["a.csv", "No row says when"]);
        check("no time", &[row("")], &["1 (100.0 %)", "95 % have 3 words", "No row says when"]);
        check("a day", &[row("2009-04-07T05:19:45Z")], &["Rows by day", "7 Apr 2009"]);
        let years = [row("2009-12-31T00:00:00Z"), row("2012-01-31T00:00:00Z")];
        check("years", &years, &["Rows by month", "Dec 2009"]);
    }
}
