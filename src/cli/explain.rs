use std::fmt::Write;
use std::io;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use anyhow::bail;
use serde::Serialize;

use monitor_config::Settings;
use monitor_core::domain::Score;
use monitor_core::words::{WordWeight, is_hidden, marked, word_weights};
use monitor_model::{self as classifier, Explanation, Method, Model};
use monitor_store::{PostgresStore, Store, StoredTweet};

use super::output::{one_line, print, print_json};
use super::with_store;
use crate::settings::open_options;

/// Words listed below the text, at most; --json has all of them.
const LISTED_MAX: usize = 15;
/// Words of a smaller contribution are not listed: they change the odds by less than 5 %.
const LISTED_MIN: f64 = 0.05;

/// Show which words made a model call a text negative
///
/// `monitor explain "lost my bag again"` prints the label, its probability, the text with its
/// words coloured (red: more negative, blue: less negative), and the words with their
/// contributions to the log-odds of negative: +0.7 doubles the odds, -0.7 halves them. With a
/// model of three classes these are the odds of negative against neutral and positive together.
///
/// For logistic models the contributions are exact: with the model's bias they add up to the
/// log-odds. For the others, a contribution is how much the log-odds fall when the word is left
/// out. A cascade is explained by the one of its models that answered.
///
/// With --id the tweet is read from Postgres and explained by the model that scored it. If that
/// version has been removed, model.name of the settings explains it, and the output says so.
///
/// Colours are for terminals only; NO_COLOR switches them off. Otherwise the words that made the
/// text negative stand between asterisks.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The text
    #[arg(
        value_name = "TEXT",
        allow_hyphen_values = true,
        required_unless_present = "id",
        conflicts_with = "id"
    )]
    text: Option<String>,

    /// Explain a stored tweet instead
    #[arg(long, value_name = "TWEET_ID")]
    id: Option<String>,

    /// A model's name (its promoted version) or name@version [default: the model that scored the
    /// tweet; model.name of the settings for a text]
    #[arg(long, short, value_name = "NAME")]
    model: Option<String>,

    /// Print JSON: text, model, label, probabilities, and each word with its place and contribution
    #[arg(long)]
    json: bool,
}

/// Explains a text or a stored tweet.
pub fn run(args: Args, settings: Settings) -> anyhow::Result<()> {
    let open = |name: &str| classifier::open(&open_options(&settings.model), name);
    let (text, stored, mut model, mut note) = match (args.text, args.id) {
        (Some(text), _) => {
            let name = args.model.as_deref().unwrap_or(&settings.model.name);
            (text, None, open(name)?, None)
        }
        (None, id) => {
            let stored = stored(&settings, &id.unwrap_or_default())?;
            let (model, note) = match (&args.model, open(&stored.model)) {
                (Some(name), _) if *name != stored.model => {
                    (open(name)?, Some(format!("The tweet was scored by {}.", stored.model)))
                }
                (_, Ok(model)) => (model, None),
                (_, Err(error)) => {
                    let model = open(&settings.model.name)?;
                    let note = format!(
                        "The tweet was scored by {}, which cannot be opened ({}); this is what {} \
                         says.",
                        stored.model,
                        one_line(&error.into()),
                        model.id
                    );
                    (model, Some(note))
                }
            };
            (stored.text.clone(), Some(stored), model, note)
        }
    };
    let answer = Answer::of(&mut model, &text, stored)?;
    if answer.explanation.words_per_span > 1 {
        let words = answer.explanation.words_per_span;
        let long = format!("The text is long: contributions are those of {words} words together.");
        note = Some(note.map_or(long.clone(), |note| format!("{note} {long}")));
    }
    if args.json {
        return print_json(&answer.json(note));
    }
    let coloured = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
    print(&answer.text(note.as_deref(), coloured))
}

/// The stored tweet of this id.
fn stored(settings: &Settings, id: &str) -> anyhow::Result<StoredTweet> {
    match with_store(settings, async |store| store.tweet(id).await)? {
        Some(tweet) => Ok(tweet),
        None => bail!(
            "no tweet {id:?} is stored with a score in {}: check the id (monitor explain TEXT \
             explains a text that is not stored)",
            PostgresStore::place(&settings.store)
        ),
    }
}

/// A text, its score and the words that made it.
struct Answer {
    text: String,
    stored: Option<StoredTweet>,
    model: String,
    score: Score,
    explanation: Explanation,
    words: Vec<WordWeight>,
}

#[derive(Serialize)]
struct Json<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    tweet_id: Option<&'a str>,
    text: &'a str,
    /// The model that gives the score below.
    model: &'a str,
    /// The model of a cascade that answered; otherwise the same.
    answered_by: String,
    /// The model that scored the stored tweet.
    #[serde(skip_serializing_if = "Option::is_none")]
    scored_by: Option<&'a str>,
    label: &'static str,
    negative: f32,
    neutral: f32,
    positive: f32,
    method: &'static str,
    log_odds: f64,
    bias: Option<f64>,
    words_per_span: usize,
    words: &'a [WordWeight],
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl Answer {
    fn of(model: &mut Model, text: &str, stored: Option<StoredTweet>) -> anyhow::Result<Self> {
        let explanation = model.explain(text)?;
        let spans = explanation.spans.iter().map(|span| (span.bytes.clone(), span.weight));
        Ok(Self {
            text: text.to_owned(),
            stored,
            model: model.id.to_string(),
            score: model.label(text)?,
            words: word_weights(text, spans),
            explanation,
        })
    }

    fn json(&self, note: Option<String>) -> Json<'_> {
        let probabilities = self.score.probabilities;
        Json {
            tweet_id: self.stored.as_ref().map(|it| it.tweet_id.as_str()),
            text: &self.text,
            model: &self.model,
            answered_by: self.explanation.model.to_string(),
            scored_by: self.stored.as_ref().map(|it| it.model.as_str()),
            label: self.score.label.as_str(),
            negative: probabilities.negative().get(),
            neutral: probabilities.neutral().get(),
            positive: probabilities.positive().get(),
            method: self.explanation.method.as_str(),
            log_odds: self.explanation.log_odds,
            bias: self.explanation.bias,
            words_per_span: self.explanation.words_per_span,
            words: &self.words,
            note,
        }
    }

    fn text(&self, note: Option<&str>, coloured: bool) -> String {
        let Explanation { model, method, log_odds, bias, .. } = &self.explanation;
        let (label, score) = (self.score.label, self.score.of_label());
        let mut out = format!("{label} {score:.2} by {}", self.model);
        let answered = model.to_string();
        if answered != self.model {
            let _ = write!(out, " ({answered} answered)");
        }
        let marked = if coloured { self.coloured() } else { self.starred() };
        let _ = writeln!(out, "\n\n  {marked}\n");
        let mut listed: Vec<_> =
            self.words.iter().filter(|word| word.weight.abs() >= LISTED_MIN).collect();
        listed.sort_by(|a, b| b.weight.abs().total_cmp(&a.weight.abs()));
        for WordWeight { word, weight, .. } in listed.iter().take(LISTED_MAX) {
            let _ = writeln!(out, "  {weight:>+6.2}  {}", clean(word));
        }
        if listed.len() > LISTED_MAX {
            let _ = writeln!(out, "  and {} more (--json)", listed.len() - LISTED_MAX);
        }
        if self.words.is_empty() {
            out.push_str("  The text has no word that a model reads.\n");
        } else if listed.is_empty() {
            out.push_str("  No single word makes a difference.\n");
        }
        let _ = match (method, bias) {
            (Method::Exact, Some(bias)) => writeln!(
                out,
                "\nLog-odds of negative: {log_odds:+.2}, the sum of all words and of the model's bias \
                 {bias:+.2}. +0.7 doubles the odds."
            ),
            _ => writeln!(
                out,
                "\nLog-odds of negative: {log_odds:+.2}. Beside each word: by how much they fall without \
                 it. +0.7 doubles the odds."
            ),
        };
        if let Some(stored) = &self.stored {
            let _ = writeln!(
                out,
                "Stored: negative {:.2} by {}, written {}.",
                stored.negative,
                stored.model,
                stored.created_at.format("%-d %b %Y, %H:%M UTC")
            );
        }
        if let Some(note) = note {
            let _ = writeln!(out, "{note}");
        }
        out
    }

    /// The text with its words coloured.
    fn coloured(&self) -> String {
        let mut out = String::new();
        let mut at = 0;
        for word in &self.words {
            let [begin, end] = word.bytes;
            out.push_str(&clean(&self.text[at..begin]));
            let style = style(word.weight);
            let _ = write!(out, "{style}{}{style:#}", clean(&self.text[begin..end]));
            at = end;
        }
        out + &clean(&self.text[at..])
    }

    /// The text with the words that made it negative between asterisks.
    fn starred(&self) -> String {
        let mut out = String::new();
        let mut at = 0;
        for range in marked(&self.text, &self.words) {
            out.push_str(&clean(&self.text[at..range.start]));
            let _ = write!(out, "*{}*", clean(&self.text[range.clone()]));
            at = range.end;
        }
        out + &clean(&self.text[at..])
    }
}

/// Red if a word makes the text more negative, blue if less; bold and underlined if it changes the
/// odds by half or more.
fn style(weight: f64) -> Style {
    let colour = if weight > 0.0 { AnsiColor::Red } else { AnsiColor::Blue };
    match weight.abs() {
        strong if strong >= 0.4 => Style::new().fg_color(Some(colour.into())).bold().underline(),
        weak if weak >= LISTED_MIN => Style::new().fg_color(Some(colour.into())),
        _ => Style::new(),
    }
}

/// Text of strangers must not control the terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if is_hidden(c) { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use monitor_core::domain::{Probabilities, Probability};
    use monitor_model::Span;

    use super::*;

    fn answer(text: &str, weights: &[(&str, f64)]) -> Answer {
        let span = |(word, weight): &(&str, f64)| {
            let at = text.find(word).expect("a word of the text");
            Span { bytes: at..at + word.len(), weight: *weight }
        };
        let explanation = Explanation {
            model: "lstm@4".parse().expect("an id"),
            method: Method::Occlusion,
            log_odds: 2.5,
            bias: None,
            spans: weights.iter().map(span).collect(),
            words_per_span: 1,
        };
        let negative = Probability::new(0.92).expect("a probability");
        Answer {
            text: text.into(),
            stored: None,
            model: "cascade@3".into(),
            score: Score::new(Probabilities::two(negative), Probability::HALF.into()),
            words: word_weights(
                text,
                explanation.spans.iter().map(|it| (it.bytes.clone(), it.weight)),
            ),
            explanation,
        }
    }

    #[test]
    fn shows_the_words() {
        let weights = [("lost", 1.5), ("my", 0.01), ("bag", 0.2), ("thanks", -0.9)];
        let answer = answer("lost my bag, \u{1b}[2Jthanks\n", &weights);
        assert_eq!(
            answer.text(Some("A note."), false),
            "NEGATIVE 0.92 by cascade@3 (lstm@4 answered)\n\n  *lost* my bag,  [2Jthanks \n\n   \
             +1.50  lost\n   -0.90  thanks\n   +0.20  bag\n\nLog-odds of negative: +2.50. Beside \
             each word: by how much they fall without it. +0.7 doubles the odds.\nA note.\n"
        );
        let coloured = answer.text(None, true);
        assert!(coloured.contains("\u{1b}[1m\u{1b}[4m\u{1b}[31mlost\u{1b}[0m my"), "{coloured:?}");
        assert!(coloured.contains("\u{1b}[34mthanks\u{1b}[0m"), "{coloured:?}");
        assert!(!coloured.contains("\u{1b}[2J"), "a text must not control the terminal");
    }

    #[test]
    fn says_when_there_is_nothing_to_show() {
        assert!(answer("-", &[]).text(None, false).contains("has no word"));
        assert!(answer("so", &[("so", 0.01)]).text(None, true).contains("No single word"));
    }
}
