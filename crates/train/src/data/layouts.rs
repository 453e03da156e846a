//! The layouts of labelled files: detects the layout and reads a row of it.
//!
//! **Invariant.** A row is read completely or rejected with its [`Fault`]; no column is
//! guessed. Deliberately absent: cleaning of texts beyond what the layout added (quotes,
//! escapes); `monitor_core::text` does that.

use chrono::{DateTime, Utc};

use monitor_core::domain::Label;

use super::labels::{self, Numbers};
use super::{Fields, ROW_BYTES_MAX, Row, RowEnd, RowSet};

/// Characters of a text at most: a longer one is several rows joined by a missing quote.
const TEXT_CHARS_MAX: usize = 2_000;
/// Columns of a row with a topic before the label.
const SEMEVAL_TOPIC_COLUMNS: usize = 4;
/// Accepted names of the columns of a CSV, in lower case; the first one that exists is used.
const LABEL_NAMES: [&str; 5] = ["label", "sentiment", "target", "airline_sentiment", "polarity"];
const TEXT_NAMES: [&str; 2] = ["text", "tweet"];
const USER_NAMES: [&str; 2] = ["user", "name"];
const DATE_NAMES: [&str; 3] = ["date", "created_at", "tweet_created"];
/// The column that says to which set a row belongs.
const SET_NAMES: [&str; 1] = ["split"];

/// How a file of labelled tweets is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// Six quoted columns without a header, in Latin-1, one row per line: target (0 negative,
    /// 2 neutral, 4 positive), id, date, query, user, text (Go, Bhayani and Huang 2009).
    #[default]
    Sentiment140,
    /// Columns named in a header, in UTF-8 or Windows-1252.
    Csv,
    /// Columns named in a header, with tabs between, in UTF-8 or Windows-1252; a row is a line.
    Tsv,
    /// Tab-separated id, label, text, in UTF-8 or Windows-1252 (SemEval 2013 to 2017, Task 4 A); a fourth
    /// column, empty or a date, may follow, or a topic stand before the label (Task 4 B to D).
    SemEval,
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sentiment140 => "sentiment140",
            Self::Csv => "a CSV with a header",
            Self::Tsv => "a TSV with a header",
            Self::SemEval => "SemEval",
        })
    }
}

impl Layout {
    /// Describes its rows, for error messages.
    pub(super) fn rows(self) -> &'static str {
        match self {
            Self::Sentiment140 => {
                r#""0","id","date","query","user","text" with 0, 2 or 4 in front, in Latin-1"#
            }
            Self::Csv | Self::Tsv => {
                "under a header with the columns label (or sentiment, target, airline_sentiment, \
                 polarity) and text (or tweet), in UTF-8, labels such as negative, neutral, \
                 positive or 0, 1 or -1, 0, 1 or 0, 2, 4"
            }
            Self::SemEval => "id, label, text with tabs between, in UTF-8",
        }
    }
}

/// Why a row is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Too few columns, or too many.
    Columns,
    /// A missing quote, or one too many.
    Quote,
    /// An unknown label.
    Label,
    /// No text.
    NoText,
    /// A text longer than any tweet.
    Long,
    /// Damaged UTF-8.
    Encoding,
    /// The tweet was deleted before the file was made ("Not Available"); not counted as malformed.
    Unavailable,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Columns => "wrong number of columns",
            Self::Quote => "a quote missing or too many",
            Self::Label => "unknown label",
            Self::NoText => "no text",
            Self::Long => "text too long",
            Self::Encoding => "damaged UTF-8",
            Self::Unavailable => "tweet not available",
        })
    }
}

/// Positions of the columns of a CSV.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Columns {
    /// Whether tabs are between them.
    tabs: bool,
    count: usize,
    pub(super) label: usize,
    text: usize,
    user: Option<usize>,
    date: Option<usize>,
    set: Option<usize>,
}

/// A layout with its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Sentiment140,
    Csv(Columns, Numbers),
    SemEval,
}

impl Format {
    /// Finds the layout by a file's first lines: a header with label and text, else the layout
    /// that fits more lines. `None` if none fits.
    pub(super) fn find(lines: &[&[u8]]) -> Option<Self> {
        let header = lines.first()?;
        if let Some(columns) =
            [false, true].into_iter().find_map(|tabs| Columns::find(tabs, header))
        {
            return Some(Self::Csv(columns, Numbers::ZeroOne));
        }
        let mut fields = Fields::default();
        let mut fit = |format: Self| {
            lines.iter().filter(|line| format.row(&mut fields, line).is_ok()).count()
        };
        let (sentiment140, semeval) = (fit(Self::Sentiment140), fit(Self::SemEval));
        match sentiment140.max(semeval) {
            0 => None,
            most if most == sentiment140 => Some(Self::Sentiment140),
            _ => Some(Self::SemEval),
        }
    }

    pub(super) fn layout(self) -> Layout {
        match self {
            Self::Sentiment140 => Layout::Sentiment140,
            Self::Csv(Columns { tabs: true, .. }, _) => Layout::Tsv,
            Self::Csv(..) => Layout::Csv,
            Self::SemEval => Layout::SemEval,
        }
    }

    /// Where a row ends.
    pub(super) fn ends(self) -> RowEnd {
        match self {
            Self::Sentiment140 => RowEnd::QuotedLine,
            Self::Csv(Columns { tabs: false, .. }, _) => RowEnd::ClosedQuotes,
            Self::Csv(..) | Self::SemEval => RowEnd::Line,
        }
    }

    /// What cuts its rows into columns.
    pub(super) fn fields(self) -> Fields {
        match self {
            Self::Csv(columns, _) => columns.fields(),
            Self::Sentiment140 | Self::SemEval => Fields::default(),
        }
    }

    /// Whether the second of these columns is a topic: the label follows it.
    pub(super) fn has_topic(self, columns: &[&str]) -> bool {
        self == Self::SemEval
            && columns.len() == SEMEVAL_TOPIC_COLUMNS
            && Label::of_word(columns[2].trim()).is_some()
    }

    /// Reads a row.
    pub(super) fn row(self, fields: &mut Fields, record: &[u8]) -> Result<Row, Fault> {
        if record.len() > ROW_BYTES_MAX {
            return Err(Fault::Long);
        }
        match self {
            Self::Sentiment140 => sentiment140(fields, record),
            Self::Csv(columns, numbers) => csv(fields, record, columns, numbers),
            Self::SemEval => semeval(record),
        }
    }
}

fn sentiment140(fields: &mut Fields, record: &[u8]) -> Result<Row, Fault> {
    if fields.split(record) != 6 {
        return Err(Fault::Columns);
    }
    let label = match fields.get(0).trim_ascii() {
        b"0" => Label::Negative,
        b"2" => Label::Neutral,
        b"4" => Label::Positive,
        _ => return Err(Fault::Label),
    };
    Ok(Row {
        user: latin1(fields.get(4).trim_ascii()),
        created_at: std::str::from_utf8(fields.get(2)).ok().and_then(time),
        ..Row::new(label, checked(latin1(fields.get(5)))?)
    })
}

fn csv(
    fields: &mut Fields,
    record: &[u8],
    columns: Columns,
    numbers: Numbers,
) -> Result<Row, Fault> {
    if fields.split(record) != columns.count {
        return Err(Fault::Columns);
    }
    let text = |column: usize| std::str::from_utf8(fields.get(column)).map_err(|_| Fault::Encoding);
    let word = text(columns.label)?.trim();
    let label = Label::of_word(word)
        .or_else(|| numbers.label(labels::number(word)?))
        .ok_or(Fault::Label)?;
    Ok(Row {
        user: columns.user.map_or(Ok(""), text)?.trim().to_owned(),
        created_at: columns.date.map(text).transpose()?.and_then(time),
        set: columns.set.map(text).transpose()?.and_then(RowSet::of_word),
        ..Row::new(label, checked(text(columns.text)?.to_owned())?)
    })
}

fn semeval(record: &[u8]) -> Result<Row, Fault> {
    let record = std::str::from_utf8(record).map_err(|_| Fault::Encoding)?;
    let columns: Vec<&str> = record.trim_end_matches(['\r', '\n']).split('\t').collect();
    let (label, text, date) = match columns[..] {
        [_, label, text] => (label, text, ""),
        [_, _topic, label, text] if Format::SemEval.has_topic(&columns) => (label, text, ""),
        [_, label, text, date] => (label, text, date),
        _ => return Err(Fault::Columns),
    };
    let label = Label::of_word(label.trim()).ok_or(Fault::Label)?;
    let text = decode_escapes(&without_quotes(text.trim()));
    if text == "Not Available" {
        return Err(Fault::Unavailable);
    }
    Ok(Row { created_at: time(date), ..Row::new(label, checked(text)?) })
}

fn checked(text: String) -> Result<String, Fault> {
    if text.trim().is_empty() {
        Err(Fault::NoText)
    } else if text.len() > TEXT_CHARS_MAX && text.chars().count() > TEXT_CHARS_MAX {
        Err(Fault::Long)
    } else {
        Ok(text)
    }
}

/// sentiment140 is documented as Latin-1, where a byte is its character's number, but most of its
/// non-ASCII tweets are UTF-8 (2,006 of 2,329 in 249,010 rows), as are tweets to be scored.
/// Latin-1 letters are hardly ever valid UTF-8 by chance.
fn latin1(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes)
        .map_or_else(|_| bytes.iter().map(|byte| char::from(*byte)).collect(), str::to_owned)
}

/// Removes the quotes that SemEval's files put around some texts (around a few, only one). Quotes
/// inside such a text are doubled, some twice, some after a backslash.
fn without_quotes(text: &str) -> String {
    let doubled =
        |text: &str| text.split(|c| c != '"').all(|quotes| quotes.len().is_multiple_of(2));
    let open = text.strip_prefix('"');
    let inner = open
        .and_then(|text| text.strip_suffix('"'))
        .filter(|text| doubled(text))
        .or_else(|| open.or_else(|| text.strip_suffix('"')).filter(|text| doubled(text)));
    inner.map_or_else(
        || text.to_owned(),
        |inner| inner.replace("\"\"\"\"", "\"").replace("\"\"", "\"").replace("\\\"", "\""),
    )
}

/// Decodes Python escapes such as `\u2019`; other backslashes are text (`\m/`).
fn decode_escapes(text: &str) -> String {
    if !text.contains("\\u") {
        return text.to_owned();
    }
    let (mut out, mut units, mut rest) = (String::with_capacity(text.len()), Vec::new(), text);
    while !rest.is_empty() {
        let unit = rest
            .strip_prefix("\\u")
            .and_then(|digits| digits.get(..4))
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|digits| u16::from_str_radix(digits, 16).ok());
        let length = if let Some(unit) = unit {
            units.push(unit);
            6
        } else {
            // Characters beyond the Basic Multilingual Plane are two UTF-16 units.
            out.push_str(&String::from_utf16_lossy(&units));
            units.clear();
            let length = 1 + rest[1..].find('\\').unwrap_or(rest.len() - 1);
            out.push_str(&rest[..length]);
            length
        };
        rest = &rest[length..];
    }
    out + &String::from_utf16_lossy(&units)
}

/// Reads `Mon Apr 06 22:19:45 PDT 2009` (also PST, UTC, GMT and `+0000`), RFC 3339 and
/// `2015-02-24 11:35:52 -0800`; `None` for anything else, such as a time without a known zone.
fn time(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let zones =
        [(" PDT ", " -0700 "), (" PST ", " -0800 "), (" UTC ", " +0000 "), (" GMT ", " +0000 ")];
    let named = zones.iter().find(|(name, _)| text.contains(name));
    let spelt = named.map_or_else(|| text.into(), |(name, offset)| text.replace(name, offset));
    DateTime::parse_from_str(&spelt, "%a %b %d %H:%M:%S %z %Y")
        .or_else(|_| DateTime::parse_from_str(&spelt, "%Y-%m-%d %H:%M:%S %z"))
        .or_else(|_| DateTime::parse_from_rfc3339(&spelt))
        .ok()
        .map(|at| at.with_timezone(&Utc))
}

/// The names in the header of a CSV, as written.
fn header_names(fields: &mut Fields, header: &[u8]) -> Vec<String> {
    let count = fields.split(header);
    (0..count)
        .map(|column| String::from_utf8_lossy(fields.get(column)).into_owned())
        .map(|name| name.trim_matches([' ', '"', '\r', '\n']).to_owned())
        .collect()
}

impl Columns {
    /// All names in `header`, as written.
    pub(super) fn names(self, header: &[u8]) -> Vec<String> {
        header_names(&mut self.fields(), header)
    }

    /// What cuts a row into them.
    pub(super) fn fields(self) -> Fields {
        if self.tabs { Fields::of_tabs() } else { Fields::default() }
    }

    pub(super) fn is_label_or_text(self, column: usize) -> bool {
        column == self.label || column == self.text
    }

    fn find(tabs: bool, header: &[u8]) -> Option<Self> {
        let mut fields = if tabs { Fields::of_tabs() } else { Fields::default() };
        let names = header_names(&mut fields, header).into_iter().map(|name| name.to_lowercase());
        let names: Vec<String> = names.collect();
        let count = names.len();
        let find = |wanted: &[&str]| {
            wanted.iter().find_map(|wanted| names.iter().position(|name| name == wanted))
        };
        Some(Self {
            tabs,
            count,
            label: find(&LABEL_NAMES)?,
            text: find(&TEXT_NAMES)?,
            user: find(&USER_NAMES),
            date: find(&DATE_NAMES),
            set: find(&SET_NAMES),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_layout() {
        let check = |name: &str, head: &str, expected: Option<Layout>| {
            let lines: Vec<&[u8]> = head.lines().map(str::as_bytes).collect();
            assert_eq!(Format::find(&lines).map(Format::layout), expected, "{name}");
        };
        let tweet = "\"4\",\"1\",\"d\",\"q\",\"u\",\"hi, you\"";
        check("sentiment140", tweet, Some(Layout::Sentiment140));
        check("after a bad line", &format!("oops\n{tweet}"), Some(Layout::Sentiment140));
        check("a header", "text,label", Some(Layout::Csv));
        check("in any case and quoted", "id, \"Sentiment\",Tweet", Some(Layout::Csv));
        check("a header of sentiment140", "target,ids,date,flag,user,text", Some(Layout::Csv));
        check("tabs", "split\tlabel\ttext", Some(Layout::Tsv));
        check("SemEval", "1\tneutral\thi", Some(Layout::SemEval));
        check("SemEval with a fourth column", "1\tneutral\thi\t", Some(Layout::SemEval));
        check("a header without a text", "label,words", None);
        check("five columns", "\"4\",\"1\",\"d\",\"q\",\"u\"", None);
        check("nothing", "", None);
    }

    #[test]
    fn times_with_a_known_zone() {
        let check = |text: &str, expected: Option<&str>| {
            let found = time(text).map(|at| at.to_rfc3339());
            assert_eq!(found.as_deref(), expected, "{text}");
        };
        check("Mon Apr 06 22:19:45 PDT 2009", Some("2009-04-07T05:19:45+00:00"));
        check("Thu Jan 01 00:00:00 PST 2009", Some("2009-01-01T08:00:00+00:00"));
        check("Mon May 11 03:17:40 UTC 2009", Some("2009-05-11T03:17:40+00:00"));
        check("Wed Jul 29 12:01:22 +0000 2015", Some("2015-07-29T12:01:22+00:00"));
        check("2015-02-24 11:35:52 -0800", Some("2015-02-24T19:35:52+00:00"));
        check("2015-02-24T19:35:52Z", Some("2015-02-24T19:35:52+00:00"));
        check("Mon May 11 03:17:40 CEST 2009", None);
        check("2015-02-24 11:35:52", None);
        check("", None);
    }

    #[test]
    fn quotes_and_escapes_of_semeval() {
        let check = |text: &str, expected: &str| {
            assert_eq!(decode_escapes(&without_quotes(text)), expected, "{text}");
        };
        check("plain", "plain");
        check(r#""wrapped, whole""#, "wrapped, whole");
        check(r#""he said: \""Yeah\u002c I\u2019d""#, "he said: \"Yeah, I’d");
        check(r#""\""quoted\"" all""#, "\"quoted\" all");
        check(r#""known as """"Cain Day."""" #SF""#, "known as \"Cain Day.\" #SF");
        check(r#""ex: ""Just found out"" ""#, r#"ex: "Just found out" "#);
        check(r#""only in front"#, "only in front");
        check(r#"only behind""#, "only behind");
        check(r#""a" and "b""#, r#""a" and "b""#);
        check(r#""a" and so on"#, r#""a" and so on"#);
        check(r"see you \m/ \u12", r"see you \m/ \u12");
        check(r"\ud83d\ude00!", "😀!");
        check("\"", "");
    }
}
