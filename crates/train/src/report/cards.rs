//! The model card: what a person should know before trusting a model.
//!
//! **Invariant.** All figures come from the manifest, which contains only measured ones.
//! Deliberately absent: recommendations.

use std::fmt::Write;

use monitor_core::domain::Classes;
use monitor_core::text::language;
use monitor_model::{
    Architecture, Calibration, CascadeShape, Manifest, NearDuplicates, Pooling, Sequence, Source,
    TransformerKind,
};

use crate::data::ReadReport;
use crate::progress::training_time;

/// A sentence that says which words the model reads.
fn read(sequence: Sequence) -> String {
    let Sequence { words_max, padded, frequent_max } = sequence;
    let frequent =
        frequent_max.map_or(String::new(), |most| format!(" of the {most} most frequent"));
    let which = if padded { "last" } else { "first" };
    format!(" The {which} {words_max} words{frequent} of a text are read.")
}

/// A sentence that lists the items; empty without items.
fn listed<'a>(what: &str, items: impl IntoIterator<Item = &'a Source>) -> String {
    let items: Vec<String> = items.into_iter().map(Source::to_string).collect();
    if items.is_empty() { String::new() } else { format!("{what} {}.", items.join("; ")) }
}

/// A sentence that says which model of a cascade scores a tweet.
fn cascade(shape: &CascadeShape) -> String {
    let CascadeShape { cheap, costly, low, high, certainty } = shape;
    let (cheap, costly) = (&cheap.model, &costly.model);
    let answers = match certainty {
        Some(certainty) => format!("it is more than {certainty:.4} certain of the label"),
        None => format!("its probability lies outside {low:.4} to {high:.4}"),
    };
    format!(
        "A cascade: {cheap} scores every tweet, and answers where {answers}; {costly} scores the \
         others. It has no weights of its own."
    )
}

/// Markdown, after Mitchell et al. 2019.
pub(crate) fn card(manifest: &Manifest, report: &ReadReport) -> String {
    let mut out = String::new();
    let id = manifest.id();
    let shape = match &manifest.architecture {
        Architecture::LogisticHash(shape) => format!(
            "Logistic regression over single words and pairs of neighbours, hashed to 2^{} \
             buckets; the first {} words of a text are read.",
            shape.buckets_log2, shape.words_max
        ),
        Architecture::LogisticTfidf(shape) => format!(
            "Logistic regression over TF-IDF of {} n-grams: up to {} words in a row, {} to {} \
             characters within a word; the first {} words of a text are read.",
            shape.ngrams - 1,
            shape.lengths.words_max,
            shape.lengths.characters_min,
            shape.lengths.characters_max,
            shape.words_max
        ),
        Architecture::Dense(shape) => format!(
            "The mean of word vectors ({} words of {} numbers), a dense layer of {}.{}",
            shape.vocabulary,
            shape.embedding,
            shape.hidden,
            read(shape.sequence)
        ),
        Architecture::Lstm(shape) => format!(
            "LSTM in {} of {} units over word vectors ({} words of {} numbers), {}.{}",
            if shape.directions == 2 { "both directions" } else { "one direction" },
            shape.hidden,
            shape.vocabulary,
            shape.embedding,
            match shape.pooling {
                Pooling::Last => "its last state",
                Pooling::Max => "the maximum over time",
            },
            read(shape.sequence)
        ),
        Architecture::Cascade(shape) => cascade(shape),
        Architecture::Transformer(shape) => format!(
            "{} of {} layers of {} numbers and {} heads ({} word pieces), fine-tuned from {}; the \
             first {} word pieces of a text are read. Mentions are read as `@user`, links as \
             `http`. This folder is one that Python's transformers opens too; put those in first.",
            match shape.kind {
                TransformerKind::Bert => "BERT",
                TransformerKind::DistilBert => "DistilBERT",
            },
            shape.layers,
            shape.width,
            shape.heads,
            shape.vocabulary,
            manifest.data.embeddings.first().map_or("nothing", |it| it.file.as_str()),
            shape.tokens_max,
        ),
    };
    let data = &manifest.data;
    let is_cascade = matches!(manifest.architecture, Architecture::Cascade(_));
    let Calibration { temperature, threshold, positive } = manifest.calibration;
    let positive = positive.map_or(String::new(), |it| {
        format!(
            " Of the others, a tweet is positive rather than neutral from {:.2} upwards, at \
             temperature {:.2}.",
            it.threshold, it.temperature
        )
    });
    let tells = match manifest.classes {
        Classes::Two => "Tells negative tweets from others",
        Classes::Three => "Tells negative, neutral and positive tweets apart",
    };
    let languages: Vec<&str> = manifest.languages.iter().map(language::name).collect();
    let tells = format!("{tells}, in {}.", languages.join(", "));
    let weights = if is_cascade {
        String::new()
    } else {
        format!(
            " {} parameters, {} of them learned here. Weights are stored in half precision.",
            manifest.parameters, manifest.trainable
        )
    };
    let near = if data.near_duplicates == NearDuplicates::default() {
        String::new()
    } else {
        format!("Also left out of training: {}. ", data.near_duplicates)
    };
    let split = match data.split.as_str() {
        "user" => "no known author is in two sets (rows without an author are split by their text)",
        "time" => "those held out are the latest",
        _ => "split row by row",
    };
    write!(
        out,
        "# {id}\n\n{tells}\n\n{shape}{weights} Scores are taken at temperature \
         {temperature:.2}; a tweet is negative from a probability of {threshold:.2} upwards.{positive}\n\n\
         ## Trained on\n\n`{}` (SHA-256 `{}`): {} rows read, of which {} malformed, {} neutral, {} \
         duplicate, {} with conflicting labels and {} that stand in the test file were left \
         out. {}{} rows to learn from, {} to {}, {} held out; {split}.{}{}{}{}\n\n\
         `{}`, {} on {}.\n\n\
         ## Measured\n\nOn the files of this very version; in brackets 95 % intervals.\n",
        data.file,
        data.sha256,
        report.read,
        report.malformed,
        report.neutral,
        report.duplicate,
        report.conflicting,
        report.excluded,
        near,
        data.rows_train,
        data.rows_validation,
        if is_cascade { "fit the band on" } else { "decide when to stop" },
        data.rows_held_out,
        listed(" Split likewise:", &data.more) + &listed(" Among them:", &data.also),
        listed(" Begun with:", &data.embeddings),
        listed(" Taught by", &data.teachers),
        listed(" Calibrated on:", &data.calibrate),
        manifest.command,
        training_time(manifest.minutes),
        manifest.machine,
    )
    .expect("writing to a String cannot fail");
    if manifest.preset == "study" {
        out.push_str(
            "\nIts nouns come from WordNet, © Princeton University; its stop words and dictionary \
             from NLTK's data.\n",
        );
    }
    for (name, figures) in &manifest.metrics {
        let figure = |key: &str| figures.get(key).map_or("-".to_owned(), |v| format!("{v:.4}"));
        let count = |key: &str| figures.get(key).map_or(0.0, |v| *v);
        let between = |key: &str| {
            format!(
                "{} ({} to {})",
                figure(key),
                figure(&format!("{key}_low")),
                figure(&format!("{key}_high"))
            )
        };
        write!(out, "\n### {name}\n\n{} rows: accuracy {}", count("rows"), between("accuracy"))
            .expect("writing to a String cannot fail");
        let of_three = figures.contains_key("macro_recall");
        if of_three {
            write!(
                out,
                ", macro recall {}, F1 of negative and positive {}, neutral called negative {}",
                between("macro_recall"),
                figure("f1_pn"),
                figure("neutral_called_negative"),
            )
            .expect("writing to a String cannot fail");
        }
        write!(
            out,
            ", ROC AUC {}, calibration error {}.\n\n\
             | class | precision | recall | F1 | right | wrong |\n\
             | --- | --- | --- | --- | --- | --- |\n",
            between("roc_auc"),
            figure("calibration_error"),
        )
        .expect("writing to a String cannot fail");
        let classes = if of_three { Classes::Three } else { Classes::Two };
        for class in classes.labels().iter().map(|label| label.word()) {
            writeln!(
                out,
                "| {class} | {} | {} | {} | {} | {} |",
                figure(&format!("{class}_precision")),
                figure(&format!("{class}_recall")),
                figure(&format!("{class}_f1")),
                count(&format!("{class}_found")),
                count(&format!("{class}_missed")),
            )
            .expect("writing to a String cannot fail");
        }
        if figures.contains_key("escalated_share") {
            write!(
                out,
                "\nOf these rows {} were escalated; accuracy of the cheap model alone {}, of the \
                 costly one alone {}.\n",
                figure("escalated_share"),
                figure("cheap_accuracy"),
                figure("costly_accuracy"),
            )
            .expect("writing to a String cannot fail");
        }
    }
    out.push_str(
        "\n## Limits\n\nsentiment140's labels come from emoticons, of 2009, and are noisy; its \
         tweets are of the general public, not addressed to brands. ",
    );
    if manifest.classes == Classes::Two {
        out.push_str(
            "There is no neutral class: a neutral tweet gets a probability in between, on either \
             side of the threshold. ",
        );
    }
    out.push_str(
        "Irony, other languages and words younger than the data are not understood. Meant for shares \
         over many tweets, not for verdicts on one person's.\n",
    );
    out
}
