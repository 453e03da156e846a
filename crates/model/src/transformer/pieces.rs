//! Word pieces: from a text to the token ids of BERT.
//!
//! **Invariant.** The ids are those of Python's transformers, whose fast tokenizers are the
//! same crate; only `tokenizer.json` (or `vocab.txt`) defines them. Two replacements come
//! first: mentions become `@user` and links `http`, as in TweetEval (Barbieri et al. 2020),
//! because a name says nothing about other tweets. Deliberately absent: pairs of texts, and
//! tokens other than word pieces.

use std::borrow::Cow;

use ahash::AHashMap;
use serde_json::json;
use tokenizers::models::ModelWrapper;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{AddedToken, PostProcessor, Tokenizer, TruncationParams};

use monitor_core::drift::KnownWords;
use monitor_core::text::{SourceText, TEXT_BYTES_MAX, beginning, decode_entities};

use crate::{Encoder, Encoding};

/// Names of BERT's special tokens, by what Python's transformers calls them.
const SPECIAL: [(&str, &str); 5] = [
    ("cls_token", "[CLS]"),
    ("mask_token", "[MASK]"),
    ("pad_token", "[PAD]"),
    ("sep_token", "[SEP]"),
    ("unk_token", "[UNK]"),
];

/// Turns texts into token ids.
#[derive(Debug)]
pub struct WordPieces(Tokenizer);

impl WordPieces {
    /// Reads `tokenizer.json`; texts are cut to `tokens_max` tokens.
    ///
    /// # Errors
    /// A message that says what is invalid.
    pub fn parse(json: &[u8], tokens_max: usize) -> Result<Self, String> {
        // What is not JSON, or not UTF-8 in its strings, first: inside a decoder or a normalizer, tokenizers panics on it.
        let is_json = serde_json::from_slice::<serde_json::Value>(json).map(drop);
        let read = is_json.map_err(Into::into).and_then(|()| Tokenizer::from_bytes(json));
        Self::bounded(read.map_err(|error| error.to_string())?, tokens_max)
    }

    /// Word pieces of a `vocab.txt`, one per line, read like BERT's.
    ///
    /// # Errors
    /// One of BERT's special tokens is missing.
    pub fn of_vocabulary(text: &str, lowercase: bool, tokens_max: usize) -> Result<Self, String> {
        let words = text.lines().enumerate();
        let ids: AHashMap<String, u32> =
            words.map(|(id, word)| (word.trim_end().to_owned(), id as u32)).collect();
        let model = WordPiece::builder().vocab(ids).unk_token("[UNK]".into()).build();
        let mut tokenizer = Tokenizer::new(model.map_err(|error| error.to_string())?);
        let id = |token: &str| {
            let id = tokenizer.token_to_id(token);
            id.map(|id| (token.to_owned(), id)).ok_or_else(|| format!("it has no {token}"))
        };
        let (start, end, _) = (id("[CLS]")?, id("[SEP]")?, id("[UNK]")?);
        let normalizer = BertNormalizer::new(true, true, None, lowercase);
        tokenizer.with_normalizer(Some(normalizer)).map_err(|error| error.to_string())?;
        tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
        tokenizer.with_post_processor(Some(BertProcessing::new(end, start)));
        // In a text, these stay whole tokens, as in transformers.
        let special: Vec<AddedToken> = (SPECIAL.iter())
            .filter(|(_, token)| tokenizer.token_to_id(token).is_some())
            .map(|(_, token)| AddedToken::from(*token, true))
            .collect();
        tokenizer.add_special_tokens(special).map_err(|error| error.to_string())?;
        Self::bounded(tokenizer, tokens_max)
    }

    fn bounded(mut tokenizer: Tokenizer, tokens_max: usize) -> Result<Self, String> {
        let ModelWrapper::WordPiece(model) = tokenizer.get_model() else {
            return Err("its tokens are not word pieces".into());
        };
        if tokenizer.token_to_id(&model.unk_token).is_none() {
            return Err(format!("it has no {}", model.unk_token));
        }
        let added = tokenizer.get_post_processor().map_or(0, |it| it.added_tokens(false));
        if tokens_max <= added {
            return Err(format!("it adds {added} tokens to a text, and {tokens_max} are read"));
        }
        tokenizer.with_padding(None);
        let bound = TruncationParams { max_length: tokens_max, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(bound)).map_err(|error| error.to_string())?;
        Ok(Self(tokenizer))
    }

    /// `tokenizer.json`
    pub fn to_json(&self) -> Vec<u8> {
        self.0.to_string(false).expect("what was read can be written").into_bytes()
    }

    /// `tokenizer_config.json`; without it, Python's transformers does not truncate texts, and
    /// converts them to lower case.
    pub fn config_json(&self) -> Vec<u8> {
        let mut all = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_input_names": ["input_ids", "attention_mask"],
            "model_max_length": self.0.get_truncation().map(|bound| bound.max_length),
        });
        for (name, token) in SPECIAL {
            if self.0.token_to_id(token).is_some() {
                all[name] = token.into();
            }
        }
        let mut text = serde_json::to_vec_pretty(&all).expect("it is numbers and text");
        text.push(b'\n');
        text
    }

    /// One more than the largest id.
    pub fn ids(&self) -> usize {
        self.0.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1)
    }

    /// The ids, in ascending order, of `count` pieces: the most frequent ones of `texts`, which are
    /// given by their token ids. Always among them are the special tokens, the ids before them, and
    /// pieces of one character, of which every other word can be made.
    ///
    /// # Errors
    /// There are fewer pieces, or more that are always kept; a message says which.
    pub fn most_frequent(
        &self,
        count: usize,
        texts: impl Iterator<Item = Vec<u32>>,
    ) -> Result<Vec<u32>, String> {
        let all = self.ids();
        if count > all {
            return Err(format!("it has {all} word pieces, fewer than the {count} to keep"));
        }
        let mut uses = vec![0u64; all];
        texts.flatten().for_each(|id| uses[id as usize] += 1);
        let ModelWrapper::WordPiece(model) = self.0.get_model() else {
            unreachable!("see `bounded`")
        };
        let special = self.0.get_added_tokens_decoder().into_keys().max().unwrap_or(0);
        let is_kept = |id: u32| {
            let piece = self.0.id_to_token(id).unwrap_or_default();
            let word = piece.strip_prefix(&model.continuing_subword_prefix).unwrap_or(&piece);
            id <= special || word.chars().count() == 1
        };
        let (mut kept, mut others): (Vec<u32>, Vec<u32>) =
            (0..all as u32).partition(|id| is_kept(*id));
        let Some(more) = count.checked_sub(kept.len()) else {
            return Err(format!(
                "its special tokens and the pieces of one character alone are {}, more than the \
                 {count} to keep",
                kept.len()
            ));
        };
        others.sort_by_key(|id| std::cmp::Reverse(uses[*id as usize]));
        kept.extend(&others[..more]);
        kept.sort_unstable();
        Ok(kept)
    }

    /// `tokenizer.json` with only the pieces `kept`, numbered anew in this order; special tokens keep
    /// their ids.
    pub fn with(&self, kept: &[u32]) -> Vec<u8> {
        let mut all: serde_json::Value =
            serde_json::from_slice(&self.to_json()).expect("it was written by a library");
        let now: AHashMap<String, usize> = (kept.iter().enumerate())
            .filter_map(|(now, id)| Some((self.0.id_to_token(*id)?, now)))
            .collect();
        all["model"]["vocab"] = json!(now);
        serde_json::to_vec(&all).expect("it was JSON before")
    }

    /// Token ids of an unchanged text: those of `tokenizer(text, truncation=True)`.
    pub fn pieces(&self, text: &str) -> Encoding {
        let encoded = self.0.encode_fast(text, true).expect("unknown words have an id");
        Encoding {
            ids: encoded.get_ids().to_vec(),
            truncated: !encoded.get_overflowing().is_empty(),
            text: None,
        }
    }
}

impl Encoder for WordPieces {
    fn encode_text(&self, text: &SourceText<'_>) -> Encoding {
        let text = text.raw();
        let read = beginning(text, TEXT_BYTES_MAX);
        let mut encoding = self.pieces(&without_names(&decode_entities(read)));
        encoding.truncated |= read.len() < text.len();
        encoding
    }

    /// A word that is cut into several pieces is not in the vocabulary.
    fn known_words(&self, text: &str) -> Option<KnownWords> {
        let ModelWrapper::WordPiece(model) = self.0.get_model() else { return None };
        let text = without_names(&decode_entities(beginning(text, TEXT_BYTES_MAX))).into_owned();
        let encoded = self.0.encode(text, false).expect("unknown words have an id");
        let mut words: Vec<(String, bool)> = Vec::new();
        for piece in encoded.get_tokens() {
            match (piece.strip_prefix(&model.continuing_subword_prefix), words.last_mut()) {
                (Some(rest), Some((word, is_known))) => {
                    word.push_str(rest);
                    *is_known = false;
                }
                _ => words.push((piece.clone(), *piece != model.unk_token)),
            }
        }
        let count = words.len();
        let unknown = words.into_iter().filter(|(_, is_known)| !is_known).map(|(word, _)| word);
        Some(KnownWords { words: count, unknown: unknown.collect() })
    }
}

/// Replaces mentions by `@user` and links by `http`; white space separates words.
pub fn without_names(text: &str) -> Cow<'_, str> {
    if !(text.contains('@') || text.contains("http")) {
        return text.into();
    }
    let parts = text.split_inclusive(char::is_whitespace).map(|part| {
        let word = part.trim_end_matches(char::is_whitespace);
        let space = &part[word.len()..];
        match word {
            _ if word.len() > 1 && word.starts_with('@') => ["@user", space],
            _ if word.starts_with("http") => ["http", space],
            _ => [word, space],
        }
    });
    parts.flatten().collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |text: &str, expected: &str| assert_eq!(without_names(text), expected);
        check("", "");
        check("@ 5 pm http", "@ 5 pm http");
        check("@united  thanks @jetblue!", "@user  thanks @user");
        check("see https://t.co/x now", "see http now");
        check("mail me@example.com", "mail me@example.com");
        check("@united\nterrible\n\nservice", "@user\nterrible\n\nservice");
        check("Worst ever\n@united\thttps://t.co/x\n", "Worst ever\n@user\thttp\n");
    }

    #[test]
    fn words_in_pieces_are_not_in_the_vocabulary() {
        let words = "[PAD]\n[UNK]\n[CLS]\n[SEP]\nflight\n##s\nlate\n!\n@\nuser\n";
        let pieces = WordPieces::of_vocabulary(words, true, 64).unwrap();
        let found = pieces.known_words("@united flights LATE! zzz flight").unwrap();
        assert_eq!((found.words, found.unknown), (7, vec!["flights".into(), "[UNK]".to_owned()]));
        assert_eq!(pieces.known_words(""), Some(KnownWords::default()));
    }

    #[test]
    fn a_file_that_is_not_json_is_an_error() {
        let decoder = r#"{"version":"1.0","decoder":/ull,"model":{"type":"WordPiece"}}"#;
        for text in ["", "{", decoder, "{}"] {
            assert!(!WordPieces::parse(text.as_bytes(), 8).unwrap_err().is_empty(), "{text}");
        }
    }

    #[test]
    fn a_vocabulary_file_is_enough() {
        let words = "[PAD]\n[UNK]\n[CLS]\n[SEP]\nflight\n##s\nlate\n!\n";
        let check = |text: &str, lowercase, expected: &[u32], truncated| {
            let pieces = WordPieces::of_vocabulary(words, lowercase, 6).unwrap();
            let found = pieces.pieces(text);
            assert_eq!((&found.ids[..], found.truncated), (expected, truncated), "{text}");
            let again = WordPieces::parse(&pieces.to_json(), 6).unwrap();
            assert_eq!(again.pieces(text), found, "{text}");
        };
        check("Flights LATE!", true, &[2, 4, 5, 6, 7, 3], false);
        check("Flights late", false, &[2, 1, 6, 3], false);
        check("late late late late late", true, &[2, 6, 6, 6, 6, 3], true);
        check("", true, &[2, 3], false);
        let error = WordPieces::of_vocabulary("[PAD]\n[UNK]", true, 6).unwrap_err();
        assert!(error.contains("[CLS]"), "{error}");
    }
}
