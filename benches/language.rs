//! How well and how fast is the language of a tweet found?
//!
//! `text::language::detect` on tweets in seven languages and on English tweets, next to the two
//! crates it is made of, each alone on the same cleaned texts. An English tweet that is called
//! another language is not scored, so this is the error to keep small. Speed is that of one
//! thread; for the crates alone it leaves out the cleaning.
//!
//! The limits of `detect` were chosen on the rows of the split "train" and on other English
//! tweets; here are the rows of "val" and "test". The Hindi tweets are in Latin letters, many of
//! them mixed with English.
//!
//! `scripts/bench language [--data ../shared/data] [--rounds 3] [--json FILE]`

mod common;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Parser;
use common::{Output, Report, spread};
use liblzma::read::XzDecoder;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::Language;
use monitor_core::stats::wilson;
use monitor_core::text::language::{detect, words_to_detect};
use serde_json::json;

/// Files of tweets and the code of their language.
const LANGUAGES: [(&str, &str); 7] = [
    ("arabic", "ar"),
    ("french", "fr"),
    ("german", "de"),
    ("hindi", "hi"),
    ("italian", "it"),
    ("portuguese", "pt"),
    ("spanish", "es"),
];
/// English tweets taken from each file.
const ENGLISH_ROWS: usize = 3_000;

/// Measures how well and how fast the language of a tweet is found
///
/// Prints, for each language, the share of tweets whose language is found, and of those called
/// English, another language, or unknown; and tweets/s on one thread.
#[derive(Parser)]
struct Args {
    /// Folder with languages/*.tsv.xz, semeval/*.tsv.xz and airline/Tweets.csv.xz
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data"))]
    data: PathBuf,
    /// Rounds of the measurement of speed
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    #[command(flatten)]
    output: Output,
    /// Passed by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// Tweets in one language.
struct Tweets {
    name: String,
    language: Language,
    texts: Vec<String>,
}

/// Something that names the language of a text.
struct Side {
    name: &'static str,
    /// Whether it gets the text without mentions, links and emoji.
    cleaned: bool,
    detect: fn(&str) -> Option<Language>,
}

const SIDES: [Side; 3] = [
    Side { name: "monitor", cleaned: false, detect },
    Side { name: "whatlang", cleaned: true, detect: whatlang_alone },
    Side { name: "whichlang", cleaned: true, detect: whichlang_alone },
];

/// Whatlang with all its languages, where it calls itself reliable.
fn whatlang_alone(text: &str) -> Option<Language> {
    let info = whatlang::detect(text).filter(whatlang::Info::is_reliable)?;
    info.lang().code().parse().ok()
}

/// Whichlang, which always names one of its 16 languages.
fn whichlang_alone(text: &str) -> Option<Language> {
    whichlang::detect_language(text).three_letter_code().parse().ok()
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    ensure!(
        args.data.join("languages").exists(),
        "{} does not exist: give the folder of the labelled tweets with --data",
        args.data.join("languages").display()
    );
    let mut sets = Vec::new();
    for (name, code) in LANGUAGES {
        let text = unpacked(&args.data.join(format!("languages/{name}.tsv.xz")))?;
        let rows = text.lines().skip(1).filter_map(|line| {
            let (split, rest) = line.split_once('\t')?;
            (split != "train").then(|| Some(rest.split_once('\t')?.1.to_owned()))?
        });
        sets.push(Tweets { name: name.into(), language: code.parse()?, texts: rows.collect() });
    }
    let semeval = unpacked(&args.data.join("semeval/semeval-2013-2016-taskA.tsv.xz"))?;
    let rows = semeval.lines().filter_map(|line| Some(line.splitn(3, '\t').nth(2)?.to_owned()));
    sets.push(english("English, SemEval", rows.collect()));
    let airline = unpacked(&args.data.join("airline/Tweets.csv.xz"))?;
    let mut reader = csv::Reader::from_reader(airline.as_bytes());
    let column = reader.headers()?.iter().position(|name| name == "text");
    let column = column.context("the airline tweets have no column text")?;
    let rows: Result<Vec<_>, _> = reader.records().collect();
    let rows = rows?.iter().filter_map(|row| row.get(column).map(str::to_owned)).collect();
    sets.push(english("English, airlines", rows));

    let mut report = Report::new("language", json!({ "rounds": args.rounds }));
    for side in &SIDES {
        println!("{}\n", side.name);
        println!("| tweets | rows | found | called English | called another (95 %) | unknown |");
        println!("| --- | ---: | ---: | ---: | ---: | ---: |");
        for set in &sets {
            measure(side, set, &mut report);
        }
        println!();
    }
    println!("| side | tweets/s, English | tweets/s, other languages |");
    println!("| --- | ---: | ---: |");
    for side in &SIDES {
        let rates = [true, false].map(|english| speed(side, &sets, english, args.rounds));
        let median = |rates: &[f64]| spread(rates)["median"].as_f64().unwrap_or(f64::NAN);
        println!("| {} | {:.0} | {:.0} |", side.name, median(&rates[0]), median(&rates[1]));
        let [english, others] = rates.map(|rates| spread(&rates));
        report.row(
            "speed",
            json!({"side": side.name, "tweets_s_english": english, "tweets_s_others": others}),
        );
    }
    report.write(&args.output)
}

/// Prints and reports what a side says of one set.
fn measure(side: &Side, set: &Tweets, report: &mut Report) {
    let (mut found, mut english, mut another, mut unknown) = (0_u32, 0, 0, 0);
    for text in &prepared(side, &set.texts) {
        match (side.detect)(text) {
            Some(language) if language == set.language => found += 1,
            Some(Language::ENGLISH) => english += 1,
            Some(_) => another += 1,
            None => unknown += 1,
        }
    }
    let rows = set.texts.len() as f64;
    let percent = |count: u32| 100.0 * f64::from(count) / rows;
    let interval = wilson(f64::from(another) / rows, rows);
    println!(
        "| {} | {} | {:.1} % | {:.1} % | {:.2} % ({:.2} to {:.2}) | {:.1} % |",
        set.name,
        set.texts.len(),
        percent(found),
        percent(english),
        percent(another),
        100.0 * interval.low,
        100.0 * interval.high,
        percent(unknown)
    );
    report.row(
        "accuracy",
        json!({
            "side": side.name,
            "tweets": set.name,
            "language": set.language,
            "rows": set.texts.len(),
            "found": found,
            "called_english": english,
            "called_another": another,
            "called_another_interval_95": {"low": interval.low, "high": interval.high},
            "unknown": unknown,
        }),
    );
}

/// Tweets a second on one thread, for each round.
fn speed(side: &Side, sets: &[Tweets], english: bool, rounds: u32) -> Vec<f64> {
    let sets = sets.iter().filter(|set| (set.language == Language::ENGLISH) == english);
    let texts: Vec<String> = sets.flat_map(|set| prepared(side, &set.texts)).collect();
    let round = |_| {
        let clock = SystemClock::new();
        for text in &texts {
            std::hint::black_box((side.detect)(text));
        }
        texts.len() as f64 / clock.elapsed().as_secs_f64()
    };
    (0..rounds).map(round).collect()
}

fn prepared(side: &Side, texts: &[String]) -> Vec<String> {
    let prepare = |text: &String| {
        if side.cleaned { words_to_detect(text) } else { text.clone() }
    };
    texts.iter().map(prepare).collect()
}

/// English tweets, evenly spaced over the file. Those on which the limits were chosen lie
/// between them.
fn english(name: &str, mut rows: Vec<String>) -> Tweets {
    let step = (rows.len() / (2 * ENGLISH_ROWS)).max(1);
    let texts = rows.drain(..).step_by(step).skip(1).step_by(2).take(ENGLISH_ROWS).collect();
    Tweets { name: name.into(), language: Language::ENGLISH, texts }
}

fn unpacked(path: &Path) -> anyhow::Result<String> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut bytes = Vec::new();
    let read = XzDecoder::new_multi_decoder(file).read_to_end(&mut bytes);
    read.with_context(|| format!("cannot unpack {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
