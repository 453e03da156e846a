//! Texts scored by a running server.
//!
//! **Invariant.** A batch is sent again only if the server was overloaded or had no model yet, no
//! sooner than it asks for, and at most [`Retry::attempts_max`] times. An empty text is not sent.
//! Deliberately absent: several requests at once; the server batches what waits.

use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use reqwest::header::RETRY_AFTER;
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::json;
use tokio::runtime::Runtime;

use super::Answer;
use monitor_core::backoff::retry_after;
use monitor_core::clock::{Clock, SystemClock};
use monitor_core::domain::{Label, Language, Probabilities, Probability, Score};
use monitor_core::text::language;
use monitor_train::provider::{Next, Retry};

/// Longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Longest wait for an answer; the server's own limit is shorter.
const ANSWER_MAX: Duration = Duration::from_secs(40);

/// A server, and the model to ask for.
pub(super) struct Server {
    runtime: Runtime,
    client: reqwest::Client,
    base: Url,
    /// Where texts are sent.
    route: Url,
    token: Option<String>,
    retry: Retry,
    batch_rows_max: usize,
}

/// What the server says of a text.
pub(super) struct Reply {
    /// `None` if it is not judged.
    pub score: Option<Score>,
    language: Option<Language>,
    model: Option<String>,
}

impl Reply {
    pub fn answer<'a>(&'a self, text: &'a str) -> Answer<'a> {
        Answer::of(text, self.score, self.language, self.model.as_deref())
    }
}

#[derive(Deserialize)]
struct Info {
    max_client_batch_size: usize,
}

#[derive(Deserialize)]
struct Prediction {
    label: String,
    score: f32,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: String,
}

impl Server {
    /// Asks the server at `base` for its limits.
    pub fn new(base: &Url, model: Option<&str>, token: Option<&str>) -> anyhow::Result<Self> {
        ensure!(
            ["http", "https"].contains(&base.scheme()) && base.has_host(),
            "--url {base} is no address: give one such as http://127.0.0.1:8080"
        );
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_MAX)
            .timeout(ANSWER_MAX)
            .user_agent(concat!("monitor/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let mut server = Self {
            runtime: Runtime::new()?,
            client,
            base: base.clone(),
            route: below(base, model.map_or(&["predict"], |_| &["models"]), model),
            token: token.map(str::to_owned),
            retry: Retry::default(),
            batch_rows_max: 1,
        };
        let info: Info = server
            .ask(&|| server.client.get(below(base, &["info"], None)))
            .and_then(|answer| Ok(server.runtime.block_on(answer.json())?))?;
        server.batch_rows_max = info.max_client_batch_size.max(1);
        Ok(server)
    }

    /// Texts of one request, at most.
    pub fn batch_rows_max(&self) -> usize {
        self.batch_rows_max
    }

    /// The address.
    pub fn url(&self) -> &Url {
        &self.base
    }

    /// Scores up to [`Self::batch_rows_max`] texts, in order.
    pub fn score(&self, texts: &[&str]) -> anyhow::Result<Vec<Reply>> {
        let sent: Vec<&str> = texts.iter().copied().filter(|text| !is_empty(text)).collect();
        let mut found = if sent.is_empty() { Vec::new() } else { self.send(&sent)? }.into_iter();
        let reply = |text: &&str| match is_empty(text) {
            true => Reply { score: None, language: None, model: None },
            false => found.next().expect("a reply for each text sent"),
        };
        Ok(texts.iter().map(reply).collect())
    }

    fn send(&self, texts: &[&str]) -> anyhow::Result<Vec<Reply>> {
        // A list is a batch for `/models/...`; for `/predict` a batch is a list of lists.
        let inputs = match self.route.path().ends_with("/predict") {
            true => json!(texts.iter().map(|text| [text]).collect::<Vec<_>>()),
            false => json!(texts),
        };
        let body = json!({ "inputs": inputs });
        let answer = self.ask(&|| self.client.post(self.route.clone()).json(&body))?;
        let models = answer.headers().get("x-model").and_then(|value| value.to_str().ok());
        let models: Vec<String> =
            models.unwrap_or_default().split(',').map(str::to_owned).collect();
        let found: Vec<Vec<Prediction>> = self
            .runtime
            .block_on(answer.json())
            .with_context(|| format!("{} does not answer as a monitor does", self.base))?;
        ensure!(
            found.len() == texts.len(),
            "{} answered {} of {} texts",
            self.base,
            found.len(),
            texts.len()
        );
        let replies = texts.iter().zip(&found).enumerate().map(|(at, (text, predictions))| {
            let model = models.get(at).or(models.first()).filter(|model| !model.is_empty());
            Ok(Reply {
                score: score(predictions)?,
                language: language::detect(text),
                model: model.cloned(),
            })
        });
        replies.collect()
    }

    /// Sends a request until it is answered, or until waiting is of no use.
    fn ask(&self, request: &dyn Fn() -> RequestBuilder) -> anyhow::Result<Response> {
        let mut attempts = 0;
        loop {
            let mut request = request();
            if let Some(token) = &self.token {
                request = request.bearer_auth(token);
            }
            let answer = self
                .runtime
                .block_on(async { request.send().await })
                .map_err(|error| anyhow!("cannot reach {}: {}", self.base, reason(&error)))?;
            let status = answer.status();
            if status.is_success() {
                return Ok(answer);
            }
            attempts += 1;
            let asked = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let asked = asked.and_then(|value| retry_after(value, SystemClock::new().now()));
            let error = self.runtime.block_on(error_of(answer));
            if status == StatusCode::UNAUTHORIZED {
                bail!("{} asks for a token: set MONITOR_TOKEN, or give --token", self.base);
            }
            if ![StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status) {
                bail!("{} refused the request ({status}): {error}", self.base);
            }
            match self.retry.next(attempts, asked, rand::random()) {
                Next::Wait(wait) => std::thread::sleep(wait),
                Next::AttemptsSpent => {
                    bail!(
                        "{} refused {attempts} times, the last time ({status}): {error}",
                        self.base
                    )
                }
                Next::AskedTooLong(wait) => {
                    bail!("{} asks to wait {} s: {error}", self.base, wait.as_secs())
                }
            }
        }
    }
}

fn is_empty(text: &str) -> bool {
    text.trim().is_empty()
}

/// The address of a route: `base`, then `parts`, then the model's name.
fn below(base: &Url, parts: &[&str], name: Option<&str>) -> Url {
    let mut url = base.clone();
    url.set_query(None);
    url.path_segments_mut()
        .expect("an address with a host has segments")
        .pop_if_empty()
        .extend(parts)
        .extend(name);
    url
}

/// The last part of an error and its causes: the others repeat the address.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

async fn error_of(answer: Response) -> String {
    let text = answer.text().await.unwrap_or_default();
    let error = serde_json::from_str(&text).map(|body: ErrorBody| body.error);
    error.unwrap_or_else(|_| text.chars().take(200).collect())
}

/// The score that a server's list stands for: its first label is the text's.
fn score(predictions: &[Prediction]) -> anyhow::Result<Option<Score>> {
    let Some(first) = predictions.first() else { return Ok(None) };
    let label = Label::of_word(&first.label).with_context(|| {
        format!("the server's label {:?} is none of NEGATIVE, NEUTRAL, POSITIVE", first.label)
    })?;
    let of = |label: Label| {
        let found = predictions.iter().find(|it| it.label == label.as_str());
        found.map_or(0.0, |it| it.score)
    };
    let each = predictions.iter().try_for_each(|it| Probability::new(it.score).map(drop));
    let probabilities =
        each.and_then(|()| Probabilities::new(of(Label::Negative), of(Label::Neutral)));
    let probabilities = probabilities.map_err(|error| anyhow!("the server's scores: {error}"))?;
    Ok(Some(Score { probabilities, label }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_routes() {
        let check = |base: &str, model: Option<&str>, expected: &str| {
            let parts: &[&str] = if model.is_none() { &["predict"] } else { &["models"] };
            assert_eq!(below(&base.parse().unwrap(), parts, model).as_str(), expected);
        };
        check("http://a:1", None, "http://a:1/predict");
        check("http://a:1/", Some("lstm@4"), "http://a:1/models/lstm@4");
        check("http://a/b/?c=d", Some("x/y"), "http://a/b/models/x%2Fy");
    }

    #[test]
    fn reads_a_list_of_labels() {
        let of = |labels: &[(&str, f32)]| {
            let made = labels
                .iter()
                .map(|(label, score)| Prediction { label: (*label).into(), score: *score });
            score(&made.collect::<Vec<_>>())
        };
        let found = of(&[("NEGATIVE", 0.3), ("POSITIVE", 0.5), ("NEUTRAL", 0.2)]).unwrap().unwrap();
        assert_eq!(found.label, Label::Negative, "the first, not the likeliest");
        assert!((found.probabilities.positive().get() - 0.5).abs() < 1e-6);
        assert!(of(&[]).unwrap().is_none(), "not judged");
        assert!(of(&[("LABEL_1", 0.8)]).unwrap_err().to_string().contains("LABEL_1"));
        let error = of(&[("NEGATIVE", 1.5)]).unwrap_err().to_string();
        assert!(error.starts_with("the server's scores: "), "{error}");
    }
}
