//! Logits of small random models, compared with those of Python's transformers
//! (`scripts/make-transformer-fixture`).

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::{StoredPrecision, network};

/// Positions of the models there.
const TOKENS_MAX: usize = 48;

/// The logits of transformers, for batches of ten rows in their order.
#[derive(serde::Deserialize)]
struct Expected {
    ids: Vec<Vec<u32>>,
    bert: Vec<[f32; 2]>,
    distilbert: Vec<[f32; 2]>,
}

fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../tests/fixtures/transformer", name].iter().collect()
}

fn network(name: &str) -> Transformer {
    Pretrained::read(&fixture(name))
        .unwrap()
        .network(Classes::Two, TOKENS_MAX, Device::Cpu)
        .unwrap()
}

fn in_bf16(name: &str) -> Transformer {
    let mut network = network(name);
    network.to_bf16();
    network
}

/// Prepared for inference.
fn for_inference(name: &str, bf16: bool) -> Transformer {
    let mut network = if bf16 { in_bf16(name) } else { network(name) };
    network.prepare_inference(Pretrained::read(&fixture(name)).unwrap().config());
    network
}

/// Written like a model file, and read again.
fn rewritten(name: &str) -> Transformer {
    let network = network(name);
    let bytes = network.weights().to_bytes(StoredPrecision::Fp16);
    network.load(Weights::parse(&bytes).unwrap()).unwrap();
    network
}

#[test]
fn logits_are_those_of_transformers() {
    let expected = fs::read(fixture("logits.json")).unwrap();
    let Expected { ids, bert, distilbert } = serde_json::from_slice(&expected).unwrap();
    assert_eq!(ids.len(), 40);
    let check = |name: &str, network: Transformer, expected: &[[f32; 2]], tolerance: f32| {
        let mut furthest = 0.0f32;
        for (rows, expected) in ids.chunks(10).zip(expected.chunks(10)) {
            let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
            let rows = Padded::new(&rows, Device::Cpu);
            let classes = tch::no_grad(|| network.outputs(&rows, false));
            let logits = tch::no_grad(|| network.logits(&rows, 0.0));
            for (row, [negative, positive]) in expected.iter().enumerate() {
                let found = |class| classes.double_value(&[row as i64, class]) as f32;
                let apart = (found(0) - negative).abs().max((found(1) - positive).abs());
                furthest = furthest.max(apart);
                let logit = logits.double_value(&[row as i64, 0]) as f32;
                assert!((logit - found(0)).abs() < 1e-5, "{name}, row {row}");
            }
        }
        assert!(furthest < tolerance, "{name}: {furthest} apart");
    };
    check("BERT", network("bert"), &bert, 1e-4);
    check("DistilBERT", network("distilbert"), &distilbert, 1e-4);
    check("BERT for inference", for_inference("bert", false), &bert, 1e-4);
    check("DistilBERT for inference", for_inference("distilbert", false), &distilbert, 1e-4);
    check("a file in fp16", network("cased"), &bert, 0.01);
    check("written and read again", rewritten("distilbert"), &distilbert, 0.01);
    check("BERT in bfloat16", in_bf16("bert"), &bert, 0.1);
    check("DistilBERT in bfloat16", in_bf16("distilbert"), &distilbert, 0.1);
    check("BERT for inference in bfloat16", for_inference("bert", true), &bert, 0.1);
    check(
        "DistilBERT for inference in bfloat16",
        for_inference("distilbert", true),
        &distilbert,
        0.1,
    );
}

#[test]
fn neighbours_and_padding_change_nothing() {
    for name in ["bert", "distilbert"] {
        network::tests::neighbours_and_padding_change_nothing(network(name));
        network::tests::neighbours_and_padding_change_nothing(for_inference(name, false));
    }
}

/// The size of `DistilBertForSequenceClassification` for `distilbert-base-uncased`.
#[test]
fn distilbert_has_its_known_size() {
    let published = TransformerConfig::parse(br#"{"model_type": "distilbert"}"#).unwrap();
    let network = Transformer::new(&published, 512, Device::Cpu);
    assert_eq!(network.parameters(), (66_955_010, 66_955_010));
}

/// Texts of kept pieces have the same logits; other words are read by their letters.
#[test]
fn a_smaller_vocabulary_reads_every_word() {
    let texts = ["the flight was late, and the bag is lost!", "thanks @user", "great service"];
    for name in ["bert", "distilbert", "cased"] {
        let base = || Pretrained::read(&fixture(name)).unwrap();
        let pieces = base().tokenizer(TOKENS_MAX).unwrap();
        let smaller =
            |count| base().with_vocabulary(count, texts.iter().map(|text| pieces.pieces(text).ids));
        let error = |count| smaller(count).err().unwrap().to_string();
        assert!(error(2).contains("pieces of one character alone are"), "{name}");
        assert!(error(100_000).contains("word pieces, fewer than the 100000 to keep"), "{name}");

        let kept = smaller(270).unwrap();
        assert!(kept.source().about.contains(", 270 of its "), "{name}: {}", kept.source().about);
        let (before, now) = (network(name), kept.network(Classes::Two, TOKENS_MAX, Device::Cpu));
        let fewer = kept.tokenizer(TOKENS_MAX).unwrap();
        assert_eq!(fewer.ids(), 270, "{name}");
        let logits = |network: &Transformer, ids: &[u32]| {
            network.logits(&Padded::new(&[ids], Device::Cpu), 0.0)
        };
        let now = now.unwrap();
        for text in texts {
            let (old, new) = (pieces.pieces(text).ids, fewer.pieces(text).ids);
            assert!(old.len() == new.len() && old != new, "{name}: {old:?} and {new:?}");
            assert_eq!(logits(&before, &old), logits(&now, &new), "{name}: {text}");
        }
        let unknown = fewer.pieces("[UNK]").ids[1];
        let found = fewer.pieces("wonderful").ids;
        assert_eq!(
            (found.len(), found.contains(&unknown)),
            (2 + "wonderful".len(), false),
            "{name}"
        );
    }
}

/// The index of a label in `config.json` is the index of its logit.
#[test]
fn labels_may_be_swapped() {
    let base = Pretrained::read(&fixture("bert")).unwrap();
    let config = String::from_utf8(base.classifier_config(Classes::Two)).unwrap();
    let turned = config.replace("\"0\": \"NEGATIVE\"", "\"0\": \"POSITIVE\"");
    let turned = turned.replace("\"1\": \"POSITIVE\"", "\"1\": \"NEGATIVE\"");
    let turned = TransformerConfig::parse(turned.as_bytes()).unwrap();
    let weights = network("bert").weights();
    let turned = Transformer::begin(&turned, weights, TOKENS_MAX, Device::Cpu).unwrap();
    let rows = Padded::new(&[&[2, 30, 31, 3]], Device::Cpu);
    let logit = |network: &Transformer| network.logits(&rows, 0.0);
    assert_eq!(logit(&turned), logit(&network("bert")).flip([1]));
}
