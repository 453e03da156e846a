mod remote;

use crate::settings::open_options;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use reqwest::Url;
use serde::Serialize;

use super::output::print_json;
use monitor_config::Settings;
use monitor_core::domain::{Label, Language, Score};
use monitor_core::text::language;
use monitor_model::{self as classifier, Encoding, Model};

/// Most texts of a batch.
const BATCH_ROWS_MAX: usize = 512;
/// Most lines read in advance.
const LINES_AHEAD_MAX: usize = BATCH_ROWS_MAX;
/// Longer lines are cut, in bytes.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Score a text, or each line of standard input
///
/// `monitor score "we love you"` prints the label and its probability: POSITIVE 0.98. A text in a
/// language that the model does not know, and an empty one, is not judged, as in the daemon.
///
/// `monitor score -` reads one text per line from standard input and writes one JSON object
/// per line, in the same order, with text, label (NEGATIVE, NEUTRAL or POSITIVE), score
/// (probability of that label), negative, neutral and positive (the probabilities, which sum to
/// 1; neutral is 0 for a model of two classes), language (found in the text; null if unknown) and
/// model (name@version). A text that is not judged has null in place of label and numbers. Output is
/// written whenever the input pauses. Invalid UTF-8 is replaced by U+FFFD; a line is cut at 1 MiB.
///
/// With --url, a running `monitor run` or `monitor serve` scores the texts. While it is overloaded, the
/// command waits as long as it asks for, and gives up after six attempts.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The text, or - for standard input
    #[arg(value_name = "TEXT", allow_hyphen_values = true)]
    text: String,

    /// A model's name (its promoted version) or name@version [default: model.name of the settings]
    #[arg(long, short, value_name = "NAME")]
    model: Option<String>,

    /// Ask the server at this address, such as http://127.0.0.1:8080
    #[arg(long, value_name = "URL")]
    url: Option<Url>,

    /// The server's token, if it asks for one; better set in the environment
    #[arg(long, value_name = "TOKEN", env = "MONITOR_TOKEN", hide_env_values = true)]
    token: Option<String>,

    /// Print JSON, for one text too
    #[arg(long)]
    json: bool,
}

/// Scores, with a model that is opened here, or at a server.
pub fn run(args: Args, settings: Settings) -> anyhow::Result<()> {
    let outcome = match &args.url {
        Some(url) => remote::Server::new(url, args.model.as_deref(), args.token.as_deref())
            .and_then(|server| at_a_server(&args, &server)),
        None => here(&args, &settings),
    };
    match outcome {
        // The reader has closed the pipe, as in `monitor score - | head`.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        other => other,
    }
}

fn here(args: &Args, settings: &Settings) -> anyhow::Result<()> {
    let name = args.model.as_deref().unwrap_or(&settings.model.name);
    let mut model = classifier::open(&open_options(&settings.model), name)?;
    if args.text == "-" {
        return score_lines(&mut model, io::stdin(), io::stdout().lock());
    }
    let verdict = verdict(&model, &args.text);
    if args.json {
        let id = model.id.to_string();
        let score = match verdict {
            Verdict::Judge(_) => Some(model.label(&args.text)?),
            Verdict::Empty | Verdict::Unknown(_) => None,
        };
        return print_json(&Answer::of(&args.text, score, verdict.language(), Some(&id)));
    }
    let line = match verdict {
        Verdict::Empty => EMPTY.to_owned(),
        Verdict::Unknown(language) => {
            let known: Vec<_> = model.languages.iter().map(language::name).collect();
            let (language, known) = (language::name(&language), known.join(", "));
            format!("not judged: {language}, and {} knows {known}", model.id)
        }
        Verdict::Judge(_) => {
            let score = model.label(&args.text)?;
            format!("{} {:.2}", score.label, score.of_label())
        }
    };
    writeln!(io::stdout(), "{line}").map_err(Into::into)
}

fn at_a_server(args: &Args, server: &remote::Server) -> anyhow::Result<()> {
    if args.text == "-" {
        return score_lines_at(server, io::stdin(), io::stdout().lock());
    }
    let replies = server.score(&[&args.text])?;
    let reply = &replies[0];
    if args.json {
        return print_json(&reply.answer(&args.text));
    }
    let line = match &reply.score {
        _ if args.text.trim().is_empty() => EMPTY.to_owned(),
        Some(score) => format!("{} {:.2}", score.label, score.of_label()),
        None => {
            let language = language::detect(&args.text);
            let language = language.as_ref().map_or("an unknown language", language::name);
            format!("not judged: {language}, which no model of {} knows", server.url())
        }
    };
    writeln!(io::stdout(), "{line}").map_err(Into::into)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

const EMPTY: &str = "not judged: the text is empty";

/// Whether a text is scored.
enum Verdict {
    Empty,
    /// The model does not know its language.
    Unknown(Language),
    /// Its language, if known.
    Judge(Option<Language>),
}

impl Verdict {
    fn language(&self) -> Option<Language> {
        match self {
            Self::Empty => None,
            Self::Unknown(language) => Some(*language),
            Self::Judge(language) => *language,
        }
    }
}

fn verdict(model: &Model, text: &str) -> Verdict {
    match language::detect(text) {
        _ if text.trim().is_empty() => Verdict::Empty,
        Some(language) if !model.knows(Some(language)) => Verdict::Unknown(language),
        found => Verdict::Judge(found),
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    text: &'a str,
    label: Option<&'a str>,
    score: Option<f32>,
    negative: Option<f32>,
    neutral: Option<f32>,
    positive: Option<f32>,
    language: Option<Language>,
    model: Option<&'a str>,
}

impl<'a> Answer<'a> {
    fn of(
        text: &'a str,
        score: Option<Score>,
        language: Option<Language>,
        model: Option<&'a str>,
    ) -> Self {
        let of = |label| score.map(|score| score.probabilities.of(label).get());
        Self {
            text,
            label: score.map(|score| score.label.as_str()),
            score: score.map(|score| score.of_label()),
            negative: of(Label::Negative),
            neutral: of(Label::Neutral),
            positive: of(Label::Positive),
            language,
            model,
        }
    }
}

struct Line {
    text: String,
    encoding: Encoding,
}

/// Reads and encodes lines on one thread, scores and writes on this one.
fn score_lines(
    model: &mut Model,
    input: impl Read + Send + 'static,
    output: impl Write,
) -> anyhow::Result<()> {
    let id = model.id.to_string();
    let mut output = io::BufWriter::new(output);
    let (send, lines) = sync_channel(LINES_AHEAD_MAX);
    let encoder = model.encoder.clone();
    thread::spawn(move || {
        read_lines(input, &send, |text| Line { encoding: encoder.encode(&text), text });
    });
    while let Some(batch) = next_batch(&lines, BATCH_ROWS_MAX)? {
        let rows: Vec<&Encoding> = batch.iter().map(|line| &line.encoding).collect();
        let scores = model.classify(&rows)?;
        for (line, probabilities) in batch.iter().zip(scores) {
            let verdict = verdict(model, &line.text);
            let judged = matches!(verdict, Verdict::Judge(_));
            let score = judged.then(|| Score::new(probabilities, model.thresholds));
            let answer = Answer::of(&line.text, score, verdict.language(), Some(&id));
            write_line(&mut output, &answer)?;
        }
        output.flush()?;
    }
    Ok(())
}

fn write_line(output: &mut impl Write, answer: &Answer<'_>) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *output, answer).map_err(io::Error::from)?;
    Ok(output.write_all(b"\n")?)
}

/// As [`score_lines`], at a server.
fn score_lines_at(
    server: &remote::Server,
    input: impl Read + Send + 'static,
    output: impl Write,
) -> anyhow::Result<()> {
    let mut output = io::BufWriter::new(output);
    let (send, lines) = sync_channel(LINES_AHEAD_MAX);
    thread::spawn(move || read_lines(input, &send, |text| text));
    while let Some(batch) = next_batch(&lines, server.batch_rows_max())? {
        let texts: Vec<&str> = batch.iter().map(String::as_str).collect();
        for (text, reply) in texts.iter().zip(server.score(&texts)?) {
            write_line(&mut output, &reply.answer(text))?;
        }
        output.flush()?;
    }
    Ok(())
}

/// The next line and those already read, up to a full batch; `None` at the end. Lines that
/// arrive while the model computes form the next batch, so batches grow with the load.
fn next_batch<T>(lines: &Receiver<io::Result<T>>, rows_max: usize) -> io::Result<Option<Vec<T>>> {
    let Ok(first) = lines.recv() else { return Ok(None) };
    let mut batch = vec![first?];
    while batch.len() < rows_max {
        match lines.try_recv() {
            Ok(line) => batch.push(line?),
            Err(_) => break,
        }
    }
    Ok(Some(batch))
}

/// Sends every line without its line feed until the input ends or the receiver is gone.
fn read_lines<T>(input: impl Read, send: &SyncSender<io::Result<T>>, made: impl Fn(String) -> T) {
    let mut input = BufReader::new(input);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let outcome = read_line(&mut input, &mut bytes);
        let line = match outcome {
            Ok(false) => return,
            Ok(true) => Ok(made(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) => Err(error),
        };
        let failed = line.is_err();
        if send.send(line).is_err() || failed {
            return;
        }
    }
}

/// Reads up to the next line feed; bytes beyond [`LINE_BYTES_MAX`] are skipped. Returns whether
/// there was a line.
fn read_line(input: &mut impl BufRead, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let read = input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', bytes)?;
    if read == 0 {
        return Ok(false);
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    } else if read as u64 == LINE_BYTES_MAX {
        input.skip_until(b'\n')?;
    }
    Ok(true)
}
