use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::json;

use super::models::aligned;
use super::output::{print, print_json, write_whole};
use super::times::{show as when, time};
use super::{require_brand, with_store};
use monitor_config::Settings;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{Counts, Label, Minute};
use monitor_core::format::percent_tenths;
use monitor_core::quantify::{self, Estimate, LABELS_MIN, Rates};
use monitor_store::{Correction, Sample, SampleRequest, Store};

mod sheet;

/// Days that a sample covers by default.
const DAYS: i64 = 30;
/// Invalid lines that an error names, at most.
const LINES_NAMED_MAX: usize = 5;

/// Let people label a random sample of a brand's tweets
///
/// `labels sample` writes a sheet (CSV) with tweets drawn at random. People write negative, neutral
/// or positive into its column "label", and `labels import` reads the sheet back. The labels tell how
/// often the model errs on this brand, and so the true share: `labels report`, the page and the mails
/// show it.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Draw tweets at random and write a sheet to label
    Sample(SampleArgs),
    /// Read a labelled sheet; invalid lines leave the database unchanged
    Import(Import),
    /// List the samples
    List(Json),
    /// Show for each sample how often the model errs, and the corrected share
    Report(Json),
    /// Say what one tweet is; kept apart from the samples, as it was not drawn at random
    Correct(Correct),
    /// Write all labels and corrections as a file for `monitor retrain --also` and `monitor evaluate`
    Export(Export),
}

#[derive(Debug, clap::Args)]
struct SampleArgs {
    /// The brand
    #[arg(long)]
    brand: String,

    /// How many tweets to draw
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    tweets: u32,

    /// From when, by the tweets' own time, in UTC [default: 30 days before --to]
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<DateTime<Utc>>,

    /// Until when [default: the brand's newest tweet]
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<DateTime<Utc>>,

    /// The sheet to write
    #[arg(long, value_name = "FILE.csv")]
    output: PathBuf,

    /// Who draws it
    #[arg(long, value_name = "WHO", env = "USER", hide_env_values = true)]
    by: String,
}

#[derive(Debug, clap::Args)]
struct Import {
    /// The labelled sheet; columns may be separated by commas, semicolons or tabs
    #[arg(value_name = "FILE.csv")]
    file: PathBuf,

    /// Who labelled it
    #[arg(long, value_name = "WHO", env = "USER", hide_env_values = true)]
    by: String,
}

#[derive(Debug, clap::Args)]
struct Json {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Correct {
    /// The tweet's id
    #[arg(value_name = "TWEET")]
    tweet: String,

    /// What it is: negative, neutral or positive
    #[arg(value_name = "LABEL", value_parser = label)]
    label: Label,

    /// Who says so
    #[arg(long, value_name = "WHO", env = "USER", hide_env_values = true)]
    by: String,
}

#[derive(Debug, clap::Args)]
struct Export {
    /// Only the labels of this brand's samples, without corrections
    #[arg(long)]
    brand: Option<String>,

    /// The file to write
    #[arg(long, value_name = "FILE.csv")]
    output: PathBuf,
}

fn label(word: &str) -> Result<Label, String> {
    Label::of_word(word.trim()).ok_or_else(|| "give negative, neutral or positive".into())
}

pub fn run(args: Args, settings: Settings) -> anyhow::Result<()> {
    let now = SystemClock::new().now();
    match args.command {
        Command::Sample(args) => sample(&args, &settings, now),
        Command::Import(args) => import(&args, &settings, now),
        Command::List(args) => list(&args, &settings),
        Command::Report(args) => report(&args, &settings),
        Command::Correct(args) => correct(args, &settings, now),
        Command::Export(args) => export(&args, &settings),
    }
}

fn sample(args: &SampleArgs, settings: &Settings, now: DateTime<Utc>) -> anyhow::Result<()> {
    let brands: Vec<&str> = settings.brands.keys().map(String::as_str).collect();
    require_brand(&args.brand, &brands)?;
    let brand = &args.brand;
    let newest = with_store(settings, async |store| store.last_minute(brand).await)?;
    let Some(newest) = newest else { bail!("{brand} has no scored tweet yet") };
    let to = args.to.unwrap_or_else(|| newest.plus(1).start());
    let from = args.from.unwrap_or(to - TimeDelta::days(DAYS));
    ensure!(from < to, "--from {} is not before --to {}", when(from), when(to));
    let request = SampleRequest {
        brand: brand.clone(),
        from,
        to,
        tweets: args.tweets,
        seed: format!("{:016x}", rand::random::<u64>()),
        by: args.by.clone(),
        at: now,
    };
    let (sample, tweets) = with_store(settings, async |store| {
        let sample = store.draw_sample(&request).await?;
        let tweets = store.sampled_tweets(sample.id).await?;
        Ok((sample, tweets))
    })?;
    ensure!(
        sample.tweets > 0,
        "{brand} has no scored tweet from {} to {}: choose --from and --to",
        when(from),
        when(to)
    );
    write_whole(&args.output, &sheet::write(&sample, &tweets)?)?;
    print(&format!(
        "sample {}: {} of {} tweets about {brand} from {} to {}, in {}\n\
         write negative, neutral or positive into the column label, then: monitor labels import {}\n",
        sample.id,
        sample.tweets,
        sample.population,
        when(from),
        when(to),
        args.output.display(),
        args.output.display()
    ))
}

fn import(args: &Import, settings: &Settings, now: DateTime<Utc>) -> anyhow::Result<()> {
    let file = args.file.display();
    let bytes = fs::read(&args.file).with_context(|| format!("cannot read {file}"))?;
    let sheet = sheet::read(&bytes).with_context(|| args.file.display().to_string())?;
    let samples = with_store(settings, async |store| store.samples().await)?;
    let mut mistakes = sheet.mistakes;
    let mut known = |line: usize, id: i64, place: u32| {
        let sample = samples.iter().find(|sample| sample.id == id);
        let tweets = sample.map_or(0, |sample| sample.tweets);
        if u64::from(place) > tweets {
            mistakes.push((line, format!("this database has no row s{id}r{place}")));
        }
    };
    sheet.labels.iter().for_each(|row| known(row.line, row.sample, row.place));
    if !mistakes.is_empty() {
        mistakes.sort();
        let more = mistakes.len().saturating_sub(LINES_NAMED_MAX);
        let named = mistakes.iter().take(LINES_NAMED_MAX);
        let mut lines: Vec<_> = named.map(|(at, what)| format!("  line {at}: {what}")).collect();
        lines.extend((more > 0).then(|| format!("  and {more} more")));
        bail!("{file} cannot be read, nothing was changed:\n{}", lines.join("\n"));
    }
    let mut by_sample = std::collections::BTreeMap::<i64, Vec<(u32, Label)>>::new();
    for row in &sheet.labels {
        by_sample.entry(row.sample).or_default().push((row.place, row.label));
    }
    let changed = with_store(settings, async |store| {
        let mut changed = 0;
        for (sample, labels) in &by_sample {
            changed += store.record_labels(*sample, labels, &args.by, now).await?;
        }
        Ok(changed)
    })?;
    let (labels, empty) = (sheet.labels.len(), sheet.empty);
    print(&format!("{labels} labels read, {changed} new or changed, {empty} rows without one\n"))
}

fn list(args: &Json, settings: &Settings) -> anyhow::Result<()> {
    let samples = with_store(settings, async |store| store.samples().await)?;
    if args.json {
        return print_json(&samples.iter().map(sample_json).collect::<Vec<_>>());
    }
    if samples.is_empty() {
        return print("no samples: draw one with `monitor labels sample`\n");
    }
    let header = ["id", "brand", "from", "to", "drawn", "of", "labelled", "by"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for it in samples {
        let numbers = [it.tweets, it.population, it.labelled].map(|number| number.to_string());
        let times = [when(it.from), when(it.to)];
        let row = [it.id.to_string(), it.brand].into_iter().chain(times).chain(numbers);
        rows.push(row.chain([it.by]).collect());
    }
    print(&aligned(&rows))
}

fn sample_json(sample: &Sample) -> serde_json::Value {
    json!({
        "id": sample.id,
        "brand": sample.brand,
        "from": sample.from,
        "to": sample.to,
        "tweets": sample.tweets,
        "population": sample.population,
        "labelled": sample.labelled,
        "by": sample.by,
        "at": sample.at,
    })
}

/// What a sample says of one model.
struct Finding {
    sample: Sample,
    model: String,
    /// The labelled tweets, and those that people call negative.
    labelled: Counts,
    /// The labelled tweets, and those that the model calls negative.
    called: Counts,
    rates: Option<Rates>,
    corrected: Option<Estimate>,
}

fn report(args: &Json, settings: &Settings) -> anyhow::Result<()> {
    let findings = with_store(settings, async |store| {
        let mut findings = Vec::new();
        for sample in store.samples().await?.into_iter().filter(|it| it.labelled > 0) {
            let tweets = store.sampled_tweets(sample.id).await?;
            let models: std::collections::BTreeSet<String> =
                tweets.iter().map(|tweet| tweet.model.clone()).collect();
            for model in models {
                let (from, to) = (Minute::of(sample.from), Minute::of(sample.to));
                let all = monitor_store::labelled(store, &sample.brand, &model).await?;
                let rows: Vec<_> = (all.into_iter())
                    .filter(|(minute, _)| (from..to).contains(minute))
                    .map(|(_, row)| row)
                    .collect();
                let count = |is_it: fn(&quantify::Labelled) -> bool| Counts {
                    total: rows.len() as u64,
                    negative: rows.iter().filter(|row| is_it(row)).count() as u64,
                };
                let stream = store.model_counts(&model, &sample.brand, from, to.plus(-1)).await?;
                let stream = stream.into_iter().fold(Counts::default(), |sum, (_, it)| sum + it);
                let rates = monitor_store::rates(&rows);
                findings.push(Finding {
                    labelled: count(|row| row.negative),
                    called: count(|row| row.called_negative),
                    corrected: quantify::corrected(stream, rates.as_ref(), &rows, 1.0),
                    rates,
                    model,
                    sample: sample.clone(),
                });
            }
        }
        Ok(findings)
    })?;
    if args.json {
        return print_json(&findings.iter().map(finding_json).collect::<Vec<_>>());
    }
    if findings.is_empty() {
        return print("no labels: draw a sample with `monitor labels sample`\n");
    }
    print(&findings.iter().map(finding_text).collect::<String>())
}

fn finding_json(finding: &Finding) -> serde_json::Value {
    json!({
        "sample": sample_json(&finding.sample),
        "model": finding.model,
        "labelled": finding.labelled,
        "called": finding.called,
        "rates": finding.rates,
        "corrected": finding.corrected,
    })
}

fn finding_text(finding: &Finding) -> String {
    let Sample { id, brand, tweets, .. } = &finding.sample;
    let percent = |share: Option<f64>| share.map_or("-".into(), percent_tenths);
    let rates = finding.rates.map_or("unknown".into(), |rates| {
        format!(
            "{} of the negative tweets found, {} of the others called negative",
            percent_tenths(rates.true_positive()),
            percent_tenths(rates.false_positive())
        )
    });
    let corrected = match finding.corrected {
        Some(Estimate { share, interval, method }) => format!(
            "{} (95 % {} to {}, {})",
            percent_tenths(share),
            percent_tenths(interval.low),
            percent_tenths(interval.high),
            <&str>::from(method)
        ),
        None => "none: too few labels, or the model hardly separates these tweets".into(),
    };
    let labels = finding.labelled.total;
    let missing = (LABELS_MIN as u64).saturating_sub(labels);
    let more = match missing {
        0 => String::new(),
        _ => format!("; {missing} more make it independent of the model's rates"),
    };
    format!(
        "sample {id}, {brand}, {}: {labels} of {tweets} labelled{more}\n  \
         negative share: {} by people, {} called so by the model\n  model: {rates}\n  \
         share of all tweets, corrected: {corrected}\n",
        finding.model,
        percent(finding.labelled.share()),
        percent(finding.called.share()),
    )
}

fn correct(args: Correct, settings: &Settings, now: DateTime<Utc>) -> anyhow::Result<()> {
    let Correct { tweet: tweet_id, label, by } = args;
    let correction = Correction { tweet_id, label, by, at: now, text: String::new() };
    let stored = with_store(settings, async |store| store.correct(&correction).await)?;
    ensure!(stored, "there is no tweet with the id {:?}", correction.tweet_id);
    print(&format!("{} is {}\n", correction.tweet_id, label.word()))
}

/// A label of a tweet, its text, and when the tweet was written, or the correction.
pub(super) type LabelledText = (Label, String, DateTime<Utc>);

/// What people said of tweets.
pub(super) struct LabelledTexts {
    /// Labels of random samples.
    pub(super) sampled: Vec<LabelledText>,
    /// Corrections, which are no random sample: people correct what a model got wrong.
    pub(super) corrections: Vec<LabelledText>,
}

/// The labels of all samples and all corrections, or those of a brand's samples alone.
pub(super) fn labelled_texts(
    brand: Option<&str>,
    settings: &Settings,
) -> anyhow::Result<LabelledTexts> {
    with_store(settings, async |store| {
        let (mut sampled, mut corrections) = (Vec::new(), Vec::new());
        for sample in store.samples().await? {
            if brand.is_none_or(|brand| *brand == sample.brand) {
                for tweet in store.sampled_tweets(sample.id).await? {
                    sampled.extend(tweet.label.map(|it| (it, tweet.text, tweet.created_at)));
                }
            }
        }
        if brand.is_none() {
            let all = store.corrections().await?.into_iter();
            corrections.extend(all.map(|it| (it.label, it.text, it.at)));
        }
        Ok(LabelledTexts { sampled, corrections })
    })
}

/// Writes labels as a file that `monitor retrain` and `monitor evaluate` read.
pub(super) fn write_labelled(path: &Path, rows: &[LabelledText]) -> anyhow::Result<()> {
    let mut out = csv::Writer::from_writer(Vec::new());
    out.write_record(["label", "text", "created_at"])?;
    for (label, text, at) in rows {
        let at = at.to_rfc3339_opts(SecondsFormat::Secs, true);
        out.write_record([label.word(), text, &at])?;
    }
    write_whole(path, &String::from_utf8(out.into_inner()?)?)
}

fn export(args: &Export, settings: &Settings) -> anyhow::Result<()> {
    let found = labelled_texts(args.brand.as_deref(), settings)?;
    let rows = [found.sampled, found.corrections].concat();
    ensure!(!rows.is_empty(), "there are no labels yet");
    write_labelled(&args.output, &rows)?;
    print(&format!("{} labels in {}\n", rows.len(), args.output.display()))
}
