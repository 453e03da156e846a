//! The word lists behind the `study` preset: stop words, a dictionary, WordNet's nouns.
//!
//! WordNet's lemmatiser is implemented here in a dozen lines. The existing crates do not
//! fit: `wordnet-lemmatizer` (one release so far) embeds its own data, and `wordnet-morphy`,
//! `wordnet_stemmer`, `wordnet` and `wn` read WordNet's folder, which a model's artifact
//! does not contain.
//!
//! **Invariant.** [`Lexicon::to_text`] and then [`Lexicon::parse`] give the same lexicon.
//! Words of the sources that a cleaned text cannot contain are left out. Deliberately
//! absent: files (the training crate finds them), verbs and adjectives: NLTK reads every
//! word as a noun by default, and the study used the default.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

/// WordNet's rules of detachment for nouns, in NLTK's order: an ending, and its
/// replacement (`MORPHOLOGICAL_SUBSTITUTIONS` in NLTK's `corpus/reader/wordnet.py`).
const DETACHMENTS: [(&str, &str); 9] = [
    ("s", ""),
    ("ses", "s"),
    ("ves", "f"),
    ("xes", "x"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("men", "man"),
    ("ies", "y"),
];

/// Headings of the file's parts, in their order; no word contains a `#`.
const HEADINGS: [&str; 4] = ["# stop words", "# dictionary", "# nouns", "# irregular nouns"];

/// Stop words, dictionary and nouns that a cleaned text can contain.
#[derive(Clone, PartialEq, Eq)]
pub struct Lexicon {
    stop_words: HashSet<String>,
    dictionary: HashSet<String>,
    nouns: HashSet<String>,
    /// Form to lemma.
    irregular: HashMap<String, String>,
}

/// Prints the number of words only: there are 250,000.
impl fmt::Debug for Lexicon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lexicon")
            .field("stop_words", &self.stop_words.len())
            .field("dictionary", &self.dictionary.len())
            .field("nouns", &self.nouns.len())
            .field("irregular", &self.irregular.len())
            .finish()
    }
}

/// The contents of the published lists.
#[derive(Debug, Clone, Copy)]
pub struct LexiconSources<'a> {
    /// NLTK's `stopwords/english`: one word per line.
    pub stop_words: &'a str,
    /// NLTK's `words/en` and `words/en-basic` concatenated: one word per line.
    pub dictionary: &'a str,
    /// WordNet's `index.noun`: each line begins with a lemma; lines that begin with a
    /// blank are the licence.
    pub index_noun: &'a str,
    /// WordNet's `noun.exc`: an inflected form and its lemmas, one form per line.
    pub noun_exc: &'a str,
}

/// An invalid word list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LexiconError {
    /// A part of it has no words.
    #[error("it has no {0}")]
    Empty(&'static str),
    /// A heading is missing.
    #[error("the line {0:?} is missing")]
    Heading(&'static str),
    /// An invalid line.
    #[error("line {line}: {found:?} is not valid here")]
    Line {
        /// Line, counted from 1.
        line: usize,
        /// The line.
        found: String,
    },
}

impl Lexicon {
    /// Reads the published lists.
    ///
    /// # Errors
    /// [`LexiconError::Empty`] if a list has no word, [`LexiconError::Line`] if
    /// `noun.exc` names a form without a lemma.
    pub fn from_sources(sources: &LexiconSources<'_>) -> Result<Self, LexiconError> {
        let nouns: HashSet<&str> = (sources.index_noun.lines())
            .filter(|line| !line.starts_with(' '))
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        let mut irregular = HashMap::new();
        for (index, line) in sources.noun_exc.lines().enumerate() {
            let mut forms = line.split_whitespace();
            let Some(form) = forms.next() else { continue };
            let lemmas: Vec<&str> = forms.collect();
            if lemmas.is_empty() {
                return Err(LexiconError::Line { line: index + 1, found: line.to_owned() });
            }
            if is_clean(form) {
                let known = [form].into_iter().chain(lemmas).filter(|lemma| nouns.contains(lemma));
                let lemma = shortest(known).unwrap_or(form);
                irregular.insert(form.to_owned(), lemma.to_owned());
            }
        }
        Self {
            stop_words: clean_words(sources.stop_words.lines()),
            dictionary: clean_words(sources.dictionary.lines()),
            nouns: clean_words(nouns.into_iter()),
            irregular,
        }
        .filled()
    }

    /// The lexicon, if no part is empty.
    fn filled(self) -> Result<Self, LexiconError> {
        let parts = [&self.stop_words, &self.dictionary, &self.nouns].map(HashSet::is_empty);
        let parts = parts.into_iter().chain([self.irregular.is_empty()]);
        match parts.zip(HEADINGS).find(|(empty, _)| *empty) {
            Some((_, heading)) => Err(LexiconError::Empty(heading.trim_start_matches("# "))),
            None => Ok(self),
        }
    }

    /// Whether the word is a stop word, too common to carry meaning; "not" is one.
    pub fn is_stop_word(&self, word: &str) -> bool {
        self.stop_words.contains(word)
    }

    /// Whether the dictionary contains the word, in lower case.
    pub fn is_in_dictionary(&self, word: &str) -> bool {
        self.dictionary.contains(word)
    }

    /// The word's shortest noun in WordNet, or the word itself if there is none. The result
    /// is that of `WordNetLemmatizer().lemmatize(word)` in NLTK up to 3.8.1: a form in
    /// `noun.exc` has its lemma there; otherwise the rules of detachment are applied, and
    /// applied again to the results until one is a noun ("yesss" gives "yes"). NLTK 3.9
    /// applies them once.
    ///
    /// The method is WordNet's `morphy` (Miller et al. 1990; manual page `morphy(7WN)`).
    pub fn lemma<'a>(&'a self, word: &'a str) -> &'a str {
        if let Some(lemma) = self.irregular.get(word) {
            return lemma;
        }
        let mut forms = detached(word);
        // The word itself is compared with the first forms only.
        let mut found = shortest(self.known([word]).chain(self.known(forms.iter())));
        while found.is_none() && !forms.is_empty() {
            forms = forms.iter().flat_map(|form| detached(form)).collect();
            found = shortest(self.known(forms.iter()));
        }
        found.unwrap_or(word)
    }

    /// The nouns among `forms`.
    fn known(
        &self,
        forms: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> impl Iterator<Item = &str> {
        forms.into_iter().filter_map(|form| self.nouns.get(form.as_ref()).map(String::as_str))
    }

    /// The file: four parts, each under its heading, one word per line in alphabetical
    /// order; an irregular noun is followed by its lemma.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let sets = [&self.stop_words, &self.dictionary, &self.nouns];
        for (heading, words) in HEADINGS.iter().zip(sets) {
            text.extend([heading, "\n"]);
            for word in words.iter().collect::<BTreeSet<_>>() {
                text.extend([word, "\n"]);
            }
        }
        text.extend([HEADINGS[3], "\n"]);
        for (form, lemma) in self.irregular.iter().collect::<BTreeMap<_, _>>() {
            text.extend([form, " ", lemma, "\n"]);
        }
        text
    }

    /// Reads the output of [`Lexicon::to_text`].
    ///
    /// # Errors
    /// [`LexiconError`], with the line.
    pub fn parse(text: &str) -> Result<Self, LexiconError> {
        let mut sets = [HashSet::new(), HashSet::new(), HashSet::new()];
        let mut irregular = HashMap::new();
        // Number of headings read so far.
        let mut part = 0;
        for (index, line) in text.lines().enumerate() {
            let wrong = || LexiconError::Line { line: index + 1, found: line.to_owned() };
            if HEADINGS.get(part) == Some(&line) {
                part += 1;
            } else if (1..=3).contains(&part) && is_clean(line) {
                sets[part - 1].insert(line.to_owned());
            } else {
                let pair = line.split_once(' ').filter(|(form, _)| part == 4 && is_clean(form));
                let (form, lemma) = pair.ok_or_else(wrong)?;
                irregular.insert(form.to_owned(), lemma.to_owned());
            }
        }
        if let Some(heading) = HEADINGS.get(part) {
            return Err(LexiconError::Heading(heading));
        }
        let [stop_words, dictionary, nouns] = sets;
        Self { stop_words, dictionary, nouns, irregular }.filled()
    }
}

/// Each rule of detachment that fits, applied once.
fn detached(word: &str) -> Vec<String> {
    (DETACHMENTS.iter())
        .filter_map(|(ending, other)| Some(word.strip_suffix(ending)?.to_owned() + other))
        .collect()
}

/// The first of the shortest, in characters.
fn shortest<'a>(words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    words.min_by_key(|word| word.chars().count())
}

/// Whether a cleaned text can contain the word: lower case, without ASCII punctuation and
/// white space.
fn is_clean(word: &str) -> bool {
    let odd = |c: char| c.is_ascii_punctuation() || c.is_whitespace();
    !word.is_empty() && !word.contains(odd) && word.to_lowercase() == word
}

fn clean_words<'a>(words: impl Iterator<Item = &'a str>) -> HashSet<String> {
    words.map(str::trim).filter(|word| is_clean(word)).map(str::to_owned).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A few words in the layouts of the lists.
    pub(in crate::text) fn small() -> Lexicon {
        Lexicon::from_sources(&LexiconSources {
            stop_words: "i\nnot\nthe\nis\nit\nso\ndon't\n",
            dictionary: "Aaron\namp\nbus\ncat\nchild\ndog\nglass\ngood\nlove\nman\nsad\nu\nyes\n\
                         well-being\nwolf\nbaby\ncat\n\n",
            index_noun: "  1 licence text, in lines that begin with blanks\n\
                         bus n 1 1 @ 1 0 00000001  \nbaby n 1 0 1 0 00000002  \n\
                         cat n 1 0 1 0 3\nchild n 1 0 1 0 4\nchurch n 1 0 1 0 5\n\
                         dish n 1 0 1 0 6\ndog n 1 0 1 0 7\nfox n 1 0 1 0 8\nglass n 1 0 1 0 9\n\
                         hot_dog n 1 0 1 0 10\nmen n 1 0 1 0 11\nman n 1 0 1 0 12\n\
                         u n 1 0 1 0 13\nus n 1 0 1 0 14\nwolf n 1 0 1 0 15\nyes n 1 0 1 0 16\n\
                         axis n 1 0 1 0 17\nax n 1 0 1 0 18\naxe n 1 0 1 0 19\nlie n 1 0 1 0 20\n",
            noun_exc: "children child\naxes ax axis\nwolves wolf\nhot_dogs hot_dog\n\
                       buses buss\nattys atty attorney_at_law\n",
        })
        .unwrap()
    }

    #[test]
    fn lemmas() {
        let lexicon = small();
        let check = |name: &str, word, expected| {
            assert_eq!(lexicon.lemma(word), expected, "{name}");
        };
        check("plural", "cats", "cat");
        check("singular", "cat", "cat");
        check("singular in s", "bus", "bus");
        check("no noun", "loved", "loved");
        check("no noun in s", "is", "is");
        check("irregular", "children", "child");
        check("irregular, the shortest", "axes", "ax");
        check("irregular with an unknown lemma, though a rule would do", "buses", "buses");
        check("irregular with lemmas that are none", "attys", "attys");
        check("the shorter, though the word is a noun", "us", "u");
        check("the first where as short", "men", "men");
        check("-ches", "churches", "church");
        check("-shes", "dishes", "dish");
        check("-xes", "foxes", "fox");
        check("-ses", "glasses", "glass");
        check("-ies, where -s goes before", "lies", "lie");
        check("-ies", "babies", "baby");
        check("rules applied twice", "catss", "cat");
        check("rules applied twice, to a word in -s", "yesss", "yes");
        check("no noun found", "ssss", "ssss");
        check("empty", "", "");
    }

    #[test]
    fn leaves_out_words_that_no_text_contains() {
        let lexicon = small();
        assert!(lexicon.is_stop_word("not") && !lexicon.is_stop_word("don't"));
        assert!(lexicon.is_in_dictionary("cat") && !lexicon.is_in_dictionary("well-being"));
        assert!(!lexicon.is_in_dictionary("Aaron") && !lexicon.is_in_dictionary("aaron"));
        assert_eq!(lexicon.lemma("hot_dogs"), "hot_dogs");
    }

    #[test]
    fn is_unchanged_by_its_file() {
        let text = small().to_text();
        assert_eq!(Lexicon::parse(&text), Ok(small()));
        assert!(text.starts_with("# stop words\ni\nis\n"), "{text}");
        assert!(text.ends_with("\nbuses buses\nchildren child\nwolves wolf\n"), "{text}");
    }

    #[test]
    fn invalid_files_give_a_reason() {
        let text = small().to_text();
        let check = |name: &str, text: &str, expected: &str| {
            let found = Lexicon::parse(text).map_err(|error| error.to_string());
            assert_eq!(found.map(|_| ()), Err(expected.to_owned()), "{name}");
        };
        check("empty", "", "the line \"# stop words\" is missing");
        check("a vocabulary", "<padding>\n", "line 1: \"<padding>\" is not valid here");
        check("cut off", &text[..30], "the line \"# dictionary\" is missing");
        let unclean = text.replacen("\nis\n", "\nIs\n", 1);
        check("capitals", &unclean, "line 3: \"Is\" is not valid here");
        let other = text.replacen("# nouns\n", "", 1);
        check("another order", &other, "line 42: \"# irregular nouns\" is not valid here");
        let lone = text.replacen("children child", "children", 1);
        check("no lemma", &lone, "line 47: \"children\" is not valid here");
        let without = text.split_inclusive("# irregular nouns\n").next().unwrap();
        check("no irregular nouns", without, "it has no irregular nouns");
    }

    #[test]
    fn invalid_sources_give_a_reason() {
        let sound = LexiconSources {
            stop_words: "the",
            dictionary: "cat",
            index_noun: "cat n 1",
            noun_exc: "children child",
        };
        let check = |name: &str, sources: LexiconSources<'_>, expected: Result<(), &str>| {
            let found = Lexicon::from_sources(&sources).map_err(|error| error.to_string());
            assert_eq!(found.map(|_| ()), expected.map_err(str::to_owned), "{name}");
        };
        check("sound", sound, Ok(()));
        check(
            "no stop words",
            LexiconSources { stop_words: "\n", ..sound },
            Err("it has no stop words"),
        );
        check(
            "no dictionary",
            LexiconSources { dictionary: "A-B", ..sound },
            Err("it has no dictionary"),
        );
        check("no nouns", LexiconSources { index_noun: "  1 a", ..sound }, Err("it has no nouns"));
        let noun_exc = "children child\noxen\n";
        let expected = "line 2: \"oxen\" is not valid here";
        check("a form without lemma", LexiconSources { noun_exc, ..sound }, Err(expected));
    }
}
