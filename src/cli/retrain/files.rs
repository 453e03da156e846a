//! The files of labelled tweets that a training reads, and their weights.

use std::path::{Path, PathBuf};

use monitor_core::domain::Classes;
use monitor_model::Source;
use monitor_train::TrainingRows;
use monitor_train::data::{self, Dataset};

use super::Training;

/// Adds the rows of a further file; returns it with what became of its rows, and their number.
fn add(data: &mut Dataset, other: Dataset, weight: f32) -> (Source, usize) {
    let (file, sha256, read) = (other.file.clone(), other.sha256.clone(), other.rows.len());
    let added = data.add(other, weight);
    let about = format!("{added} of {read} rows added, each counting {weight} times");
    eprintln!("{file}: {about}");
    (Source { file, sha256, about }, added)
}

/// A file, and the weight of its rows.
#[derive(Debug, Clone)]
pub(in crate::cli) struct WeightedFile {
    pub(in crate::cli) file: PathBuf,
    /// `None` if it was not given.
    pub(in crate::cli) weight: Option<f32>,
}

impl WeightedFile {
    /// As in a command.
    pub(super) fn words(&self, name: &impl Fn(&Path) -> String) -> String {
        let file = name(&self.file);
        if self.weight() == 1.0 { file } else { format!("{file}={}", self.weight()) }
    }

    fn weight(&self) -> f32 {
        self.weight.unwrap_or(1.0)
    }
}

/// Weight of a row of a further source at most.
const WEIGHT_MAX: f32 = 1000.0;

pub(super) fn weighted_file(text: &str) -> Result<WeightedFile, String> {
    let Some((file, weight)) = text.rsplit_once('=') else {
        return Ok(WeightedFile { file: text.into(), weight: None });
    };
    match weight.parse::<f32>() {
        Ok(weight) if weight > 0.0 && weight <= WEIGHT_MAX => {
            Ok(WeightedFile { file: file.into(), weight: Some(weight) })
        }
        _ => Err(format!(
            "{weight:?} is not a weight above 0, up to {WEIGHT_MAX}; give FILE or FILE=WEIGHT"
        )),
    }
}

/// What a training reads.
pub(in crate::cli) struct Read {
    data: Dataset,
    more: Vec<Source>,
    also: Vec<Source>,
    also_rows: usize,
    tests: Vec<Dataset>,
    calibrate: Option<Dataset>,
    pub(in crate::cli) classes: Classes,
}

impl Read {
    pub(in crate::cli) fn rows(&self) -> TrainingRows<'_> {
        TrainingRows {
            data: &self.data,
            more: &self.more,
            also: &self.also,
            also_rows: self.also_rows,
            tests: &self.tests,
            calibrate: self.calibrate.as_ref(),
        }
    }
}

impl Training {
    /// Reads all files of labelled tweets.
    pub(in crate::cli) fn read(&self) -> anyhow::Result<Read> {
        let mut files = Vec::with_capacity(self.data.len());
        for given in &self.data {
            let read = data::read_excluding(&given.file, &self.test)?;
            eprintln!("{}: {}; {} left", read.file, read.report, read.rows.len());
            files.push((read, given.weight()));
        }
        let has_neutral = files.iter().any(|(file, _)| file.classes == Classes::Three);
        let classes = match self.classes {
            Some(2) => Classes::Two,
            Some(_) => {
                anyhow::ensure!(
                    has_neutral,
                    "--classes 3: no file of --data has neutral rows: add one that people labelled"
                );
                Classes::Three
            }
            None if has_neutral => Classes::Three,
            None => Classes::Two,
        };
        let fit = |mut data: Dataset| {
            if classes == Classes::Two {
                data.leave_out_neutral();
            }
            data
        };
        let mut files = files.into_iter().map(|(file, weight)| (fit(file), weight));
        let (mut data, weight) = files.next().expect("one is required");
        data.rows.iter_mut().for_each(|row| row.weight *= weight);
        let mut more = Vec::new();
        for (other, weight) in files {
            more.push(add(&mut data, other, weight).0);
        }
        if let Some(rows) = self.rows {
            data.draw(rows as usize, self.seed);
        }
        let (mut also, mut also_rows) = (Vec::new(), 0);
        for given in &self.also {
            let other = fit(data::read_excluding(&given.file, &self.test)?);
            let (source, added) = add(&mut data, other, given.weight());
            also.push(source);
            also_rows += added;
        }
        let tests = self.test.iter().map(|path| Ok(fit(data::read(path)?)));
        let tests = tests.collect::<anyhow::Result<_>>()?;
        let calibrate = match &self.calibrate {
            Some(path) => Some(fit(data::read_excluding(path, &self.test)?)),
            None => None,
        };
        Ok(Read { data, more, also, also_rows, tests, calibrate, classes })
    }
}
