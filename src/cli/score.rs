use crate::settings::open_options;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use serde::Serialize;

use monitor_config::Settings;
use monitor_core::domain::Score;
use monitor_model::{self as classifier, Encoding, Model};

/// Most texts of a batch.
const BATCH_ROWS_MAX: usize = 512;
/// Most lines read in advance.
const LINES_AHEAD_MAX: usize = BATCH_ROWS_MAX;
/// Longer lines are cut, in bytes.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Score a text, or each line of standard input
///
/// `monitor score "we love you"` prints the label and its probability: POSITIVE 0.98.
///
/// `monitor score -` reads one text per line from standard input and writes one JSON object
/// per line, in the same order, with text, label (NEGATIVE, NEUTRAL or POSITIVE), score
/// (probability of that label), negative, neutral and positive (the probabilities, which sum to
/// 1; neutral is 0 for a model of two classes) and model (name@version). Output is written
/// whenever the input pauses. An empty line is scored as a text without words; invalid UTF-8 is
/// replaced by U+FFFD; a line is cut at 1 MiB.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The text, or - for standard input
    #[arg(value_name = "TEXT", allow_hyphen_values = true)]
    text: String,

    /// A model's name (its promoted version) or name@version [default: model.name of the settings]
    #[arg(long, short, value_name = "NAME")]
    model: Option<String>,
}

/// Opens the model and scores.
pub fn run(args: Args, settings: Settings) -> anyhow::Result<()> {
    let name = args.model.as_deref().unwrap_or(&settings.model.name);
    let mut model = classifier::open(&open_options(&settings.model), name)?;
    let outcome = if args.text == "-" {
        score_lines(&mut model, io::stdin(), io::stdout().lock())
    } else {
        let score = model.label(&args.text)?;
        writeln!(io::stdout(), "{} {:.2}", score.label, score.of_label()).map_err(Into::into)
    };
    match outcome {
        // The reader has closed the pipe, as in `monitor score - | head`.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        other => other,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[derive(Serialize)]
struct Answer<'a> {
    text: &'a str,
    label: &'a str,
    score: f32,
    negative: f32,
    neutral: f32,
    positive: f32,
    model: &'a str,
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
    while let Some(batch) = next_batch(&lines)? {
        let rows: Vec<&Encoding> = batch.iter().map(|line| &line.encoding).collect();
        let scores = model.classify(&rows)?;
        for (line, probabilities) in batch.iter().zip(scores) {
            let score = Score::new(probabilities, model.thresholds);
            let answer = Answer {
                text: &line.text,
                label: score.label.as_str(),
                score: score.of_label(),
                negative: probabilities.negative().get(),
                neutral: probabilities.neutral().get(),
                positive: probabilities.positive().get(),
                model: &id,
            };
            serde_json::to_writer(&mut output, &answer).map_err(io::Error::from)?;
            output.write_all(b"\n")?;
        }
        output.flush()?;
    }
    Ok(())
}

/// The next line and those already read, up to a full batch; `None` at the end. Lines that
/// arrive while the model computes form the next batch, so batches grow with the load.
fn next_batch(lines: &Receiver<io::Result<Line>>) -> io::Result<Option<Vec<Line>>> {
    let Ok(first) = lines.recv() else { return Ok(None) };
    let mut batch = vec![first?];
    while batch.len() < BATCH_ROWS_MAX {
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
