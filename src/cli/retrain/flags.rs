//! The flags of `monitor retrain`: those without effect on a family, and the command of a manifest.

use std::path::Path;

use clap::ValueEnum;

use super::{Args, Precision, Preset, is_logistic};
use monitor_core::domain::Language;
use monitor_model::Pretrained;
use monitor_train::data;
use monitor_train::fit::Family;

impl Args {
    /// Rejects flags without effect on this family, which show a misunderstanding.
    pub(super) fn refuse_idle_flags(&self, family: Family) -> anyhow::Result<()> {
        let logistic = is_logistic(family);
        let transformer = family == Family::Transformer;
        let idle = [
            ("--epochs", self.epochs.is_some(), logistic),
            ("--batch", self.batch.is_some(), logistic),
            ("--learning-rate", self.learning_rate.is_some(), logistic),
            ("--embeddings", !self.embeddings.is_empty(), logistic || transformer),
            ("--frozen", self.frozen.is_some(), logistic || transformer),
            ("--hidden", self.hidden.is_some(), logistic || transformer),
            ("--resume", self.resume, logistic),
            ("--base", self.base.is_some(), !transformer),
            ("--teacher", self.teacher.is_some(), logistic),
            (
                "--precision",
                self.precision != Precision::Auto,
                !transformer && self.teacher.is_none(),
            ),
            ("--preset", self.preset == Preset::Study, transformer),
            ("--directions", self.directions.is_some(), family != Family::Lstm),
        ];
        for (flag, given, idle) in idle {
            let name = family.as_str();
            anyhow::ensure!(!(given && idle), "{flag} means nothing to {name}: leave it out");
        }
        Ok(())
    }

    /// Command that trains this family again, with file names instead of paths.
    pub(super) fn command(
        &self,
        family: Family,
        base: Option<&Path>,
        teacher: Option<&str>,
        threads: usize,
    ) -> String {
        let mut words = format!("monitor retrain {}", family.as_str());
        let mut add = |flag: &str, value: String| words.push_str(&format!(" --{flag} {value}"));
        let file = |path: &Path| data::file_name(path);
        self.data.iter().for_each(|data| add("data", data.words()));
        self.test.iter().for_each(|path| add("test", file(path)));
        self.calibrate.iter().for_each(|path| add("calibrate", file(path)));
        self.classes.iter().for_each(|classes| add("classes", classes.to_string()));
        if self.language != [Language::ENGLISH] {
            self.language.iter().for_each(|language| add("language", language.to_string()));
        }
        self.also.iter().for_each(|also| add("also", also.words()));
        self.embeddings.iter().for_each(|path| add("embeddings", file(path)));
        if self.preset == Preset::Study {
            add("preset", "study".into());
        }
        self.name.iter().for_each(|name| add("name", name.clone()));
        add("split", self.split.as_str().into());
        self.rows.iter().for_each(|rows| add("rows", rows.to_string()));
        self.epochs.iter().for_each(|epochs| add("epochs", epochs.to_string()));
        self.batch.iter().for_each(|rows| add("batch", rows.to_string()));
        self.learning_rate.iter().for_each(|rate| add("learning-rate", rate.to_string()));
        if family == Family::Transformer {
            base.iter().for_each(|base| add("base", Pretrained::name(base)));
        }
        let logistic = is_logistic(family);
        teacher
            .iter()
            .filter(|_| !logistic)
            .for_each(|teacher| add("teacher", (*teacher).to_owned()));
        if family == Family::Transformer || (teacher.is_some() && !logistic) {
            let precision = self.precision.to_possible_value().expect("none is skipped");
            add("precision", precision.get_name().to_owned());
        }
        self.frozen.iter().for_each(|frozen| add("frozen", frozen.to_string()));
        self.directions.iter().for_each(|directions| add("directions", directions.to_string()));
        self.hidden.iter().for_each(|hidden| add("hidden", hidden.to_string()));
        add("seed", self.seed.to_string());
        add("set", format!("model.threads={threads}"));
        words
    }
}
