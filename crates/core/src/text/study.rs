//! The study's text recipe, reproduced exactly.
//!
//! The slides say: "brackets / links / line breaks / punctuation / lower / stop words,
//! NLTK lemmatisation, filter on an English dictionary (NLTK corpus `words`)". They do not
//! show the code; the expressions below are the common ones for these steps.
//!
//! | step | in Python | result |
//! | --- | --- | --- |
//! | brackets | `re.sub(r'\[.*?\]', '', t)` | `[...]` is removed with its content, within one line |
//! | links | `re.sub(r'https?://\S+\|www\.\S+', '', t)` | lower-case links only |
//! | line breaks | `re.sub('\n', '', t)` | "so\nbad" becomes "sobad" |
//! | punctuation | `re.sub('[%s]' % re.escape(string.punctuation), '', t)` | the 32 ASCII signs are removed: "don't" becomes "dont", `&amp;` "amp", `@you` "you"; a curly apostrophe stays |
//! | lower | `t.lower()` | |
//! | words | `t.split()` | at white space |
//! | stop words | `w not in stopwords.words('english')` | "not" and "no" are removed; "dont" stays, because the list has "don't" |
//! | lemmas | `WordNetLemmatizer().lemmatize(w)` | each word read as a noun: "cats" becomes "cat", "yesss" "yes", "us" "u", "loved" stays |
//! | dictionary | `w in set(words.words())` | "dont", "cant" and "u" stay; "isnt", "lol", "loved", names, numbers and words with a curly apostrophe are removed |
//!
//! The study was made in February 2022 with NLTK 3.7. Since 3.9 the lemmatiser applies its
//! rules once (see [`Lexicon::lemma`]): 1,193 of 249,010 tweets differ.
//!
//! **Invariant.** The words are those of the Python above under NLTK 3.7, except a word
//! longer than a tweet; `tests/it/word_lists.rs` compares them. Deliberately absent:
//! improvements, such as decoded entities or negations; the `tweet` preset has them.

use std::borrow::Cow;

use super::{Lexicon, TEXT_BYTES_MAX, beginning};

/// A word of more bytes is longer than a tweet and is left out: no dictionary has it, and
/// its lemma would take time quadratic in its length.
const WORD_BYTES_MAX: usize = 280;

/// The first `words_max` words of `text`, read from its first [`TEXT_BYTES_MAX`] bytes.
pub(super) fn words(text: &str, lexicon: &Lexicon, words_max: usize) -> Vec<String> {
    let text = without_brackets(beginning(text, TEXT_BYTES_MAX));
    let mut text = without_links(&text);
    text.retain(|c| c != '\n' && !c.is_ascii_punctuation());
    (text.to_lowercase().split(is_space))
        .filter(|word| !word.is_empty() && word.len() <= WORD_BYTES_MAX)
        .filter(|word| !lexicon.is_stop_word(word))
        .map(|word| lexicon.lemma(word))
        .filter(|lemma| lexicon.is_in_dictionary(lemma))
        .map(str::to_owned)
        .take(words_max)
        .collect()
}

/// Removes `[...]`, up to the first closing bracket, if that is on the same line.
fn without_brackets(text: &str) -> Cow<'_, str> {
    if !text.contains('[') {
        return text.into();
    }
    let mut kept = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let mut rest = line;
        while let Some((before, inside)) = rest.split_once('[') {
            let Some((_, after)) = inside.split_once(']') else { break };
            kept.push_str(before);
            rest = after;
        }
        kept.push_str(rest);
    }
    kept.into()
}

/// Removes links: `http://`, `https://` or `www.` and at least one more character, up to the
/// next white space; also in the middle of a word.
fn without_links(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let start = ["http://", "https://", "www."].iter().find_map(|s| rest.strip_prefix(s));
        match start.filter(|address| address.starts_with(|c| !is_space(c))) {
            Some(address) => rest = address.trim_start_matches(|c| !is_space(c)),
            None => {
                kept.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    kept
}

/// White space in Python: that of Unicode, and the four ASCII separators.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1C}'..='\u{1F}')
}

#[cfg(test)]
mod tests {
    use super::super::lexicon::tests::small;
    use super::*;

    #[test]
    fn words_of_the_study() {
        let lexicon = small();
        let check = |name: &str, text: &str, expected: &str| {
            assert_eq!(words(text, &lexicon, 100).join(" "), expected, "{name}");
        };
        check("dictionary", "cat xyzzy dog", "cat dog");
        check("case", "CAT Dog", "cat dog");
        check("stop words", "it is not good", "good");
        check("a stop word without its apostrophe is not one", "don't love", "love");
        check("lemmas", "cats children yesss", "cat child yes");
        check("stop words before lemmas", "us is", "u");
        check("dictionary after lemmas", "foxes dogs churches", "dog");
        check("punctuation joins words", "cat, dog! go-od @love #sad", "cat dog good love sad");
        check("curly apostrophe stays", "cat\u{2019}s cat's", "cat");
        check("entities are not read", "&amp; &lt;cat", "amp");
        check("brackets", "cat [dog man] love", "cat love");
        check("brackets, the shortest", "[cat] dog [[man] love]", "dog love");
        check("brackets join words", "go[xyz]od", "good");
        check("a bracket that does not close", "[cat [dog", "cat dog");
        check("brackets over a line break", "[cat\ndog] man]", "man");
        check("links", "cat http://cat.dog/man https://dog www.dog dog", "cat dog");
        check("a link in a word", "cathttp://x/dog man", "cat man");
        check("not a link", "http:// cat www. dog", "cat dog");
        check("a link after brackets", "http[x]://dog cat", "cat");
        check("a link in capitals", "HTTP://cat WWW.dog", "");
        check("line breaks join words", "go\nod", "good");
        check(
            "other white space separates",
            "cat\r\ndog\tman\u{a0}love\u{1f}sad",
            "cat dog man love sad",
        );
        check("digits", "cat2 2 cats", "cat");
        check("accents", "CAFÉ cat", "cat");
        check("nothing", "", "");
        check("nothing left", "[x] http://x :) the", "");
    }

    #[test]
    fn work_is_bounded() {
        let lexicon = small();
        assert_eq!(words("cat dog man", &lexicon, 2), ["cat", "dog"]);
        assert_eq!(words(&"cat ".repeat(300_000), &lexicon, 5_000).len(), TEXT_BYTES_MAX / 4);
        assert!(words(&format!("cat{}", "s".repeat(100_000)), &lexicon, 9).is_empty());
        let tweet = format!("cat{}", "s".repeat(200));
        assert_eq!(words(&tweet, &lexicon, 9), ["cat"]);
    }
}
