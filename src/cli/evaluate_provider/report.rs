//! Computes figures from answers; pure.
//!
//! **Invariant.** The same answers give the same figures, whether they come from the
//! service or from a file. Deliberately absent: rows that the service rejected; they are only
//! counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use monitor_core::domain::Label;
use monitor_core::domain::Probability;
use monitor_train::provider::{Confidence, Reply, Sentiment, Usage};
use monitor_train::report::{ClassificationReport, Metrics};

const WITH_NEUTRAL: [&str; 3] = ["negative", "neutral", "positive"];
const WITHOUT_NEUTRAL: [&str; 2] = ["negative", "positive"];

/// How a label is written in the file of answers.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Label", rename_all = "lowercase")]
enum Word {
    Negative,
    Neutral,
    Positive,
}

/// A tweet and the service's reply; a line of the file of answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub text: String,
    #[serde(with = "Word")]
    pub truth: Label,
    pub model_version: String,
    #[serde(flatten)]
    pub reply: Reply,
}

/// Time and cost of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Effort {
    /// Tweets answered in this run.
    pub asked: usize,
    pub seconds: f64,
    pub tweets_per_second: f64,
    #[serde(flatten)]
    pub usage: Usage,
    /// Upper limit of the bill for this run.
    pub cost_eur_max: f64,
}

/// Figures of a service.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    provider: &'static str,
    model_versions: BTreeSet<String>,
    answered: usize,
    /// Number of rows that the service rejected, by its code.
    refused: BTreeMap<String, usize>,
    with_neutral: ClassificationReport,
    without_neutral: ClassificationReport,
    /// Negative against positive, scored by negative / (negative + positive).
    roc_auc: Option<f64>,
    /// Rows without neutral whose two confidences are equal; they count as positive.
    ties: usize,
    effort: Option<Effort>,
}

impl Report {
    /// Computes the figures.
    pub fn of(answers: &[Answer], effort: Option<Effort>) -> Self {
        let mut refused = BTreeMap::new();
        let mut rows: Vec<(Label, Sentiment, Confidence)> = Vec::with_capacity(answers.len());
        for answer in answers {
            match &answer.reply {
                Reply::Scored { sentiment, confidence } => {
                    rows.push((answer.truth, *sentiment, *confidence));
                }
                Reply::Refused { code, .. } => *refused.entry(code.clone()).or_default() += 1,
            }
        }
        let truth: Vec<usize> = rows.iter().map(|(truth, ..)| *truth as usize).collect();
        let found: Vec<usize> = rows.iter().map(|(_, s, _)| of_three(*s) as usize).collect();
        let with_neutral = ClassificationReport::of(&WITH_NEUTRAL, &truth, &found);

        let sides = rows.iter().filter(|(truth, ..)| *truth != Label::Neutral);
        let sides: Vec<_> = sides.map(|(t, s, c)| (*t == Label::Positive, *s, *c)).collect();
        let truth: Vec<usize> = sides.iter().map(|(positive, ..)| usize::from(*positive)).collect();
        let found: Vec<usize> =
            sides.iter().map(|(_, s, c)| usize::from(!is_negative(*s, *c))).collect();
        let without_neutral = ClassificationReport::of(&WITHOUT_NEUTRAL, &truth, &found);
        let ties = sides.iter().filter(|(_, s, c)| is_tie(*s, *c)).count();
        let share = |c: Confidence| {
            Probability::new(c.negative_share() as f32).expect("a share lies between 0 and 1")
        };
        let pairs: Vec<_> = sides.iter().map(|(positive, _, c)| (share(*c), !positive)).collect();
        let half = Probability::new(0.5).expect("one half lies between 0 and 1");
        Self {
            provider: "azure",
            model_versions: answers.iter().map(|answer| answer.model_version.clone()).collect(),
            answered: answers.len(),
            refused,
            with_neutral,
            without_neutral,
            roc_auc: Metrics::of(&pairs, half).auc,
            ties,
            effort,
        }
    }
}

/// Mixed counts as neutral.
fn of_three(sentiment: Sentiment) -> Label {
    match sentiment {
        Sentiment::Negative => Label::Negative,
        Sentiment::Neutral | Sentiment::Mixed => Label::Neutral,
        Sentiment::Positive => Label::Positive,
    }
}

/// Neutral and mixed count as the class with the larger confidence; a tie counts as positive.
fn is_negative(sentiment: Sentiment, confidence: Confidence) -> bool {
    match sentiment {
        Sentiment::Negative => true,
        Sentiment::Positive => false,
        Sentiment::Neutral | Sentiment::Mixed => confidence.negative() > confidence.positive(),
    }
}

fn is_tie(sentiment: Sentiment, confidence: Confidence) -> bool {
    of_three(sentiment) == Label::Neutral && confidence.negative() == confidence.positive()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions: Vec<&str> = self.model_versions.iter().map(String::as_str).collect();
        writeln!(
            f,
            "{}, model {}: {} tweets answered",
            self.provider,
            versions.join(" and "),
            self.answered
        )?;
        for (code, rows) in &self.refused {
            writeln!(f, "{rows} of them refused, and in no figure: {code}")?;
        }
        if let Some(effort) = &self.effort {
            writeln!(
                f,
                "{} asked in {:.1} s, {:.1} tweets/s; {} requests, {} of them repeats; {} text \
                 records, {:.3} EUR at most",
                effort.asked,
                effort.seconds,
                effort.tweets_per_second,
                effort.usage.requests,
                effort.usage.repeated,
                effort.usage.records,
                effort.cost_eur_max
            )?;
        }
        write!(f, "\nWith neutral (mixed counts as neutral)\n\n{}", self.with_neutral)?;
        write!(
            f,
            "\nWithout neutral (neutral and mixed go to the larger of the confidences in negative \
             and\npositive; {} ties go to positive)\n\n{}",
            self.ties, self.without_neutral
        )?;
        match self.roc_auc {
            Some(auc) => writeln!(f, "\nROC AUC {auc:.4}, by negative / (negative + positive)"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(truth: Label, sentiment: Sentiment, [p, n, m]: [f64; 3]) -> Answer {
        let confidence = Confidence::new(p, n, m).unwrap();
        let reply = Reply::Scored { sentiment, confidence };
        Answer { text: "hello".into(), truth, model_version: "1".into(), reply }
    }

    #[test]
    fn with_and_without_neutral() {
        use Label::{Negative, Neutral, Positive};
        use Sentiment as S;
        let mut answers = vec![
            answer(Negative, S::Negative, [0.0, 0.1, 0.9]),
            answer(Negative, S::Mixed, [0.4, 0.1, 0.5]),
            answer(Negative, S::Neutral, [0.0, 1.0, 0.0]),
            answer(Neutral, S::Mixed, [0.5, 0.0, 0.5]),
            answer(Neutral, S::Positive, [0.9, 0.1, 0.0]),
            answer(Positive, S::Positive, [0.9, 0.1, 0.0]),
            answer(Positive, S::Neutral, [0.2, 0.7, 0.1]),
        ];
        let refused = Reply::Refused { code: "InvalidDocument".into(), message: "empty".into() };
        answers.push(Answer { reply: refused, ..answers[0].clone() });
        let report = Report::of(&answers, None);
        // By label: negative, neutral, positive; across: the predicted class.
        assert_eq!(report.with_neutral.confusion, [[1, 2, 0], [0, 1, 1], [0, 1, 1]]);
        assert_eq!(report.without_neutral.confusion, [[2, 1], [0, 2]]);
        assert_eq!(report.ties, 1, "the neutral row's tie stands in no figure");
        assert_eq!(report.refused, BTreeMap::from([("InvalidDocument".to_owned(), 1)]));
        // Shares: negative 1, 5/9, 1/2; positive 0, 1/3.
        assert_eq!(report.roc_auc, Some(1.0));
        assert_eq!((report.answered, report.with_neutral.rows), (8, 7));
    }

    #[test]
    fn answers_survive_their_file() {
        let scored = answer(Label::Negative, Sentiment::Mixed, [0.4, 0.1, 0.5]);
        let refused = Reply::Refused { code: "InvalidDocument".into(), message: "empty".into() };
        let refused = Answer { reply: refused, ..scored.clone() };
        for answer in [scored, refused] {
            let line = serde_json::to_string(&answer).unwrap();
            assert_eq!(serde_json::from_str::<Answer>(&line).unwrap(), answer, "{line}");
        }
    }
}
