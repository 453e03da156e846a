//! Splits a text into the units that a reader sees: words, hashtags, mentions, links.
//!
//! The presets produce the input of models and replace links by a placeholder; here a link stays
//! a link. Scripts written without spaces have no visible word boundaries, so each of their
//! characters is a token; n-grams of those replace words, as in Lucene's `CJKAnalyzer`.
//!
//! **Invariant.** Pure, and linear in the length of the text. Reads [`TOKEN_BYTES`] for each
//! requested token, and at most [`TEXT_BYTES_MAX`]. Deliberately absent: stop words,
//! stemming, emoji.

use super::{TEXT_BYTES_MAX, beginning, canonical, is_word};

/// A word or a link keeps this many characters.
const TOKEN_CHARS_MAX: usize = 64;

/// Bytes of text that are read for each requested token; words have six, links more.
const TOKEN_BYTES: usize = 16;

/// The kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TokenKind {
    /// A word or number, in lower case, without a closing "'s".
    Word,
    /// One character of a script without spaces: Chinese, Japanese, Thai and the like.
    Character,
    /// A hashtag with its `#`, in lower case.
    Hashtag,
    /// A mention with its `@`, in lower case.
    Mention,
    /// A link without scheme, `www.`, fragment and tracking parameters; the host in lower case.
    Link,
    /// Punctuation, emoji or a line's end: a phrase does not cross it.
    Break,
}

/// A piece of a text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Token {
    /// Its kind.
    pub kind: TokenKind,
    /// Its normalized text; empty for a break.
    pub text: String,
}

/// The first tokens of `text`, at most `tokens_max`. A break never comes first and never
/// follows another.
pub fn tokens(text: &str, tokens_max: usize) -> Vec<Token> {
    let text = beginning(text, TEXT_BYTES_MAX.min(tokens_max.saturating_mul(TOKEN_BYTES)));
    let text: String = canonical(text).chars().filter(|c| !is_invisible(*c)).collect();
    let mut found: Vec<Token> = Vec::new();
    let (mut rest, mut before) = (text.as_str(), ' ');
    while let Some(c) = rest.chars().next() {
        let (length, token) = next(rest, c, before);
        if let Some((kind, text)) = token {
            let again = kind == TokenKind::Break
                && found.last().is_none_or(|last| last.kind == TokenKind::Break);
            if found.len() == tokens_max {
                break;
            }
            if !again {
                found.push(Token { kind, text });
            }
        }
        before = rest[..length].chars().next_back().unwrap_or(' ');
        rest = &rest[length..];
    }
    found
}

/// Length in bytes of the token that starts with `c`, and the token, if any.
fn next(rest: &str, c: char, before: char) -> (usize, Option<(TokenKind, String)>) {
    let fresh = !is_word(before) || is_unspaced(before);
    if fresh && let Some((length, link)) = link(rest) {
        return (
            length,
            Some((if link.is_empty() { TokenKind::Break } else { TokenKind::Link }, link)),
        );
    }
    if is_unspaced(c) {
        let marks = rest[c.len_utf8()..].find(|c| !is_mark(c)).unwrap_or(rest.len() - c.len_utf8());
        let length = c.len_utf8() + marks;
        return (length, Some((TokenKind::Character, shortened(&rest[..length]))));
    }
    if matches!(c, '@' | '#') && fresh {
        let name = &rest[1..];
        let length = name.find(|c| !is_word(c)).unwrap_or(name.len());
        if name[..length].chars().any(char::is_alphabetic) {
            let kind = if c == '@' { TokenKind::Mention } else { TokenKind::Hashtag };
            return (1 + length, Some((kind, shortened(&rest[..=length]))));
        }
    }
    if is_word(c) {
        let length = word_length(rest);
        let word = shortened(rest[..length].trim_matches('_'));
        let word = word.strip_suffix("'s").unwrap_or(&word).to_owned();
        return (length, (!word.is_empty()).then_some((TokenKind::Word, word)));
    }
    let blank = c.is_whitespace() && c != '\n';
    (c.len_utf8(), (!blank).then(|| (TokenKind::Break, String::new())))
}

/// A word with its inner apostrophes, or a number with its inner dots and commas.
fn word_length(text: &str) -> usize {
    let mut before = ' ';
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map_or(' ', |(_, next)| *next);
        let inner = match c {
            '\'' => next.is_alphabetic(),
            '.' | ',' | ':' => before.is_ascii_digit() && next.is_ascii_digit(),
            _ => is_word(c) && !is_unspaced(c),
        };
        if !inner {
            return at;
        }
        before = c;
    }
    text.len()
}

/// The link at the beginning of `text`: its length in bytes and its normal form, which is
/// empty for a truncated link.
fn link(text: &str) -> Option<(usize, String)> {
    let head =
        |start: &str| text.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start));
    let scheme = ["https://", "http://"].into_iter().find(|scheme| head(scheme));
    if scheme.is_none() && !head("www.") {
        return None;
    }
    let length = text.find(|c: char| c.is_whitespace() || !c.is_ascii()).unwrap_or(text.len());
    if text[length..].starts_with('\u{2026}') {
        return Some((length, String::new()));
    }
    let whole = text[scheme.map_or(0, str::len)..length]
        .trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']', '"', '\'', '>']);
    let whole = whole.split('#').next().unwrap_or(whole);
    let (place, query) = whole.split_once('?').unwrap_or((whole, ""));
    let (host, path) = place.split_once('/').unwrap_or((place, ""));
    let host = host.to_lowercase();
    let host = host.strip_prefix("www.").unwrap_or(&host);
    if !host.contains('.') {
        return Some((length, String::new()));
    }
    let path = path.trim_end_matches('/');
    let kept: Vec<_> =
        query.split('&').filter(|pair| !pair.is_empty() && !is_tracking(pair)).collect();
    let mut link = host.to_owned();
    for (sign, part) in [("/", path), ("?", &kept.join("&"))] {
        if !part.is_empty() {
            link.push_str(sign);
            link.push_str(part);
        }
    }
    Some((length, link))
}

/// Parameters that track the reader and do not change the page.
fn is_tracking(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap_or(pair).to_ascii_lowercase();
    name.starts_with("utm_")
        || matches!(&*name, "fbclid" | "gclid" | "igshid" | "mc_cid" | "mc_eid" | "ref" | "ref_src")
}

/// Lower case, cut to [`TOKEN_CHARS_MAX`].
fn shortened(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).take(TOKEN_CHARS_MAX).collect()
}

fn is_mark(c: char) -> bool {
    unicode_normalization::char::is_combining_mark(c)
}

/// Zero-width characters, soft hyphens and direction marks, which a reader does not see.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{AD}' | '\u{61C}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

/// Letters of scripts without spaces between words. Katakana is not among them: a run of it is
/// mostly a single word.
fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{E01}'..='\u{EDF}' | '\u{1000}'..='\u{109F}' | '\u{1780}'..='\u{17DD}'
        | '\u{3041}'..='\u{309F}' | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}'
        | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{323AF}')
        && c.is_alphabetic()
        && !is_mark(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_texts_into_tokens() {
        let check = |name: &str, text: &str, expected: &str| {
            let found: Vec<_> = tokens(text, 100)
                .into_iter()
                .map(|token| if token.kind == TokenKind::Break { "|".into() } else { token.text })
                .collect();
            assert_eq!(found.join(" "), expected, "{name}");
        };
        check("words", "Cancelled  FLIGHT", "cancelled flight");
        check("punctuation is one break", "late!!! again... #fail", "late | again | #fail");
        check("apostrophes", "that’s the crew's don't", "that the crew don't");
        check("numbers", "2.5 hours, 1,000 people at 6:40", "2.5 hours | 1,000 people at 6:40");
        check("entities", "AT&amp;T", "at | t");
        check("mention and address", "@JetBlue mail a@b.c", "@jetblue mail a | b | c");
        check("hashtag, not number", "#FlyAway #1", "#flyaway | 1");
        check("zero width", "flig\u{200B}ht \u{202E}delayed", "flight delayed");
        check("emoji break", "late😡bag", "late | bag");
        check("Chinese", "航班取消了", "航 班 取 消 了");
        check("Japanese", "キャンセルした", "キャンセル し た");
        check("Hebrew", "הטיסה בוטלה", "הטיסה בוטלה");
        check("Thai, marks kept", "ไม่ดี", "ไ ม\u{e48} ด\u{e35}");
        check("Hindi, marks kept", "उड़ान रद्द", "उड\u{93c}ान रद्द");
        check("nothing", " \u{200B}\n", "");
    }

    #[test]
    fn links_are_normalized() {
        let check = |name: &str, text: &str, expected: &str| {
            let found = tokens(text, 100);
            let found = found.iter().find(|token| token.kind == TokenKind::Link);
            assert_eq!(found.map_or("", |token| &token.text), expected, "{name}");
        };
        check("plain", "see http://t.co/AbC now", "t.co/AbC");
        check("case of the host", "HTTPS://WWW.BBC.com/News/", "bbc.com/News");
        check("tracking", "https://a.com/x?utm_source=t&id=7&fbclid=9#top", "a.com/x?id=7");
        check("only tracking", "https://a.com/?utm_source=t", "a.com");
        check("punctuation after it", "(www.a.com/x).", "a.com/x");
        check("Chinese after it", "看http://a.com/x航班", "a.com/x");
        check("cut short", "see http://t.co/Ab…", "");
        check("no host", "http://x", "");
        check("no link", "shttp://a.com", "");
    }

    #[test]
    fn long_texts_are_bounded() {
        assert_eq!(tokens(&"late ".repeat(10_000), 7).len(), 7);
        assert_eq!(tokens(&"x".repeat(50_000), 70)[0].text.len(), TOKEN_CHARS_MAX);
    }
}
