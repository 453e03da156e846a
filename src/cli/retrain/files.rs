//! The files of labelled tweets that a training reads, and their weights.

use std::path::PathBuf;

use monitor_core::domain::Classes;
use monitor_model::Source;
use monitor_train::data::{self, Dataset};

use super::Args;

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
pub(super) struct WeightedFile {
    pub(super) file: PathBuf,
    pub(super) weight: f32,
}

impl WeightedFile {
    /// As in a command.
    pub(super) fn words(&self) -> String {
        let file = data::file_name(&self.file);
        if self.weight == 1.0 { file } else { format!("{file}={}", self.weight) }
    }
}

/// Weight of a row of a further source at most.
const WEIGHT_MAX: f32 = 1000.0;

pub(super) fn weighted_file(text: &str) -> Result<WeightedFile, String> {
    let Some((file, weight)) = text.rsplit_once('=') else {
        return Ok(WeightedFile { file: text.into(), weight: 1.0 });
    };
    match weight.parse::<f32>() {
        Ok(weight) if weight > 0.0 && weight <= WEIGHT_MAX => {
            Ok(WeightedFile { file: file.into(), weight })
        }
        _ => Err(format!(
            "{weight:?} is not a weight above 0, up to {WEIGHT_MAX}; give FILE or FILE=WEIGHT"
        )),
    }
}

/// What a training reads.
pub(super) struct Read {
    pub(super) data: Dataset,
    pub(super) more: Vec<Source>,
    pub(super) also: Vec<Source>,
    pub(super) also_rows: usize,
    pub(super) tests: Vec<Dataset>,
    pub(super) calibrate: Option<Dataset>,
    pub(super) classes: Classes,
}

impl Args {
    /// Reads all files of labelled tweets.
    pub(super) fn read(&self) -> anyhow::Result<Read> {
        let mut files = Vec::with_capacity(self.data.len());
        for WeightedFile { file, weight } in &self.data {
            let read = data::read_excluding(file, &self.test)?;
            eprintln!("{}: {}; {} left", read.file, read.report, read.rows.len());
            files.push((read, *weight));
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
        for WeightedFile { file, weight } in &self.also {
            let (source, added) =
                add(&mut data, fit(data::read_excluding(file, &self.test)?), *weight);
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
