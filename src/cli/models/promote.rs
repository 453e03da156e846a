//! `monitor models promote` and `rollback`: the registry first, then the stream.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::cli::with_store;
use crate::promotion::{Jump, Rescorer, jumps, table};
use crate::settings::open_options;
use monitor_config::Settings;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{Minute, Switches};
use monitor_core::format::utc_minute;
use monitor_model::{self as classifier, Comparison, Manifest, ModelHandle, ModelId, OpenOptions};
use monitor_store::{PostgresStore, Store, StoreError};
use monitor_train::{data, report};

use super::super::output::print;

/// Tweets may arrive this long after their minute was read, and be scored again all the same.
const LATE_MINUTES: i64 = 60;
/// Time between two lines of progress.
const PROGRESS_WAIT: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(super) struct Promote {
    /// Which version, as name@version
    #[arg(value_name = "ID")]
    id: ModelId,

    /// Promote it regardless of the figures and of the jump of the share
    #[arg(long)]
    force: bool,

    /// Measure both versions now on these labelled tweets (except rows that either learned from),
    /// and compare only those figures
    #[arg(long, value_name = "FILE", conflicts_with = "force")]
    data: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Rollback {
    /// The model's name
    name: String,
}

/// What is to be done about the stream.
enum Stream {
    /// Nothing, for this reason.
    Not(String),
    /// The version is not promoted, because a share would jump too far.
    Refused(String),
    /// The stored tweets are scored again; minutes from here on may have more to come.
    Prepared { gap_from: Minute },
}

pub(super) fn promote(args: &Promote, settings: &Settings) -> anyhow::Result<()> {
    let (id, directory) = (&args.id, &settings.model.directory);
    let words = if args.force {
        classifier::resolve(directory, &id.to_string())?;
        format!("{id} is promoted")
    } else {
        let verdict = classifier::judge(directory, id, |current, new| match &args.data {
            None => Ok(classifier::comparable(current, new)),
            Some(file) => measure(&open_options(&settings.model), file, [current, new]),
        })?;
        let words = verdict.words(id, directory);
        ensure!(verdict.is_promoted(), words);
        words
    };
    match switch(id, &words, args.force, settings)? {
        Ok(()) => Ok(()),
        Err(refused) => bail!(refused),
    }
}

/// Prepares the stream, and promotes the version for its name and for the stream unless a share would
/// jump too far; the inner error says so.
pub(in crate::cli) fn switch(
    id: &ModelId,
    words: &str,
    force: bool,
    settings: &Settings,
) -> anyhow::Result<Result<(), String>> {
    let stream = if scores_the_stream(settings, id) {
        prepare(settings, id, force)?
    } else {
        let name = &settings.model.name;
        Stream::Not(format!("model.name of the settings is {name}, so the stream keeps its model"))
    };
    if let Stream::Refused(reason) = stream {
        return Ok(Err(reason));
    }
    classifier::promote(&settings.model.directory, id, SystemClock::new().now())?;
    print(&format!("{words}\n"))?;
    match stream {
        Stream::Refused(_) => {}
        Stream::Not(reason) => print(&format!("{reason}\n"))?,
        Stream::Prepared { gap_from } => {
            let switches = with_store(settings, async |store| {
                store.switch_to(&id.to_string(), gap_from).await
            })
            .with_context(|| {
                format!("{id} is promoted, but the stream is not switched; run this again")
            })?;
            print(&switched(&switches))?;
        }
    }
    Ok(Ok(()))
}

pub(super) fn rollback(args: &Rollback, settings: &Settings) -> anyhow::Result<()> {
    let now = SystemClock::new().now();
    let (from, to) = classifier::rollback(&settings.model.directory, &args.name, now)?;
    print(&format!("{} opens {to} again instead of {from}\n", args.name))?;
    if !scores_the_stream(settings, &to) {
        return print("the stream keeps its model: model.name of the settings is another one\n");
    }
    let switches = match reach(settings)? {
        Ok(switches) => switches,
        Err(reason) => return print(&format!("{reason}\n")),
    };
    let Some(newest) = switches.newest().filter(|newest| newest.model != to.to_string()) else {
        return print(&format!("{to} scores the stream\n"));
    };
    ensure!(
        newest.model == from.to_string(),
        "{} scores the stream, not {from}, so it is not switched; to switch it to {to}: monitor \
         models promote {to}",
        newest.model
    );
    // The model has counted nothing since another one took over from it.
    let known = switches.as_slice();
    let last = known.iter().rposition(|switch| switch.model == to.to_string());
    let Some(gap_from) = last.and_then(|last| known.get(last + 1)).map(|next| next.from) else {
        bail!(
            "{to} has not scored this stream yet, so it has no baseline; to prepare and switch: \
             monitor models promote {to}"
        );
    };
    let switches =
        with_store(settings, async |store| store.switch_to(&to.to_string(), gap_from).await)?;
    print(&switched(&switches))
}

/// Whether the settings ask for this version to score the stream.
fn scores_the_stream(settings: &Settings, id: &ModelId) -> bool {
    settings.model.name == id.name || settings.model.name == id.to_string()
}

fn switched(switches: &Switches) -> String {
    let Some(newest) = switches.newest() else { return String::new() };
    let (model, from) = (&newest.model, newest.from);
    if from <= Minute(0) {
        return format!("{model} scores the stream from its beginning\n");
    }
    format!(
        "{model} scores the stream from {} on (event time, UTC); `monitor models rollback` switches \
         back\n",
        utc_minute(from.start())
    )
}

/// The switches, or why the stream cannot be switched.
fn reach(settings: &Settings) -> anyhow::Result<Result<Switches, String>> {
    let reached = tokio::runtime::Runtime::new()?
        .block_on(async { PostgresStore::connect(&settings.store)?.reach().await });
    let topic = &settings.kafka.topic;
    let found = match reached {
        Ok(()) => with_store(settings, async |store| {
            Ok((store.switches().await?, !store.progress(topic).await?.is_empty()))
        }),
        Err(error) => Err(error.into()),
    };
    let place = PostgresStore::place(&settings.store);
    Ok(match found {
        Ok((switches, true)) if switches.newest().is_some() => Ok(switches),
        Ok((switches, false)) if switches.newest().is_some() => Err(format!(
            "the stream keeps its model: no daemon has read the topic {topic} into the database \
             {place}; set kafka.topic to that of the stream, and run this again"
        )),
        Ok(_) => Err(format!(
            "no daemon has used the database {place} yet: the first one begins with what \
             model.name opens"
        )),
        Err(error) => Err(format!(
            "no stream is switched and no stored tweet is scored again: {error:#}; once the daemon's \
             database can be used, run this again"
        )),
    })
}

/// Scores the stored tweets again, and refuses a version that would move a share too far.
fn prepare(settings: &Settings, id: &ModelId, force: bool) -> anyhow::Result<Stream> {
    let switches = match reach(settings)? {
        Ok(switches) => switches,
        Err(reason) => return Ok(Stream::Not(reason)),
    };
    let model = id.to_string();
    let newest = switches.newest().expect("there is a switch, or it cannot be reached");
    if newest.model == model {
        let words = switched(&switches);
        return Ok(Stream::Not(words.trim_end().to_owned()));
    }
    let opened = classifier::open(&open_options(&settings.model), &model)?;
    let handle = ModelHandle::spawn(opened);
    let limit = settings.promotion.rows_per_s_max;
    let days = i64::from(settings.promotion.history_days);
    let prepared = with_store(settings, async |store| {
        let shared: Arc<dyn Store> = Arc::new(store.clone());
        let rescorer = Rescorer::new(shared, handle, limit);
        let mut gap_from = Minute(0);
        let Some(mut last) = newest_minute(store, settings).await? else {
            return Ok(Ok((gap_from, Vec::new())));
        };
        let first = last.plus(-days * 1440);
        // The second pass is for what has arrived during the first one.
        for pass in ["the stored tweets", "the tweets since then"] {
            let mut progress = progress(&model, pass);
            if let Err(error) = rescorer.rescore(first, last, &mut progress).await {
                return Ok(Err(error));
            }
            gap_from = last.plus(-LATE_MINUTES);
            last = newest_minute(store, settings).await?.unwrap_or(last);
        }
        let current = switches.at(last).map_or("", |switch| &switch.model);
        Ok(Ok((gap_from, jumps(store.pairs(&model, current, first).await?))))
    })?;
    let again = "what was scored is kept; to continue, run this again";
    let (gap_from, jumps) = prepared.context(again)?;
    if !jumps.is_empty() {
        print(&table(&jumps))?;
    }
    let refused = (!force).then(|| too_far(&jumps, settings, id)).flatten();
    Ok(refused.map_or(Stream::Prepared { gap_from }, Stream::Refused))
}

/// Why the version is not promoted, if a share would jump too far.
fn too_far(jumps: &[Jump], settings: &Settings, id: &ModelId) -> Option<String> {
    let (jump_max, tweets_min) =
        (settings.promotion.jump_max, settings.alerting.baseline_tweets_min);
    let above: Vec<_> = jumps
        .iter()
        .filter(|jump| jump.is_above(jump_max, tweets_min))
        .map(|jump| jump.brand.as_str())
        .collect();
    (!above.is_empty()).then(|| {
        format!(
            "{id} is not promoted: the share would jump by more than {:.0} points \
             (promotion.jump_max) for {}; the two models do not mean the same by \"negative\". To \
             promote it anyway: monitor models promote {id} --force",
            100.0 * jump_max,
            above.join(", ")
        )
    })
}

/// The newest minute that has a tweet.
async fn newest_minute(
    store: &PostgresStore,
    settings: &Settings,
) -> Result<Option<Minute>, StoreError> {
    let progress = store.progress(&settings.kafka.topic).await?;
    Ok(progress.iter().filter_map(|partition| partition.event_time_max).max().map(Minute::of))
}

/// Prints how far the scoring is, now and then.
fn progress(model: &str, pass: &'static str) -> impl FnMut(u64, u64) + Send {
    let (model, clock) = (model.to_owned(), SystemClock::new());
    let mut printed = Duration::ZERO;
    move |done, all| {
        let now = clock.elapsed();
        if done == all || now - printed >= PROGRESS_WAIT {
            printed = now;
            let rate = done as f64 / now.as_secs_f64().max(1e-3);
            let left = (all - done) as f64 / rate.max(1e-3);
            eprintln!(
                "{model} scores {pass}: {done} of {all}, {rate:.0} a second, {left:.0} s left"
            );
        }
    }
}

/// Measures both versions on the same labelled rows, outside both training sets.
fn measure(
    options: &OpenOptions,
    file: &Path,
    manifests: [&Manifest; 2],
) -> anyhow::Result<Vec<Comparison>> {
    let data = data::read(file)?;
    // What a cascade's models learned from it knows too.
    let known =
        |manifest: &Manifest| classifier::known(&options.directory, &manifest.id().to_string());
    let known = [known(manifests[0])?, known(manifests[1])?].concat();
    let selection = data::select(&data, &known, None)?;
    eprintln!("{}", selection.note);
    let rows = selection.rows;
    let [current, new] = manifests.map(|manifest| {
        let mut model = classifier::open(options, &manifest.id().to_string())?;
        let figures = report::measure(&mut model, &rows)?;
        figures
            .get("roc_auc")
            .copied()
            .with_context(|| format!("{} needs both negative and positive rows", file.display()))
    });
    let (data, rows) = (data.file.clone(), rows.len());
    Ok(vec![Comparison { data, rows, current: current?, new: new? }])
}
