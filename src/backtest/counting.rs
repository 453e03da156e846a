//! Counts a file of tweets by brand and minute: reads, matches and scores it in batches.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use monitor_config::Settings;
use monitor_core::alerting::{Counting, Stretch, Voices};
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{Counts, Label, Minute, Tweet, TweetId};
use monitor_core::text::language::detect_in;
use monitor_core::text::{BrandMatcher, SourceText};
use monitor_ingest::WireLimits;
use monitor_model::{self as classifier, ArtifactError, ClassifyError, Model};

use super::report::{FileRead, Source};
use super::tweets::Tweets;
use super::{BacktestError, ByBrand};
use crate::pipeline::brand_rules;
use crate::settings::open_options;

/// Texts scored at once.
const BATCH_ROWS: usize = 512;
/// Seconds between progress lines.
const PROGRESS_EVERY_S: f64 = 2.0;

/// Counts and their source.
pub struct Counted {
    pub by_brand: ByBrand,
    /// All counts of each model that scored the stream, and the first minute that it scored, in
    /// order; empty if there was one model.
    pub by_model: Vec<(Minute, ByBrand)>,
    pub source: Source,
}

impl Counted {
    /// The counts that the detector reads, one model after the other.
    pub fn stretches(&self, brand: &str) -> Vec<Stretch<'_>> {
        if self.by_model.is_empty() {
            return vec![Stretch { from: Minute(i64::MIN), counts: &self.by_brand[brand] }];
        }
        self.by_model
            .iter()
            .map(|(from, of_model)| Stretch {
                from: *from,
                counts: of_model.get(brand).map_or(&[], Vec::as_slice),
            })
            .collect()
    }
}

/// What decides whether a tweet is negative.
pub enum Scorer {
    Model(Model),
    /// A column of the file.
    Labels(String),
}

impl Scorer {
    /// The column of labels if given, else a model.
    ///
    /// # Errors
    /// The model cannot be opened.
    pub fn new(
        labels: Option<&str>,
        model: Option<&str>,
        settings: &Settings,
    ) -> Result<Self, ArtifactError> {
        Ok(match labels {
            Some(column) => Self::Labels(column.to_owned()),
            None => {
                let name = model.unwrap_or(&settings.model.name);
                Self::Model(classifier::open(&open_options(&settings.model), name)?)
            }
        })
    }

    fn name(&self) -> String {
        match self {
            Self::Model(model) => model.id.to_string(),
            Self::Labels(column) => format!("column {column}"),
        }
    }
}

/// A tweet that is not scored yet.
struct Waiting {
    tweet: Tweet,
    brands: Vec<String>,
}

/// Reads a file to its end. Tweets outside `from..=to` are neither scored nor counted.
///
/// # Errors
/// The file cannot be read, or the model fails.
pub fn count(
    file: &Path,
    mut scorer: Scorer,
    settings: &Settings,
    brands: &[String],
    counting: Counting,
    (from, to): (Option<Minute>, Option<Minute>),
) -> Result<Counted, BacktestError> {
    let clock = SystemClock::new();
    let limits = WireLimits::of(&settings.kafka);
    let labels = match &scorer {
        Scorer::Labels(column) => Some(column.clone()),
        Scorer::Model(_) => None,
    };
    let mut tweets = Tweets::open(file, labels.as_deref(), limits, clock.now())?;
    let matcher = BrandMatcher::new(brand_rules(settings))?;
    let mut counts: BTreeMap<String, BTreeMap<Minute, Counts>> =
        brands.iter().map(|brand| (brand.clone(), BTreeMap::new())).collect();
    let mut voices = Voices::new(counting);
    let mut add = |brands: &[String], tweet: &Tweet, negative: bool| {
        if !voices.counts(tweet, brands, negative) {
            return;
        }
        let minute = Minute::of(tweet.created_at);
        for brand in brands {
            *counts.entry(brand.clone()).or_default().entry(minute).or_default() +=
                Counts { total: 1, negative: u64::from(negative) };
        }
    };
    let mut seen: HashSet<TweetId> = HashSet::new();
    let mut waiting: Vec<Waiting> = Vec::with_capacity(BATCH_ROWS);
    let (mut about, mut not_judged, mut duplicates, mut printed_s) = (0_u64, 0_u64, 0_u64, 0.0);
    while let Some(row) = tweets.next()? {
        let minute = Minute::of(row.tweet.created_at);
        if from.is_some_and(|from| minute < from) || to.is_some_and(|to| minute > to) {
            continue;
        }
        let mut found = matcher.matches(&row.tweet.text, &row.tweet.rule_tags);
        found.retain(|brand| brands.contains(brand));
        if found.is_empty() {
            continue;
        }
        if row.has_id && !seen.insert(row.tweet.id.clone()) {
            duplicates += 1;
            continue;
        }
        about += 1;
        if let Scorer::Model(model) = &mut scorer {
            let text = SourceText::new(&row.tweet.text);
            if !model.knows(row.tweet.language.or_else(|| detect_in(&text))) {
                not_judged += 1;
                continue;
            }
            waiting.push(Waiting { tweet: row.tweet, brands: found });
            if waiting.len() == BATCH_ROWS {
                score(model, &mut waiting, &mut add)?;
            }
        } else {
            add(&found, &row.tweet, row.negative.expect("the file was opened with labels"));
        }
        let now_s = clock.elapsed().as_secs_f64();
        if now_s - printed_s >= PROGRESS_EVERY_S {
            printed_s = now_s;
            let (rows, place) = (tweets.counts().rows, tweets.share_read());
            eprintln!(
                "{}: {rows} rows, {:.0} rows/s, {:.0} s left",
                file.display(),
                rows as f64 / now_s,
                now_s * (1.0 - place) / place.max(1e-6)
            );
        }
    }
    if let Scorer::Model(model) = &mut scorer {
        score(model, &mut waiting, &mut add)?;
    }
    let read = tweets.counts();
    for (line, reason) in &read.faults {
        eprintln!("{}, line {line}: {reason}; left out", file.display());
    }
    let by_brand = counts.into_iter().map(|(brand, of)| (brand, of.into_iter().collect()));
    Ok(Counted {
        by_brand: by_brand.collect(),
        by_model: Vec::new(),
        source: Source::File(FileRead {
            file: file.display().to_string(),
            scored_by: scorer.name(),
            rows: read.rows,
            bad_rows: read.bad,
            tweets: about,
            not_judged,
            duplicates,
        }),
    })
}

fn score(
    model: &mut Model,
    waiting: &mut Vec<Waiting>,
    add: &mut dyn FnMut(&[String], &Tweet, bool),
) -> Result<(), ClassifyError> {
    if waiting.is_empty() {
        return Ok(());
    }
    let texts: Vec<&str> = waiting.iter().map(|row| row.tweet.text.as_str()).collect();
    let scores = model.score(&texts)?;
    for (row, probabilities) in waiting.iter().zip(scores) {
        let label = model.thresholds.label(probabilities);
        add(&row.brands, &row.tweet, label == Label::Negative);
    }
    waiting.clear();
    Ok(())
}
