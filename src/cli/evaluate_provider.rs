//! `monitor evaluate --provider`: evaluates a paid service.
//!
//! **Invariant.** No request is sent before the limits are checked and the user has agreed.
//! Answers are written to the file before the next request is sent.
//! Deliberately absent: a key on the command line, where other users would see it.

mod report;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio_util::sync::CancellationToken;

use self::report::{Answer, Effort, Report};
use super::output::{print, print_json};
use super::signals::stop_on_signals;
use monitor_core::Secret;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::Label;
use monitor_core::text::unit_interval;
use monitor_telemetry as telemetry;
use monitor_train::data;
use monitor_train::provider::{Azure, BATCH_DOCUMENTS_MAX, Limits, Retry, text_records};

/// Names as in the samples of Azure's own libraries.
const KEY_VARIABLE: &str = "AZURE_LANGUAGE_KEY";
const ENDPOINT_VARIABLE: &str = "AZURE_LANGUAGE_ENDPOINT";
/// Longest duration of one request.
const TIMEOUT: Duration = Duration::from_secs(30);
const LINE_EVERY_S: f64 = 5.0;

/// Options of `monitor evaluate` for a paid service.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Evaluate a paid service instead of a model")]
pub struct ProviderArgs {
    /// Evaluate a paid service: draws balanced tweets from --data, prints the cost, asks for
    /// consent, and reports figures with and without neutral tweets
    #[arg(long, value_enum, value_name = "NAME",
        conflicts_with_all = ["model", "split", "threshold", "picture"])]
    pub provider: Option<Name>,

    /// The resource's endpoint [default: second line of --key-file, or AZURE_LANGUAGE_ENDPOINT]
    #[arg(long, requires = "provider", value_name = "URL")]
    endpoint: Option<String>,

    /// File with the resource's key and, on a second line, its endpoint [default: the key in
    /// AZURE_LANGUAGE_KEY]
    #[arg(long, requires = "provider", value_name = "FILE")]
    key_file: Option<PathBuf>,

    /// How many tweets to draw, equally many of each label
    #[arg(long, requires = "provider", value_name = "N", default_value_t = 500)]
    documents: usize,

    /// Seed of the random sample
    #[arg(long, requires = "provider", value_name = "N", default_value_t = 140)]
    seed: u64,

    /// Never send more tweets than this
    #[arg(long, requires = "provider", value_name = "N", default_value_t = 1000)]
    documents_max: usize,

    /// Never spend more than this in one run, retries included; a later run that continues from
    /// the answers in --save may spend the same amount again
    #[arg(long, requires = "provider", value_name = "EUR",
        default_value_t = 1.0, value_parser = amount)]
    cost_eur_max: f64,

    /// Price of 1,000 text records (a tweet is one record; longer texts are one per 1,000 characters)
    #[arg(long, requires = "provider", value_name = "EUR",
        default_value_t = 0.90, value_parser = amount)]
    price_eur_per_1000: f64,

    /// Spend the money without asking
    #[arg(long, requires = "provider")]
    yes: bool,

    /// Keep each answer in this file, one JSON object per line; tweets that it already contains
    /// are not sent again
    #[arg(long, requires = "provider", value_name = "FILE")]
    save: Option<PathBuf>,

    /// Report on the answers in this file, without sending anything
    #[arg(long, requires = "provider", value_name = "FILE", conflicts_with = "save")]
    answers: Option<PathBuf>,
}

/// A service.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Name {
    /// Azure Text Analytics v3.1 (Azure AI Language)
    Azure,
}

/// Sends the tweets, keeps the answers, and reports. `data` is the file of labelled tweets.
///
/// # Errors
/// A limit is exceeded, the user does not agree, or the run stopped early; the answers until then
/// are reported nevertheless.
pub fn run(args: &ProviderArgs, data: Option<&Path>, json: bool) -> anyhow::Result<()> {
    if let Some(path) = &args.answers {
        let answers = kept(path)?;
        ensure!(!answers.is_empty(), "{} holds no answer", path.display());
        return print_report(&Report::of(&answers, None), json);
    }
    let data = data.context("no tweets: give --data FILE, or --answers FILE")?;
    let rows = data::read_all(data)?;
    let rows = rows.into_iter().map(|row| (row.label, row.text)).collect();
    let rows = draw(rows, args.documents, args.seed)?;
    let before = match &args.save {
        Some(path) if path.exists() => kept(path)?,
        _ => Vec::new(),
    };
    let mut known: HashMap<&str, &Answer> =
        before.iter().map(|answer| (answer.text.as_str(), answer)).collect();
    let mut answers = Vec::with_capacity(rows.len());
    let mut open = Vec::new();
    for (truth, text) in &rows {
        match known.remove(text.as_str()) {
            Some(answer) => answers.push(Answer { truth: *truth, ..answer.clone() }),
            None => open.push((*truth, text.as_str())),
        }
    }
    if open.is_empty() {
        return print_report(&Report::of(&answers, None), json);
    }

    // This target logs the endpoint's name when a certificate is invalid.
    let filter = format!("{},rustls_platform_verifier=off", monitor_config::Log::default().filter);
    telemetry::init_logging(&filter, telemetry::Format::Text).context("the log's filter")?;
    let records_max = records_max(args.cost_eur_max, args.price_eur_per_1000);
    let mut azure = prepare(args, records_max)?;
    agree(args, &open, records_max, answers.len())?;
    let mut file = args.save.as_deref().map(append).transpose()?;
    let asking = Asking { args, clock: SystemClock::new(), total: open.len() };
    let (had, clock) = (answers.len(), asking.clock);
    let outcome = tokio::runtime::Runtime::new()?.block_on(asking.all(
        &mut azure,
        &open,
        &mut answers,
        file.as_mut(),
    ));
    let (asked, seconds) = (answers.len() - had, clock.elapsed().as_secs_f64());
    let usage = azure.usage();
    let effort = Effort {
        asked,
        seconds,
        tweets_per_second: asked as f64 / seconds,
        usage,
        cost_eur_max: eur(usage.records, args.price_eur_per_1000),
    };
    if !answers.is_empty() {
        print_report(&Report::of(&answers, Some(effort)), json)?;
    }
    outcome.with_context(|| {
        let what_now = match &args.save {
            Some(path) => {
                format!("answers are in {}; the same command continues from there", path.display())
            }
            None => "no answer was kept; add --save FILE to keep them".into(),
        };
        format!(
            "stopped after {asked} of {} tweets and {:.3} EUR at most ({what_now})",
            open.len(),
            effort.cost_eur_max
        )
    })
}

/// A run through all batches.
struct Asking<'a> {
    args: &'a ProviderArgs,
    clock: SystemClock,
    total: usize,
}

impl Asking<'_> {
    /// Adds answers to `answers` and `file`, batch by batch, until the end, an error or a signal.
    async fn all(
        &self,
        azure: &mut Azure,
        rows: &[(Label, &str)],
        answers: &mut Vec<Answer>,
        mut file: Option<&mut File>,
    ) -> anyhow::Result<()> {
        let stop = CancellationToken::new();
        stop_on_signals(stop.clone())?;
        let (mut done, mut last_s) = (0, 0.0);
        for rows in rows.chunks(BATCH_DOCUMENTS_MAX) {
            let texts: Vec<&str> = rows.iter().map(|(_, text)| *text).collect();
            let batch = tokio::select! {
                batch = azure.ask(&texts) => batch?,
                () = stop.cancelled() => bail!("interrupted"),
            };
            let mut lines = String::new();
            for ((truth, text), reply) in rows.iter().zip(batch.replies) {
                let (text, model_version) = ((*text).to_owned(), batch.model_version.clone());
                let answer = Answer { text, truth: *truth, model_version, reply };
                lines.push_str(&serde_json::to_string(&answer)?);
                lines.push('\n');
                answers.push(answer);
            }
            if let Some(file) = &mut file {
                file.write_all(lines.as_bytes()).context("the last answers could not be saved")?;
            }
            done += rows.len();
            self.say(done, azure.usage().records, &mut last_s);
        }
        Ok(())
    }

    /// Prints a line every few seconds.
    fn say(&self, done: usize, records: u64, last_s: &mut f64) {
        let now_s = self.clock.elapsed().as_secs_f64();
        if now_s - *last_s >= LINE_EVERY_S {
            *last_s = now_s;
            let rate = done as f64 / now_s;
            eprintln!(
                "{done} of {} tweets, {rate:.1} tweets/s, {:.0} s left, {:.3} EUR at most",
                self.total,
                (self.total - done) as f64 / rate,
                eur(records, self.args.price_eur_per_1000)
            );
        }
    }
}

/// Prints the cost, checks the limits, and asks the user to agree.
fn agree(
    args: &ProviderArgs,
    rows: &[(Label, &str)],
    records_max: u64,
    known: usize,
) -> anyhow::Result<()> {
    let records: u64 = rows.iter().map(|(_, text)| text_records(text)).sum();
    let characters: usize = rows.iter().map(|(_, text)| text.chars().count()).sum();
    let mut labels: BTreeMap<Label, usize> = BTreeMap::new();
    rows.iter().for_each(|(truth, _)| *labels.entry(*truth).or_default() += 1);
    let labels: Vec<String> = labels.iter().map(|(t, n)| format!("{n} {}", t.word())).collect();
    let price = args.price_eur_per_1000;
    eprintln!(
        "{} tweets ({}), {characters} characters, {} requests at least; {records} text records, \
         {:.3} EUR at {price} EUR per 1,000; with retries never more than {} EUR.",
        rows.len(),
        labels.join(", "),
        rows.len().div_ceil(BATCH_DOCUMENTS_MAX),
        eur(records, price),
        args.cost_eur_max
    );
    if known > 0 {
        eprintln!("{known} more are answered in the file.");
    }
    ensure!(
        rows.len() <= args.documents_max,
        "{} tweets are more than --documents-max {}; nothing was sent",
        rows.len(),
        args.documents_max
    );
    ensure!(
        records <= records_max,
        "{:.3} EUR are more than --cost-eur-max {}; nothing was sent",
        eur(records, price),
        args.cost_eur_max
    );
    if args.yes {
        return Ok(());
    }
    ensure!(
        io::stdin().is_terminal(),
        "there is no terminal to ask for consent; add --yes to spend the money. Nothing was sent"
    );
    eprint!("The texts leave this machine. Go on? [y/N] ");
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    ensure!(is_yes(&line), "nothing was sent");
    Ok(())
}

fn is_yes(line: &str) -> bool {
    ["y", "yes"].contains(&line.trim().to_lowercase().as_str())
}

/// Finds key and endpoint. The endpoint in the file takes precedence over the environment's, which
/// may belong to another key.
fn prepare(args: &ProviderArgs, records_max: u64) -> anyhow::Result<Azure> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let (key, of_file) = match &args.key_file {
        Some(path) => {
            let text = fs::read_to_string(path)
                .with_context(|| format!("cannot read the key from {}", path.display()))?;
            let mut lines = text.lines().map(|line| line.trim().to_owned());
            (lines.next(), lines.find(|line| !line.is_empty()))
        }
        None => (variable(KEY_VARIABLE), None),
    };
    let key = key.with_context(|| format!("no key: set {KEY_VARIABLE} or give --key-file FILE"))?;
    let endpoint = args.endpoint.clone().or(of_file).or_else(|| variable(ENDPOINT_VARIABLE));
    let endpoint = endpoint
        .with_context(|| format!("no endpoint: set {ENDPOINT_VARIABLE} or give --endpoint URL"))?;
    let limits = Limits { records_max, timeout: TIMEOUT, retry: Retry::default() };
    Ok(Azure::new(&endpoint, Secret::new(key.trim()), limits, Arc::new(SystemClock::new()))?)
}

/// Draws `documents` rows, equally many of each label, in alternating order, so that a run that
/// stops early is balanced, too. No text is drawn twice.
fn draw(
    mut rows: Vec<(Label, String)>,
    documents: usize,
    seed: u64,
) -> anyhow::Result<Vec<(Label, String)>> {
    rows.sort_by_cached_key(|(_, text)| (unit_interval(seed, text) * 1e15) as u64);
    let mut seen = HashSet::new();
    let mut labels: BTreeMap<Label, Vec<String>> = BTreeMap::new();
    for (truth, text) in rows {
        if seen.insert(text.clone()) {
            labels.entry(truth).or_default().push(text);
        }
    }
    let scarcest = labels.values().map(Vec::len).min().unwrap_or(0);
    ensure!(scarcest > 0, "there is no labelled tweet in the data");
    let each = scarcest.min(documents / labels.len());
    ensure!(each > 0, "{documents} tweets are too few: at least one of each label is needed");
    if each < documents / labels.len() {
        eprintln!("Only {each} tweets of each label: one label has no more.");
    }
    let mut labels: Vec<_> =
        labels.into_iter().map(|(truth, texts)| (truth, texts.into_iter())).collect();
    let mut drawn = Vec::with_capacity(each * labels.len());
    for _ in 0..each {
        for (truth, texts) in &mut labels {
            drawn.extend(texts.next().map(|text| (*truth, text)));
        }
    }
    Ok(drawn)
}

/// The answers in a file.
fn kept(path: &Path) -> anyhow::Result<Vec<Answer>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let answer = |(line, text): (usize, &str)| {
        let whole = text.ends_with('\n').then_some(text);
        whole.and_then(|text| serde_json::from_str(text).ok()).with_context(|| {
            format!(
                "{}, line {}: not an answer written by --save; remove the line if an interrupted \
                 run left it incomplete",
                path.display(),
                line + 1
            )
        })
    };
    text.split_inclusive('\n').enumerate().map(answer).collect()
}

/// Opens the file of answers before money is spent, so that a write error is found early.
fn append(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.with_context(|| format!("cannot write to {}; nothing was sent", path.display()))
}

fn print_report(report: &Report, json: bool) -> anyhow::Result<()> {
    if json { print_json(report) } else { print(&report.to_string()) }
}

/// Number of text records that the money pays for, computed in millionths of a euro.
fn records_max(cost_eur_max: f64, price_eur_per_1000: f64) -> u64 {
    let millionths = |eur: f64| (eur * 1e6).round() as u128;
    let found = (millionths(cost_eur_max) * 1_000).checked_div(millionths(price_eur_per_1000));
    found.map_or(u64::MAX, |records| u64::try_from(records).unwrap_or(u64::MAX))
}

fn eur(records: u64, price_eur_per_1000: f64) -> f64 {
    records as f64 * price_eur_per_1000 / 1_000.0
}

/// An amount of money.
fn amount(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|eur| (0.0..=1e6).contains(eur))
        .ok_or_else(|| format!("{text:?} is not an amount in EUR, such as 0.90"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computes_the_records_that_the_money_pays_for() {
        let check = |name, cost, price, expected| {
            assert_eq!(records_max(cost, price), expected, "{name}");
        };
        check("just enough", 0.45, 0.90, 500);
        check("no rounding down", 0.09, 0.90, 100);
        check("nearly", 0.899_999, 0.90, 999);
        check("nothing", 0.0, 0.90, 0);
        check("free of charge", 0.0, 0.0, u64::MAX);
        check("the most", 1e6, 0.000_001, 1_000_000_000_000_000);
        assert_eq!(eur(500, 0.90), 0.45);
        for wrong in ["", "-1", "NaN", "inf", "1e9", "0,90"] {
            assert!(amount(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_yes_means_yes() {
        let check = |line, expected| assert_eq!(is_yes(line), expected, "{line:?}");
        check("y\n", true);
        check(" Yes \r\n", true);
        check("", false);
        check("\n", false);
        check("n\n", false);
        check("yesterday\n", false);
    }

    #[test]
    fn draws_equally_many_of_each_label() {
        let rows = |n: usize, truth: Label| (0..n).map(move |i| (truth, format!("{truth:?} {i}")));
        let many: Vec<_> = rows(50, Label::Negative)
            .chain(rows(90, Label::Positive))
            .chain(rows(5, Label::Negative))
            .collect();
        let check = |name, documents, expected: Option<usize>| {
            let drawn = draw(many.clone(), documents, 7).ok();
            let negative = |drawn: &[(Label, String)]| {
                drawn.iter().filter(|(truth, _)| *truth == Label::Negative).count()
            };
            assert_eq!(drawn.as_deref().map(negative), expected, "{name}");
            assert_eq!(drawn.as_ref().map(Vec::len), expected.map(|n| 2 * n), "{name}");
            let texts = drawn
                .as_ref()
                .map(|drawn| drawn.iter().map(|(_, text)| text).collect::<HashSet<_>>().len());
            assert_eq!(texts, expected.map(|n| 2 * n), "{name}: no text twice");
            assert_eq!(drawn, draw(many.clone(), documents, 7).ok(), "{name}: the same again");
        };
        check("some", 20, Some(10));
        check("an odd number", 21, Some(10));
        check("more than there are", 1_000, Some(50));
        check("one", 1, None);
        assert_ne!(draw(many.clone(), 20, 7).ok(), draw(many.clone(), 20, 8).ok(), "by the seed");
        assert!(draw(Vec::new(), 20, 7).is_err());
        let neutral: Vec<_> = many.iter().cloned().chain(rows(90, Label::Neutral)).collect();
        assert_eq!(draw(neutral, 30, 7).unwrap().len(), 30, "three labels");
    }
}
