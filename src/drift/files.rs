//! Compares the tweets of two files.

use std::collections::{BTreeMap, BinaryHeap};
use std::path::Path;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use monitor_config as config;
use monitor_core::domain::{Language, StreamFormat};
use monitor_core::drift::{Budget, Observed, PERIODS_MIN, Period, Report, TWEETS_MIN, assess};
use monitor_core::text::{language, unit_interval};
use monitor_ingest::WireLimits;
use monitor_model::{Encoding, Model};
use monitor_train::data::{self, TweetFileError};

use super::DriftError;
use crate::backtest::tweets::Tweets;

/// Days of a file that are kept, the newest ones.
const DAYS_MAX: usize = 400;
/// Tweets that are scored together.
const BATCH_ROWS: usize = 512;
/// Decides which rows are drawn.
const SEED: u64 = 140;

/// A row of a file, with its place in the file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    place: u64,
    text: String,
    language: Option<Language>,
}

/// A random sample of rows: those with the smallest random keys.
#[derive(Debug, Default)]
struct Sample(BinaryHeap<(u64, Row)>);

impl Sample {
    fn offer(&mut self, row: Row, limit: usize) {
        let key = (unit_interval(SEED, &row.place.to_string()) * 1e15) as u64;
        if self.0.len() < limit || self.0.peek().is_some_and(|(largest, _)| key < *largest) {
            self.0.push((key, row));
        }
        if self.0.len() > limit {
            self.0.pop();
        }
    }

    /// The rows in random order.
    fn rows(self) -> Vec<Row> {
        self.0.into_sorted_vec().into_iter().map(|(_, row)| row).collect()
    }
}

/// Samples of a file: of the whole, and of each day of UTC.
#[derive(Debug, Default)]
struct Samples {
    rows: u64,
    all: Sample,
    days: BTreeMap<NaiveDate, Sample>,
    /// What was left out.
    note: Option<String>,
}

impl Samples {
    fn offer(
        &mut self,
        text: String,
        language: Option<Language>,
        at: Option<DateTime<Utc>>,
        limits: Limits,
    ) {
        let row =
            Row { place: self.rows, language: language.or_else(|| language::detect(&text)), text };
        self.rows += 1;
        if let Some(at) = at {
            let day = self.days.entry(at.date_naive()).or_default();
            day.offer(row.clone(), limits.of_day);
            if self.days.len() > DAYS_MAX {
                self.days.pop_first();
            }
        }
        self.all.offer(row, limits.of_file);
    }

    /// The newest days that have enough tweets; if there are too few, parts of the file in its order.
    fn periods(self, periods: usize) -> Vec<(String, Vec<Row>)> {
        let days = self.days.into_iter().map(|(day, sample)| (day.to_string(), sample.rows()));
        let mut days: Vec<_> = days.filter(|(_, rows)| rows.len() >= TWEETS_MIN).collect();
        if days.len() >= PERIODS_MIN {
            return days.split_off(days.len().saturating_sub(periods));
        }
        let rows = self.all.rows();
        let periods = periods.min(rows.len() / TWEETS_MIN).max(1);
        let mut parts: Vec<_> =
            (1..=periods).map(|part| (format!("part {part} of {periods}"), Vec::new())).collect();
        for row in rows {
            let part = row.place as usize * periods / self.rows.max(1) as usize;
            parts[part].1.push(row);
        }
        parts
    }
}

/// Rows that are kept at most.
#[derive(Debug, Clone, Copy)]
struct Limits {
    of_day: usize,
    of_file: usize,
}

/// Compares the tweets of the file `data` with those of the file `reference`, with the words and
/// scores of `model`.
///
/// A file is one for `monitor backtest` (text and time) or one for `monitor retrain` (text and label).
/// The reference is cut into days, if it has enough of them, else into parts in its order; `data` is
/// one period. Also returns what was left out of the files, for people.
///
/// # Errors
/// [`DriftError`].
pub fn of_files(
    reference: &Path,
    data: &Path,
    settings: config::Drift,
    model: &mut Model,
    now: DateTime<Utc>,
) -> Result<(Report, Vec<String>), DriftError> {
    let tweets = settings.tweets_per_day as usize;
    let periods = settings.reference_days as usize;
    let before = read(reference, Limits { of_day: tweets, of_file: tweets * periods }, now)?;
    let recent = read(data, Limits { of_day: 0, of_file: tweets }, now)?;
    let notes = [&before, &recent].into_iter().filter_map(|file| file.note.clone()).collect();
    let mut observe = |(name, rows): (String, Vec<Row>)| -> Result<Period, DriftError> {
        Ok(Period { name, tweets: observed(rows, model)? })
    };
    let before: Vec<_> =
        before.periods(periods).into_iter().map(&mut observe).collect::<Result<_, _>>()?;
    let recent = observe((data::file_name(data), recent.all.rows()))?;
    let false_alarms_per_month = settings.false_alarms_per_month;
    let budget = Budget { false_alarms_per_month, period_days: 1.0 };
    Ok((assess(&before, &recent, budget), notes))
}

fn read(path: &Path, limits: Limits, now: DateTime<Utc>) -> Result<Samples, DriftError> {
    let mut samples = Samples::default();
    // Any time is accepted: the files may be of another clock.
    let wire = WireLimits {
        record_bytes_max: usize::MAX,
        future_max: TimeDelta::days(1),
        format: StreamFormat::Auto,
    };
    match Tweets::open(path, None, wire, now) {
        Ok(mut file) => {
            while let Some(row) = file.next()? {
                let tweet = row.tweet;
                samples.offer(tweet.text, tweet.language, Some(tweet.created_at), limits);
            }
            let read = file.counts();
            if let Some((line, reason)) = read.faults.first() {
                let (bad, file) = (read.bad, path.display());
                samples.note = Some(format!(
                    "{file}: {bad} rows left out, the first in line {line}: {reason}"
                ));
            }
        }
        Err(TweetFileError::Column { .. }) => {
            for row in data::read_all(path)? {
                samples.offer(row.text, None, row.created_at, limits);
            }
        }
        Err(error) => return Err(error.into()),
    }
    Ok(samples)
}

/// The rows as they are compared; the model scores those whose language it knows.
fn observed(rows: Vec<Row>, model: &mut Model) -> Result<Vec<Observed>, DriftError> {
    let mut found = Vec::with_capacity(rows.len());
    for batch in rows.chunks(BATCH_ROWS) {
        let encodings: Vec<Option<Encoding>> = (batch.iter())
            .map(|row| model.knows(row.language).then(|| model.encoder.encode(&row.text)))
            .collect();
        let judged: Vec<&Encoding> = encodings.iter().flatten().collect();
        let mut scores = model.classify(&judged)?.into_iter();
        for (row, encoding) in batch.iter().zip(&encodings) {
            let score = encoding.as_ref().and_then(|_| scores.next());
            let known = model.encoder.known_words(&row.text);
            found.push(
                Observed::new(row.text.clone(), row.language)
                    .with_known_words(known)
                    .with_score(score.map(|it| it.negative().get())),
            );
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(rows: u64, day: impl Fn(u64) -> Option<u32>) -> Samples {
        let mut samples = Samples::default();
        let limits = Limits { of_day: 120, of_file: 1000 };
        for n in 0..rows {
            let at = day(n).map(|day| {
                let date = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap();
                let date = date.checked_add_days(chrono::Days::new(day.into())).unwrap();
                date.and_hms_opt(12, 0, 0).unwrap().and_utc()
            });
            samples.offer(format!("tweet {n}"), None, at, limits);
        }
        samples
    }

    #[test]
    fn a_file_is_cut_into_days_or_parts() {
        let check = |name: &str, samples: Samples, expected: &[(&str, usize)]| {
            let found = samples.periods(7);
            let found: Vec<_> =
                found.iter().map(|(name, rows)| (name.as_str(), rows.len())).collect();
            assert_eq!(found, expected, "{name}");
        };
        let newest: Vec<_> = (3..=9).map(|day| format!("2026-01-0{day}")).collect();
        let newest: Vec<_> = newest.iter().map(|day| (day.as_str(), 120)).collect();
        check("nine days", samples(9 * 150, |n| Some((n / 150) as u32)), &newest);
        let few = samples(250, |_| None);
        check("two parts", few, &[("part 1 of 2", 125), ("part 2 of 2", 125)]);
        let one_day = samples(99, |_| Some(0));
        check("too few for a part", one_day, &[("part 1 of 1", 99)]);
        let many = samples(5000, |_| None).periods(7);
        let sizes: Vec<usize> = many.iter().map(|(_, rows)| rows.len()).collect();
        assert_eq!((sizes.len(), sizes.iter().sum::<usize>()), (7, 1000));
        assert!(sizes.iter().all(|size| (100..190).contains(size)), "{sizes:?}");
        assert!(many[1].1.iter().all(|row| (714..=1428).contains(&row.place)), "in its order");
        assert!(!many[1].1.is_sorted(), "within a part the order is random");
    }
}
