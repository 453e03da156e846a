//! The rules of [`Preset::Tweet`](super::Preset), which turn a tweet into words.
//!
//! **Invariant.** These rules never change, because models have shipped with them.
//! Deliberately absent: removal of negations or stop words, and rules for words in capitals;
//! the models learn which words matter.

use std::ops::Range;

use super::{SourceText, is_selector, is_word, link_length};

/// Largest number of characters of a word; longer words are cut, because they are noise.
const WORD_CHARS_MAX: usize = 32;
/// The longest run of one letter: "sooooo" and "sooo" become "soo".
const REPEATS_MAX: usize = 2;

/// The first `words_max` words of `text`, read from its first
/// [`TEXT_BYTES_MAX`](super::TEXT_BYTES_MAX) bytes.
pub(super) fn words(text: &SourceText<'_>, words_max: usize) -> Vec<String> {
    placed(&text.canonical_beginning(), words_max).0
}

/// The first `words_max` words of a text in canonical form, and for each the bytes of `text` that
/// it was read from. The words of one hashtag, or of one drawn-out word, have the same bytes.
pub(super) fn placed(text: &str, words_max: usize) -> (Vec<String>, Vec<Range<usize>>) {
    let mut scan = Scan { rest: text, words: Vec::new(), places: Vec::new(), words_max };
    scan.run();
    (scan.words, scan.places)
}

/// Emoticons and their words. The labels of large tweet collections were often derived from
/// emoticons, which were then removed from the texts: a model never saw an emoticon, but it
/// knows the word. Compared without case.
const EMOTICONS: [(&str, &[&str]); 8] = [
    ("crying", &[":'(", ":'-(", ":,(", ";_;", "t_t"]),
    ("heartbroken", &["</3"]),
    ("love", &["<3"]),
    (
        "happy",
        &[":)", ":-)", ":o)", ":]", ":-]", "=)", "=]", "(:", "(=", "^_^", "^^", ";)", ";-)", ";]"],
    ),
    ("haha", &[":d", ":-d", "=d", "xd"]),
    ("hehe", &[":p", ":-p", "=p", ";p", ";d"]),
    ("sad", &[":(", ":-(", ":[", ":-[", "=(", "=[", "):", ")=", ">:(", ">:-("]),
    ("meh", &[":/", ":-/", ":\\", ":-\\", "=/", "=\\", ":|", ":-|", "-_-", ">.<"]),
];

/// Emoji and their words; any other emoji is a word itself.
const EMOJI: [(&str, &str); 11] = [
    ("haha", "😂🤣😆😹"),
    ("happy", "😀😃😄😁😊🙂☺😇🤗😎😺"),
    ("love", "❤♥💕💖💗💓💞💘💙💚💛💜🖤🧡😍😘🥰😻"),
    ("great", "👍👏🙌💪👌"),
    ("yay", "🎉🎊🥳"),
    ("crying", "😢😭😿"),
    ("sad", "☹🙁😞😔😟😥😩😫😣😖😕😓"),
    ("heartbroken", "💔"),
    ("angry", "😡😠🤬👿🖕"),
    ("annoyed", "🙄😒😤"),
    ("bad", "👎🤮🤢"),
];

struct Scan<'a> {
    rest: &'a str,
    words: Vec<String>,
    /// The bytes of each word, counted from the beginning of the text.
    places: Vec<Range<usize>>,
    words_max: usize,
}

impl Scan<'_> {
    fn run(&mut self) {
        let mut before = ' ';
        let mut at = 0;
        while self.words.len() < self.words_max {
            let Some(c) = self.rest.chars().next() else { break };
            let length = if c.is_whitespace() { c.len_utf8() } else { self.token(c, before) };
            before = self.rest[..length].chars().next_back().unwrap_or(' ');
            self.rest = &self.rest[length..];
            self.places.resize(self.words.len(), at..at + length);
            at += length;
        }
        self.words.truncate(self.words_max);
        self.places.truncate(self.words_max);
    }

    /// Reads the token that starts with `c`; returns its length in bytes.
    fn token(&mut self, c: char, before: char) -> usize {
        let fresh = !is_word(before);
        if fresh && matches!(c, 'h' | 'H' | 'w' | 'W') {
            let head: String = self.rest.chars().take(8).collect::<String>().to_lowercase();
            if link_length(&head).is_some() {
                self.push("<url>");
                return self.rest.find(char::is_whitespace).unwrap_or(self.rest.len());
            }
        }
        if let Some((length, word)) = emoticon(self.rest, fresh) {
            self.push(word);
            return length;
        }
        if is_word(c) {
            return self.word();
        }
        match c {
            '@' if fresh => {
                let length = 1 + name_length(&self.rest[1..]);
                if length > 1 {
                    self.push("<user>");
                }
                length
            }
            '#' => {
                let length = 1 + name_length(&self.rest[1..]);
                let tag = &self.rest[1..length];
                for part in hashtag_words(tag) {
                    self.push_word(&part);
                }
                length
            }
            '!' | '?' | '.' => {
                let length = self.rest.len() - self.rest.trim_start_matches(c).len();
                match (c, length) {
                    ('!', 1) => self.push("!"),
                    ('!', _) => self.push("!!"),
                    ('?', 1) => self.push("?"),
                    ('?', _) => self.push("??"),
                    (_, 1) => {}
                    _ => self.push("..."),
                }
                length
            }
            '\u{2026}' => {
                self.push("...");
                c.len_utf8()
            }
            _ if is_emoji(c) => {
                let word = EMOJI.iter().find(|(_, emoji)| emoji.contains(c)).map(|(word, _)| *word);
                self.push(word.unwrap_or(c.encode_utf8(&mut [0; 4])));
                c.len_utf8()
            }
            _ => c.len_utf8(),
        }
    }

    /// A word with its inner apostrophes, or a number with its inner dots and commas.
    fn word(&mut self) -> usize {
        let mut end = 0;
        let mut chars = self.rest.char_indices().peekable();
        let mut digits_only = true;
        while let Some((at, c)) = chars.next() {
            let next = chars.peek().map(|(_, next)| *next);
            let inner = match c {
                '\'' => next.is_some_and(char::is_alphabetic),
                '.' | ',' | ':' => digits_only && next.is_some_and(|next| next.is_ascii_digit()),
                _ => is_word(c),
            };
            if !inner {
                break;
            }
            digits_only &= !(c.is_alphabetic() || c == '_' || c == '\'');
            end = at + c.len_utf8();
        }
        if digits_only {
            self.push("<number>");
        } else {
            let word = self.rest[..end].trim_matches('_').to_owned();
            self.push_word(&word);
        }
        end
    }

    /// Pushes a word in lower case. Limits and marks repeated letters.
    fn push_word(&mut self, word: &str) {
        let mut kept = String::with_capacity(word.len());
        let mut elongated = false;
        let (mut last, mut run, mut count) = ('\0', 0, 0);
        for c in word.chars().flat_map(char::to_lowercase) {
            run = if c == last { run + 1 } else { 1 };
            last = c;
            if run > REPEATS_MAX && c.is_alphabetic() {
                elongated = true;
                continue;
            }
            if count == WORD_CHARS_MAX {
                break;
            }
            kept.push(c);
            count += 1;
        }
        if kept.is_empty() {
            return;
        }
        if kept.chars().all(|c| c.is_ascii_digit()) {
            self.push("<number>");
            return;
        }
        self.words.push(kept);
        if elongated {
            self.push("<long>");
        }
    }

    fn push(&mut self, word: &str) {
        self.words.push(word.to_owned());
    }
}

/// The longest emoticon at the beginning of `text`: its length in bytes, and its word.
/// `fresh` means that no letter precedes it.
fn emoticon(text: &str, fresh: bool) -> Option<(usize, &'static str)> {
    // Every emoticon begins with one of these, so most characters end here.
    if !text.starts_with([':', ';', '=', '(', ')', '<', '>', '^', '-', 't', 'T', 'x', 'X']) {
        return None;
    }
    let mut best: Option<(usize, &'static str)> = None;
    for (word, forms) in EMOTICONS {
        for form in forms {
            let longer = best.is_none_or(|(length, _)| form.len() > length);
            let same = text.get(..form.len()).is_some_and(|head| head.eq_ignore_ascii_case(form));
            if longer && same && has_boundaries(form, fresh, &text[form.len()..]) {
                best = Some((form.len(), word));
            }
        }
    }
    // ":)))))" is one emoticon.
    best.map(|(length, word)| {
        let (form, after) = text.split_at(length);
        let last = form.chars().next_back().filter(char::is_ascii_punctuation);
        let more = last.map_or(0, |last| after.len() - after.trim_start_matches(last).len());
        (length + more, word)
    })
}

/// Whether `form` is an emoticon here: ":d" in ":day" and ":/" in "://" are not. An end that
/// is a letter or digit must not be next to another one, but "thanks:)" has an emoticon.
fn has_boundaries(form: &str, fresh: bool, after: &str) -> bool {
    let lettered = |c: char| c.is_ascii_alphanumeric();
    let next = after.chars().next();
    let opens = fresh || !form.starts_with(lettered);
    let closes = if form.ends_with(lettered) {
        !next.is_some_and(is_word)
    } else {
        !(form.ends_with('/') && next == Some('/'))
    };
    opens && closes
}

/// Length in bytes of the handle or hashtag name at the beginning of `text`.
fn name_length(text: &str) -> usize {
    text.find(|c| !is_word(c)).unwrap_or(text.len())
}

/// `FlyAway2day_now` to "Fly", "Away2day", "now": splits at underscores and where a
/// capital follows a lower-case letter.
fn hashtag_words(tag: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut last = '_';
    for c in tag.chars() {
        if c == '_' || (c.is_uppercase() && last.is_lowercase()) {
            parts.push(String::new());
        }
        if c != '_' {
            parts.last_mut().expect("there is one part from the start").push(c);
        }
        last = c;
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Pictographs and symbols, but not modifiers and joiners.
fn is_emoji(c: char) -> bool {
    !is_selector(c)
        && matches!(c,
            '\u{1F300}'..='\u{1F3FA}' | '\u{1F400}'..='\u{1FAFF}' | '\u{2600}'..='\u{27BF}'
            | '\u{2B50}' | '\u{2B55}' | '\u{2049}' | '\u{203C}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, text: &str, expected: &str) {
        assert_eq!(words(&SourceText::new(text), 100).join(" "), expected, "{name}");
    }

    #[test]
    fn words_of_tweets() {
        check("plain", "I Love this", "i love this");
        check("negation", "I don't, can’t WON'T", "i don't can't won't");
        check("quotes are removed", "'hello' \"you\"", "hello you");
        check("handle", "@united you rock", "<user> you rock");
        check("handle with punctuation", "cc:@united, hi", "cc <user> hi");
        check("an address is not a handle", "a@b.com", "a b com");
        check("link", "see http://t.co/Ab1 now", "see <url> now");
        check("link in capitals", "HTTPS://X.COM", "<url>");
        check("no link", "http w", "http w");
        check("bare www", "www.x.com yes", "<url> yes");
        check("numbers", "3 of 1,000.50 at 10:30", "<number> of <number> at <number>");
        check("letters and digits", "gr8 b4 2day", "gr8 b4 2day");
        check("elongated", "soooo goooood", "soo <long> good <long>");
        check("exclamation", "no! NO!!! why? what?!", "no ! no !! why ? what ? !");
        check("dots", "well... ok. hm\u{2026}", "well ... ok hm ...");
        check("hashtag", "#fail #FlyAway #so_bad #2016", "fail fly away so bad <number>");
        check("entities", "I &lt;3 you &amp; me &quot;hm&quot;", "i love you me hm");
        check("broken heart", "&lt;/3", "heartbroken");
        check("emoji", "well😂😂 ❤️ 👍🏽", "well haha haha love great");
        check("other emoji", "a 🍕 \u{1F468}\u{200D}\u{1F4BB}", "a 🍕 👨 💻");
        check("accents", "CAFÉ cafe\u{301} naïve", "café café naïve");
        check("other scripts", "最悪 привет", "最悪 привет");
        check("NUL", "a\0b", "a b");
        check("nothing", " \t\n", "");
        check("punctuation only", ",;-", "");
        check("underscores only", "___", "");
    }

    #[test]
    fn every_emoticon_is_found() {
        for (word, forms) in EMOTICONS {
            for form in forms {
                for text in [(*form).to_owned(), form.to_uppercase()] {
                    assert_eq!(emoticon(&text, true), Some((form.len(), word)), "{text}");
                }
            }
        }
    }

    #[test]
    fn emoticons() {
        check("smiles", "yay :) :-) =) :]", "yay happy happy happy happy");
        check("repeated mouth", "yay :))))", "yay happy");
        check("laugh", "funny :D xD", "funny haha haha");
        check("no laugh", "xdrive note:day", "xdrive note day");
        check("tears", "lost :'( :-(", "lost crying sad");
        check("shrug", "meh :/ -_-", "meh meh meh");
        check("touching a word", "thanks:) bye<3", "thanks happy bye love");
        check("in brackets", "(no :( )", "no sad");
        check("not an emoticon", "a://b and: (c)", "a b and c");
    }

    #[test]
    fn work_is_bounded() {
        let long = "ab".repeat(500_000);
        let words = |text: &str, words_max| words(&SourceText::new(text), words_max);
        let found = words(&long, 40);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].chars().count(), WORD_CHARS_MAX);
        assert_eq!(words(&"no ".repeat(300_000), 40).len(), 40);
        assert_eq!(words("a b c", 2), ["a", "b"]);
    }
}
