//! The hyperparameters that a training can set.
//!
//! **Invariant.** [`Hyperparameters::given`] names each one by its flag of `monitor retrain`, so a
//! command made of it trains the same model. Deliberately absent: the values that are used
//! otherwise; see `families.rs` and `linear.rs`.

use clap::builder::{RangedU64ValueParser, ValueParser};
use serde::Serialize;

use super::{Family, Recipe};

/// Hyperparameters of a training; `None`: the family's default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, clap::Args)]
pub struct Hyperparameters {
    /// Epochs at most [default: depends on the family]; of a transformer also 0, which keeps the weights it
    /// begins with
    #[arg(long = "epochs", value_name = "N", value_parser = whole(0..=10_000))]
    #[serde(rename = "epochs", skip_serializing_if = "Option::is_none")]
    pub epochs_max: Option<usize>,

    /// Rows per step [default: depends on the family]; a batch too large for one pass takes
    /// several, whose gradients are summed
    #[arg(long = "batch", value_name = "ROWS", value_parser = whole(1..=65_536))]
    #[serde(rename = "batch", skip_serializing_if = "Option::is_none")]
    pub batch_rows: Option<usize>,

    /// Adam's learning rate, such as 2e-5 [default: depends on the family]
    #[arg(long, value_name = "RATE", value_parser = rate)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,

    /// Dropout: share of activations set to zero in training [default: depends on the family]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,

    /// Share of the words that training replaces by the unknown word [default: depends on the
    /// family]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub word_dropout: Option<f64>,

    /// Weight decay of the matrices of a network [default: 0; transformer: 0.01]
    #[arg(long, value_name = "RATE", value_parser = decay)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,

    /// Width of the hidden layer [default: depends on the family]
    #[arg(long, value_name = "N", value_parser = whole(1..=2048))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<usize>,

    /// Layers of the pretrained transformer to keep, evenly spaced, such as 6 of 12 for a student
    /// that begins with its teacher [default: all]
    #[arg(long, value_name = "N", value_parser = whole(1..=1024))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<usize>,

    /// Word pieces of the pretrained transformer to keep, the most frequent ones of the training
    /// rows, which makes the file smaller. Rarer words are read in smaller pieces
    /// [default: all]
    #[arg(long, value_name = "N", value_parser = whole(1..=10_000_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<usize>,

    /// Strength of the L2 penalty of a logistic model: 1/C of scikit-learn [default:
    /// logistic-hash: 0.25, logistic-tfidf: 0.5]
    #[arg(long, value_name = "STRENGTH", value_parser = positive)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l2: Option<f64>,

    /// Longest n-gram of words of logistic-tfidf [default: 2]
    #[arg(long, value_name = "N", value_parser = whole(1..=5))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub word_ngrams: Option<usize>,

    /// Longest n-gram of characters of logistic-tfidf; the shortest has 3, and with less there
    /// are none [default: 5]
    #[arg(long, value_name = "N", value_parser = whole(0..=8))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub character_ngrams: Option<usize>,

    /// Scale of an n-gram of characters relative to one of words in logistic-tfidf [default: 0.3]
    #[arg(long, value_name = "SCALE", value_parser = positive)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub character_scale: Option<f64>,
}

fn whole(range: std::ops::RangeInclusive<u64>) -> ValueParser {
    RangedU64ValueParser::<usize>::new().range(range).into()
}

fn number(text: &str, fits: fn(f64) -> bool, wanted: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if fits(number) => Ok(number),
        _ => Err(format!("{text:?} is not a {wanted}")),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    number(text, |it| it > 0.0 && it <= 1.0, "rate above 0, up to 1, such as 2e-5")
}

fn share(text: &str) -> Result<f64, String> {
    number(text, |it| (0.0..1.0).contains(&it), "share from 0 to below 1, such as 0.3")
}

fn decay(text: &str) -> Result<f64, String> {
    number(text, |it| (0.0..=1.0).contains(&it), "weight decay from 0 to 1, such as 0.01")
}

fn positive(text: &str) -> Result<f64, String> {
    number(text, |it| it > 0.0 && it <= 1e4, "number above 0, up to 10000, such as 0.5")
}

impl Hyperparameters {
    /// The flags (without dashes) and values of those that are set.
    pub fn given(&self) -> Vec<(&'static str, String)> {
        let whole = |it: Option<usize>| it.map(|it| it.to_string());
        let real = |it: Option<f64>| it.map(|it| it.to_string());
        let all = [
            ("epochs", whole(self.epochs_max)),
            ("batch", whole(self.batch_rows)),
            ("learning-rate", real(self.learning_rate)),
            ("dropout", real(self.dropout)),
            ("word-dropout", real(self.word_dropout)),
            ("weight-decay", real(self.weight_decay)),
            ("hidden", whole(self.hidden)),
            ("layers", whole(self.layers)),
            ("vocabulary", whole(self.vocabulary)),
            ("l2", real(self.l2)),
            ("word-ngrams", whole(self.word_ngrams)),
            ("character-ngrams", whole(self.character_ngrams)),
            ("character-scale", real(self.character_scale)),
        ];
        all.into_iter().filter_map(|(flag, value)| Some((flag, value?))).collect()
    }

    /// Whether the hyperparameter of this flag means something to the family.
    pub fn applies(flag: &str, family: Family) -> bool {
        match flag {
            "l2" => family.is_logistic(),
            "word-ngrams" | "character-ngrams" | "character-scale" => {
                family == Family::LogisticTfidf
            }
            "layers" | "vocabulary" => family == Family::Transformer,
            "word-dropout" | "hidden" => matches!(family, Family::Dense | Family::Lstm),
            _ => !family.is_logistic(),
        }
    }

    /// These, and those of `other` where they are not set.
    pub fn or(self, other: Self) -> Self {
        Self {
            epochs_max: self.epochs_max.or(other.epochs_max),
            batch_rows: self.batch_rows.or(other.batch_rows),
            learning_rate: self.learning_rate.or(other.learning_rate),
            dropout: self.dropout.or(other.dropout),
            word_dropout: self.word_dropout.or(other.word_dropout),
            weight_decay: self.weight_decay.or(other.weight_decay),
            hidden: self.hidden.or(other.hidden),
            layers: self.layers.or(other.layers),
            vocabulary: self.vocabulary.or(other.vocabulary),
            l2: self.l2.or(other.l2),
            word_ngrams: self.word_ngrams.or(other.word_ngrams),
            character_ngrams: self.character_ngrams.or(other.character_ngrams),
            character_scale: self.character_scale.or(other.character_scale),
        }
    }

    /// `default` with those of a network's training that are set.
    pub(super) fn recipe(&self, default: Recipe) -> Recipe {
        Recipe {
            epochs_max: self.epochs_max.unwrap_or(default.epochs_max),
            batch_rows: self.batch_rows.unwrap_or(default.batch_rows),
            learning_rate: self.learning_rate.unwrap_or(default.learning_rate),
            dropout: self.dropout.unwrap_or(default.dropout),
            word_dropout: self.word_dropout.unwrap_or(default.word_dropout),
            weight_decay: self.weight_decay.unwrap_or(default.weight_decay),
            ..default
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        hyper: Hyperparameters,
    }

    #[test]
    fn flags_give_back_what_was_written() {
        let every = "x --epochs 3 --batch 64 --learning-rate 0.00002 --dropout 0 --word-dropout \
                     0.15 --weight-decay 0.01 --hidden 96 --layers 6 --vocabulary 16000 \
                     --l2 0.25 --word-ngrams 3 --character-ngrams 0 --character-scale 0.4";
        let parsed = Flags::try_parse_from(every.split_whitespace()).unwrap().hyper;
        let written: Vec<String> =
            parsed.given().iter().map(|(flag, value)| format!("--{flag} {value}")).collect();
        let expected: Vec<&str> = every.split_whitespace().skip(1).collect();
        assert_eq!(written.join(" "), expected.join(" "));
        assert_eq!(Hyperparameters::default().or(parsed), parsed);
        assert_eq!(parsed.or(Hyperparameters::default()), parsed);
        let fields = serde_json::to_value(parsed).unwrap();
        assert_eq!(fields.as_object().unwrap().len(), parsed.given().len(), "{fields}");
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let check = |flags: &str, reason: &str| {
            let words = ["x"].into_iter().chain(flags.split(' '));
            let error = Flags::try_parse_from(words).err().map(|it| it.to_string());
            let error = error.unwrap_or_else(|| panic!("{flags} is accepted"));
            assert!(error.contains(reason), "{flags}: {error}");
        };
        check("--learning-rate 0", "is not a rate above 0");
        check("--dropout 1", "is not a share from 0");
        check("--weight-decay -0.1", "");
        check("--l2 0", "is not a number above 0");
        check("--epochs 10001", "10001 is not in 0..=10000");
    }

    #[test]
    fn defaults_are_what_means_something() {
        for family in Family::ALL {
            for (flag, value) in family.defaults(false).given() {
                assert!(Hyperparameters::applies(flag, family), "{family:?}: {flag} {value}");
            }
        }
        assert_eq!(Family::LogisticTfidf.defaults(false).l2, Some(0.5));
        assert_eq!(Family::Lstm.defaults(false).hidden, Some(128));
        assert_eq!(Family::Lstm.defaults(true).dropout, Some(0.0), "the study's");
    }
}
