//! Parses and checks the answers of the service; pure.
//!
//! The form is that of `TextAnalytics.json`, stable v3.1, in the public repository
//! Azure/azure-rest-api-specs: `SentimentResponse` and, for failures, `ErrorResponse`. Microsoft's
//! training module "Analyze text with Azure AI Language" explains how the sentiments of sentences
//! give the sentiment of a document.
//!
//! **Invariant.** A [`Batch`] has one reply for each document that was sent, in the same
//! order. Texts of the service are shortened to one printable line.
//! Deliberately absent: sentences, warnings and opinions, which are not evaluated.

use serde::{Deserialize, Serialize};

/// Confidences come rounded to two places, so their sum may be off by this much.
const SUM_TOLERANCE: f64 = 0.05;
/// Longest text of the service in an error, in characters.
const WORDS_CHARS_MAX: usize = 300;

/// The sentiment of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sentiment {
    /// Its sentences are positive, or positive and neutral.
    Positive,
    /// All its sentences are neutral.
    Neutral,
    /// Its sentences are negative, or negative and neutral.
    Negative,
    /// It has a positive and a negative sentence.
    Mixed,
}

/// The service's confidence in each class, from 0 to 1; they add up to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Confidence {
    positive: f64,
    neutral: f64,
    negative: f64,
}

/// The three numbers are not probabilities.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error(
    "positive {positive}, neutral {neutral} and negative {negative} are not probabilities that \
     add up to 1"
)]
pub struct InvalidConfidence {
    positive: f64,
    neutral: f64,
    negative: f64,
}

#[derive(Deserialize)]
struct Unchecked {
    positive: f64,
    neutral: f64,
    negative: f64,
}

impl TryFrom<Unchecked> for Confidence {
    type Error = InvalidConfidence;

    fn try_from(found: Unchecked) -> Result<Self, InvalidConfidence> {
        Self::new(found.positive, found.neutral, found.negative)
    }
}

impl Confidence {
    /// Checks and wraps the three.
    ///
    /// # Errors
    /// A number is outside 0..=1, or the sum is not 1.
    pub fn new(positive: f64, neutral: f64, negative: f64) -> Result<Self, InvalidConfidence> {
        let each = [positive, neutral, negative].iter().all(|c| (0.0..=1.0).contains(c));
        let sum = positive + neutral + negative;
        if each && (sum - 1.0).abs() <= SUM_TOLERANCE {
            Ok(Self { positive, neutral, negative })
        } else {
            Err(InvalidConfidence { positive, neutral, negative })
        }
    }

    /// Confidence that the text is positive.
    pub fn positive(self) -> f64 {
        self.positive
    }

    /// Confidence that the text is negative.
    pub fn negative(self) -> f64 {
        self.negative
    }

    /// negative / (negative + positive), in 0..=1; one half if both are 0.
    pub fn negative_share(self) -> f64 {
        let both = self.positive + self.negative;
        if both == 0.0 { 0.5 } else { self.negative / both }
    }
}

/// The reply to one document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The document is scored.
    Scored {
        /// The class.
        sentiment: Sentiment,
        /// The confidences.
        confidence: Confidence,
    },
    /// The document is rejected; the others of its batch are scored.
    Refused {
        /// The innermost code, such as `InvalidDocument`.
        code: String,
        /// The message.
        message: String,
    },
}

/// The answer to one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// One for each document, in the order of the request.
    pub replies: Vec<Reply>,
    /// Version of the service's model.
    pub model_version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SentimentResponse {
    documents: Vec<DocumentSentiment>,
    errors: Vec<DocumentError>,
    model_version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DocumentSentiment {
    id: String,
    sentiment: Sentiment,
    confidence_scores: Confidence,
}

#[derive(Deserialize)]
struct DocumentError {
    id: String,
    error: ServiceError,
}

#[derive(Deserialize)]
struct ErrorResponse {
    error: ServiceError,
}

#[derive(Deserialize)]
struct ServiceError {
    code: String,
    message: String,
    innererror: Option<Box<ServiceError>>,
}

impl ServiceError {
    /// Code and message of the innermost error, which is the most specific: `InvalidArgument` wraps
    /// `InvalidDocument`.
    fn innermost(self) -> (String, String) {
        match self.innererror {
            Some(inner) => inner.innermost(),
            None => (printable(&self.code), printable(&self.message)),
        }
    }
}

/// Reads the answer to a request whose documents had the ids `"0"` to `documents - 1`.
/// The error says what is wrong with the answer.
pub(super) fn read(body: &str, documents: usize) -> Result<Batch, String> {
    let found: SentimentResponse = serde_json::from_str(body).map_err(|error| {
        if body.trim_start().starts_with('<') {
            "it is a web page; is a proxy or a portal in between?".to_owned()
        } else {
            printable(&error.to_string())
        }
    })?;
    let mut replies: Vec<Option<Reply>> = vec![None; documents];
    let scored = found.documents.into_iter().map(|document| {
        let DocumentSentiment { id, sentiment, confidence_scores: confidence } = document;
        (id, Reply::Scored { sentiment, confidence })
    });
    let refused = found.errors.into_iter().map(|document| {
        let (code, message) = document.error.innermost();
        (document.id, Reply::Refused { code, message })
    });
    for (id, reply) in scored.chain(refused) {
        let sent = (0..documents).find(|n| n.to_string() == id);
        let sent = sent.ok_or_else(|| format!("nobody sent document {:?}", printable(&id)))?;
        if replies[sent].replace(reply).is_some() {
            return Err(format!("document {id} is answered twice"));
        }
    }
    let replies = replies.into_iter().enumerate().map(|(id, reply)| {
        reply.ok_or_else(|| format!("document {id} of {documents} is not answered"))
    });
    let replies = replies.collect::<Result<_, _>>()?;
    Ok(Batch { replies, model_version: printable(&found.model_version) })
}

/// Code and message of a failed request, such as `InvalidRequest: too many`; empty if the body
/// does not have the documented form.
pub(super) fn complaint(body: &str) -> String {
    serde_json::from_str(body).map_or_else(
        |_| String::new(),
        |found: ErrorResponse| {
            let (code, message) = found.error.innermost();
            format!(": {code}: {message}")
        },
    )
}

/// The text in one line without control characters, shortened.
fn printable(words: &str) -> String {
    let clean = words.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(WORDS_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scored(id: &str, sentiment: &str, confidences: [f64; 3]) -> serde_json::Value {
        let [positive, neutral, negative] = confidences;
        json!({
            "id": id, "sentiment": sentiment, "warnings": [], "sentences": [],
            "confidenceScores": {"positive": positive, "neutral": neutral, "negative": negative},
        })
    }

    #[test]
    fn orders_replies_as_sent() {
        let body = json!({
            "documents": [
                scored("2", "mixed", [0.33, 0.33, 0.33]),
                scored("0", "positive", [1.0, 0.0, 0.0]),
            ],
            "errors": [{"id": "1", "error": {
                "code": "InvalidArgument", "message": "Invalid document in request.",
                "innererror": {"code": "InvalidDocument", "message": "Document text is empty."},
            }}],
            "modelVersion": "2020-04-01",
        });
        let found = read(&body.to_string(), 3).unwrap();
        let reply = |sentiment, [p, n, m]: [f64; 3]| Reply::Scored {
            sentiment,
            confidence: Confidence::new(p, n, m).unwrap(),
        };
        let refused = Reply::Refused {
            code: "InvalidDocument".into(),
            message: "Document text is empty.".into(),
        };
        let expected = vec![
            reply(Sentiment::Positive, [1.0, 0.0, 0.0]),
            refused,
            reply(Sentiment::Mixed, [0.33, 0.33, 0.33]),
        ];
        assert_eq!(found, Batch { replies: expected, model_version: "2020-04-01".into() });
    }

    #[test]
    fn rejects_invalid_answers() {
        let good = scored("0", "neutral", [0.1, 0.8, 0.1]);
        let check = |name, documents: serde_json::Value, expected: &str| {
            let body = json!({"documents": documents, "errors": [], "modelVersion": "1"});
            let found = read(&body.to_string(), 2).unwrap_err();
            assert!(found.contains(expected), "{name}: {found}");
        };
        check("missing", json!([good]), "document 1 of 2 is not answered");
        check("twice", json!([good, good]), "document 0 is answered twice");
        let strange = scored("7", "neutral", [0.1, 0.8, 0.1]);
        check("never sent", json!([good, strange]), "nobody sent document \"7\"");
        let strange = scored("\u{1b}[2J", "neutral", [0.1, 0.8, 0.1]);
        check("no number", json!([strange]), "nobody sent document \" [2J\"");
        let class = scored("1", "ecstatic", [0.1, 0.8, 0.1]);
        check("another class", json!([good, class]), "unknown variant `ecstatic`");
        let above = scored("1", "neutral", [1.5, -0.5, 0.0]);
        check("beyond 1", json!([good, above]), "are not probabilities");
        let percent = scored("1", "neutral", [10.0, 80.0, 10.0]);
        check("per cent", json!([good, percent]), "are not probabilities");
        let nothing = scored("1", "neutral", [0.0, 0.0, 0.0]);
        check("nothing", json!([good, nothing]), "are not probabilities");
        let number = json!({"id": "1", "sentiment": "neutral", "confidenceScores": null});
        check("no confidences", json!([good, number]), "null");

        let check = |name, body: &str, expected: &str| {
            let found = read(body, 1).unwrap_err();
            assert!(found.contains(expected), "{name}: {found}");
        };
        check("a page", "\n<!DOCTYPE html><html>", "web page");
        check("empty", "", "EOF");
        check("cut off", r#"{"documents":[{"id":"0""#, "EOF");
        check("another form", r#"{"kind":"SentimentAnalysisResults"}"#, "missing field");
        check("a bomb of brackets", &"[".repeat(100_000), "line 1");
    }

    #[test]
    fn says_what_the_service_complains_of() {
        let check = |name, body: &str, expected: &str| {
            assert_eq!(complaint(body), expected, "{name}");
        };
        let batch = r#"{"error":{"code":"InvalidRequest","message":"Invalid document in request.",
            "innererror":{"code":"InvalidDocumentBatch","message":"Max 10 records are permitted."}}}"#;
        check("inner", batch, ": InvalidDocumentBatch: Max 10 records are permitted.");
        check("outer", r#"{"error":{"code":"404","message":"gone"}}"#, ": 404: gone");
        let escape = r#"{"error":{"code":"1","message":"\u001b[2Jhello"}}"#;
        check("moves no cursor", escape, ": 1:  [2Jhello");
        check("a page", "<html>", "");
        check("nothing", "", "");
    }

    #[test]
    fn shares() {
        let check = |name, [p, n, m]: [f64; 3], expected: f64| {
            let found = Confidence::new(p, n, m).unwrap().negative_share();
            assert!((found - expected).abs() < 1e-12, "{name}: {found}");
        };
        check("negative", [0.1, 0.6, 0.3], 0.75);
        check("certain", [0.0, 0.0, 1.0], 1.0);
        check("neither", [0.0, 1.0, 0.0], 0.5);
        assert!(Confidence::new(f64::NAN, 0.5, 0.5).is_err());
    }
}
