use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::output::{print, print_json, svg_file, write_whole};
use super::retrain::{Name, Names, STOPPED, Training};
use super::signals::stop_on_signals;
use monitor_config::Settings;
use monitor_core::clock::{Clock, SystemClock};
use monitor_train::data;
use monitor_train::fit::Family;
use monitor_train::report::{self, Trial, Tuning};
use monitor_train::{Search, TrainingRequest};

/// Search for the hyperparameters with which a family learns a file best
///
/// Draws hyperparameters at random and trains with each set on a ninth of the training rows. The
/// best third goes on with a third of the rows, the best third of those with all (ASHA, Li et al.
/// 2018). With fewer than 4,500 training rows there are two steps, with fewer than 1,500 one.
/// Trial 1 has the defaults and is trained on all rows in the end, to compare with.
///
/// The loss on the validation rows decides. Rows held out and those of --test are not looked at, so
/// measure what was found on them once, with the command printed at the end. Of many trials, the
/// best one is also lucky: expect a little less elsewhere.
///
/// A flag that is given (--dropout 0.3, --data FILE=0.1) is kept; what is left open is searched. The
/// weight of the first --data file stays.
///
/// Registers nothing. Each result is kept in .runs of the folder of models: after Ctrl-C, a kill or
/// --minutes, the same command with --resume continues, with the same trials. With more --trials it
/// adds some.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which family to search for
    family: Name,

    #[command(flatten)]
    training: Training,

    /// Sets of hyperparameters to try
    #[arg(long, value_name = "N", default_value_t = 27, value_parser = clap::value_parser!(u16).range(1..=1000))]
    trials: u16,

    /// Stop after this many minutes
    #[arg(long, value_name = "MINUTES", value_parser = minutes)]
    minutes: Option<f64>,

    /// Continue a search that was stopped
    #[arg(long)]
    resume: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Draw the loss of each trial against the rows that it was trained on
    #[arg(long, value_name = "FILE.svg", value_parser = svg_file)]
    picture: Option<PathBuf>,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(minutes) if minutes.is_finite() && minutes > 0.0 => Ok(minutes),
        _ => Err(format!("{text:?} is not a number of minutes, such as 30")),
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    tuning: &'a Tuning,
    /// The command that trains the best trial.
    command: Option<&'a str>,
}

/// Searches, and prints the trials and the command of the best one.
pub fn run(args: Args, settings: Settings, commit: Option<&str>) -> anyhow::Result<()> {
    let training = &args.training;
    let family = Family::from(args.family);
    training.refuse_idle_flags(family)?;
    ensure!(
        training.teacher.is_empty(),
        "the search trains from the labels alone: leave --teacher out, and give it to the command \
         that is printed"
    );
    let found = training.find(&[family], &settings.model)?;
    let read = training.read()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let stopped = CancellationToken::new();
    runtime.block_on(async { stop_on_signals(stopped.clone()) })?;
    let clock = SystemClock::new();
    let limit_s = args.minutes.map_or(f64::INFINITY, |minutes| 60.0 * minutes);
    let stop = || stopped.is_cancelled() || clock.elapsed().as_secs_f64() > limit_s;
    let request = training.request(family, &found, read.classes, commit, &stop);
    let command = request.command.replacen("retrain", "tune", 1);
    let request = TrainingRequest { command, resume: args.resume, ..request };
    let further = || training.data.iter().skip(1).chain(&training.also);
    let search = Search {
        trials: usize::from(args.trials),
        weights: further().map(|file| file.weight).collect(),
        weighted: further().map(|file| data::file_name(&file.file)).collect(),
    };
    let tuning = monitor_train::tune(&request, read.rows(), &search)
        .with_context(|| format!("searching for {}", request.name))?;
    let best = tuning.best().map(|best| args.with(best).command(family, &found, Names::Whole));
    if let Some(path) = &args.picture {
        write_whole(path, &report::tuning_svg(&tuning))?;
    }
    match args.json {
        true => print_json(&Printed { tuning: &tuning, command: best.as_deref() })?,
        false => print(&text(&tuning, best.as_deref()))?,
    }
    if !tuning.complete {
        eprintln!(
            "stopped; the results are kept. To continue, give the same command with --resume"
        );
    }
    if stopped.is_cancelled() {
        std::process::exit(STOPPED);
    }
    Ok(())
}

impl Args {
    /// The training with the settings of a trial.
    fn with(&self, trial: &Trial) -> Training {
        let mut training = Training { hyper: trial.settings.hyper, ..self.training.clone() };
        let further = training.data.iter_mut().skip(1).chain(&mut training.also);
        for (file, weight) in further.zip(&trial.settings.weights) {
            file.weight = Some(*weight);
        }
        training
    }
}

/// The table, what the best trial gains, and its command.
fn text(tuning: &Tuning, command: Option<&str>) -> String {
    let (Some(best), Some(command)) = (tuning.best(), command) else {
        return format!("{tuning}no trial was trained to its end\n");
    };
    let gain = match tuning.defaults() {
        Some(defaults) if defaults.trial == best.trial => "the defaults are the best".to_owned(),
        Some(defaults) => {
            let (new, old) = (best.last(), defaults.last());
            let number = |it: Option<f64>| it.map_or("-".to_owned(), |it| format!("{it:.4}"));
            format!(
                "trial {} is the best: loss {}, the defaults {}; {} {}, the defaults {}",
                best.trial,
                number(new.loss),
                number(old.loss),
                tuning.figure,
                number(new.value),
                number(old.value)
            )
        }
        None => format!("trial {} is the best so far", best.trial),
    };
    format!("{tuning}{gain}\n\n{command}\n")
}
