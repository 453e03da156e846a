//! Reads published word embeddings: GloVe (Pennington et al. 2014), word2vec
//! (Mikolov et al. 2013), fastText (Bojanowski et al. 2017).
//!
//! Three layouts, detected from the beginning of the file, packed (see [`packed`]) or plain:
//! - GloVe text: a word and its numbers per line, no header. Some releases have words with
//!   spaces (". . ."), so the numbers are the last fields of a line;
//! - word2vec text and fastText `.vec`: the same after a line "count width";
//! - word2vec binary: that line, then for each word its bytes, a space, and the numbers as
//!   little-endian single precision.
//!
//! A wanted word gets the vector of its exact spelling; else of its lower case ("Good" finds
//! "good"); else of the first other case ("paris" finds "Paris"). If a word occurs twice, the
//! first vector counts.
//!
//! **Invariant.** Every row is checked, kept or not; memory is bounded by the wanted words,
//! not by the file. Deliberately absent: fastText's `.bin` with its subwords; scaling of the
//! numbers.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use monitor_core::format::percent_tenths;

use super::{file_name, packed};
use crate::progress::Progress;

/// Bytes used to detect the layout; the first line must fit.
const HEAD_BYTES: u64 = 256 * 1024;
/// Longest line.
const LINE_BYTES_MAX: u64 = 1024 * 1024;
/// Most numbers of a word; the largest embeddings in use have 4,096.
const WIDTHS: std::ops::RangeInclusive<u64> = 2..=10_000;
/// Largest number that fp16 represents, in which models are stored; real vectors stay below 100.
const NUMBER_MAX: f32 = 65_504.0;
/// Most words of a file; the largest in use has 9 million.
const COUNTS: std::ops::RangeInclusive<u64> = 1..=100_000_000;
/// A file with a larger share of control characters at its beginning is binary.
const CONTROL_SHARE_MAX: f64 = 0.01;
/// Missing words that are listed.
const MISSING_NAMED_MAX: usize = 20;

/// The vectors of the wanted words.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// Numbers of a word.
    pub width: usize,
    /// Words in the file, wanted or not.
    pub words_read: usize,
    /// SHA-256 of the stored file.
    pub sha256: String,
    vectors: HashMap<String, Vec<f32>>,
}

/// How much of a vocabulary has a vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Coverage {
    /// Share of the words, each counted once.
    pub types: f64,
    /// Share of the words, each counted as often as it occurs.
    pub tokens: f64,
    /// The most frequent words without a vector, 20 at most, with their counts.
    pub missing: Vec<(String, usize)>,
}

/// A file of embeddings is invalid.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", .path.display())]
pub struct EmbeddingError {
    /// Which file.
    pub path: PathBuf,
    /// The fault.
    pub fault: EmbeddingFault,
}

/// A fault of a file of embeddings. Lines and words are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddingFault {
    /// The file cannot be read or unpacked.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The file is empty.
    #[error("it is empty: give GloVe text, word2vec text or binary, or fastText .vec")]
    Empty,
    /// The file is of another kind.
    #[error(
        "there are no word embeddings in it (it begins with {0:?}): give GloVe text, word2vec \
         text or binary, or fastText .vec"
    )]
    Unknown(String),
    /// The header has impossible numbers.
    #[error(
        "its first line promises {count} words of {width} numbers; up to {} words of {} to {} \
         numbers are possible: the file is damaged, fetch it again",
        COUNTS.end(), WIDTHS.start(), WIDTHS.end()
    )]
    Header {
        /// Words according to the header.
        count: u64,
        /// Numbers per word according to the header.
        width: u64,
    },
    /// A row has another length than the others.
    #[error(
        "line {line} has {found} numbers behind its word and should have {expected}: the file \
         is damaged or cut off, fetch it again"
    )]
    Width {
        /// Which line.
        line: usize,
        /// Numbers there.
        found: usize,
        /// Numbers in the first row, or in the header.
        expected: usize,
    },
    /// A field is not a finite number.
    #[error(
        "{row} ({word:?}) holds {value:?}, which is not a finite number up to {NUMBER_MAX}: the file is \
         damaged, fetch it again or take the row out"
    )]
    Number {
        /// "line 3" or "word 3".
        row: String,
        /// The row's word.
        word: String,
        /// The field.
        value: String,
    },
    /// A line, or a word in a binary file, is too long.
    #[error("{0} does not end within {LINE_BYTES_MAX} bytes: the file is damaged, fetch it again")]
    Endless(String),
    /// The file ends too early.
    #[error(
        "its first line promises {promised} words, and it ends after {found}: the file was cut \
         off, fetch it again"
    )]
    Truncated {
        /// Words in the header.
        promised: usize,
        /// Complete words in the file.
        found: usize,
    },
    /// The file is longer than its header says.
    #[error(
        "its first line promises {0} words, and there is more behind them: the file is damaged, \
         fetch it again"
    )]
    Longer(usize),
    /// The file contains none of the wanted words.
    #[error(
        "none of its {read} words is among the {wanted} of the vocabulary: is it for another \
         language?"
    )]
    Uncovered {
        /// Words in the file.
        read: usize,
        /// Words that were wanted.
        wanted: usize,
    },
}

use EmbeddingFault as Fault;

/// Reads the vectors of `wanted` from `path`; the module describes layouts and spellings.
///
/// # Errors
/// [`EmbeddingError`], with the line or word at fault.
pub fn read(path: &Path, wanted: &HashSet<&str>) -> Result<Embeddings, EmbeddingError> {
    let progress = Progress::new(file_name(path), 0);
    let mut kept = Kept { spellings: HashMap::new(), found: HashMap::new(), words: 0, progress };
    for word in wanted {
        kept.spellings.entry(word.to_lowercase()).or_default().push(word);
    }
    let read_all = || {
        let mut file = packed::open(path)?;
        let width = read_into(&mut kept, BufReader::new(&mut file))?;
        if kept.found.is_empty() {
            return Err(Fault::Uncovered { read: kept.words, wanted: wanted.len() });
        }
        let vectors = kept.found.into_iter().map(|(word, (_, v))| (word.to_owned(), v)).collect();
        Ok(Embeddings { width, words_read: kept.words, sha256: file.finish()?, vectors })
    };
    read_all().map_err(|fault| EmbeddingError { path: path.to_owned(), fault })
}

impl Embeddings {
    /// The vector of a wanted word, `width` numbers long.
    pub fn get(&self, word: &str) -> Option<&[f32]> {
        self.vectors.get(word).map(Vec::as_slice)
    }

    /// How much of a vocabulary, given as words with their counts, has a vector.
    pub fn coverage<'a>(&self, counts: impl IntoIterator<Item = (&'a str, usize)>) -> Coverage {
        let (mut types, mut tokens) = (Share::default(), Share::default());
        let mut missing = Vec::new();
        for (word, count) in counts {
            let covered = self.vectors.contains_key(word);
            types.add(1, covered);
            tokens.add(count, covered);
            if !covered {
                missing.push((word.to_owned(), count));
            }
        }
        missing.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        missing.truncate(MISSING_NAMED_MAX);
        Coverage { types: types.get(), tokens: tokens.get(), missing }
    }
}

#[derive(Default)]
struct Share {
    part: usize,
    whole: usize,
}

impl Share {
    fn add(&mut self, count: usize, counts: bool) {
        self.whole += count;
        self.part += if counts { count } else { 0 };
    }

    fn get(&self) -> f64 {
        self.part as f64 / self.whole.max(1) as f64
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (types, tokens) = (percent_tenths(self.types), percent_tenths(self.tokens));
        write!(f, "{types} of the words have a vector, {tokens} of their occurrences")?;
        let mut before = "; most frequent without";
        for (word, count) in &self.missing {
            write!(f, "{before} {word} ({count})")?;
            before = ",";
        }
        Ok(())
    }
}

/// How close a spelling in the file is to the wanted one; smaller is closer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Spelling {
    Exact,
    LowerCase,
    OtherCase,
}

/// The vectors found so far.
struct Kept<'a> {
    /// Wanted words by their lower case.
    spellings: HashMap<String, Vec<&'a str>>,
    found: HashMap<&'a str, (Spelling, Vec<f32>)>,
    /// Rows read.
    words: usize,
    progress: Progress,
}

impl Kept<'_> {
    /// Adds a valid row.
    fn row(&mut self, word: &[u8], numbers: &[f32]) {
        self.words += 1;
        self.progress.read(self.words, "words");
        // Wanted words are UTF-8.
        let Ok(word) = std::str::from_utf8(word) else { return };
        let lower = word.to_lowercase();
        for wanted in self.spellings.get(&lower).into_iter().flatten() {
            let spelling = if word == *wanted {
                Spelling::Exact
            } else if word == lower {
                Spelling::LowerCase
            } else {
                Spelling::OtherCase
            };
            if self.found.get(wanted).is_none_or(|(best, _)| spelling < *best) {
                self.found.insert(wanted, (spelling, numbers.to_vec()));
            }
        }
    }
}

/// Detects the layout, reads all rows, returns the width.
fn read_into(kept: &mut Kept<'_>, mut input: impl BufRead) -> Result<usize, Fault> {
    let mut head = Vec::new();
    input.by_ref().take(HEAD_BYTES).read_to_end(&mut head)?;
    if head.trim_ascii().is_empty() {
        return Err(Fault::Empty);
    }
    let end = head.iter().position(|byte| *byte == b'\n').unwrap_or(head.len());
    let (first, rest) = (head[..end].trim_ascii_end(), &head[(end + 1).min(head.len())..]);
    let Some((count, width)) = header(first) else {
        let width = first_width(first).ok_or_else(|| {
            let beginning = String::from_utf8_lossy(&first[..first.len().min(60)]).into_owned();
            Fault::Unknown(beginning)
        })?;
        read_text(kept, head.chain(input), width, 1, None)?;
        return Ok(width);
    };
    if !COUNTS.contains(&count) || !WIDTHS.contains(&width) {
        return Err(Fault::Header { count, width });
    }
    let (count, width) = (count as usize, width as usize);
    let rows = rest.chain(input);
    if is_binary(rest) {
        read_binary(kept, rows, count, width)?;
    } else {
        read_text(kept, rows, width, 2, Some(count))?;
    }
    Ok(width)
}

/// Count and width, if the line is a header.
fn header(line: &[u8]) -> Option<(u64, u64)> {
    let (count, width) = std::str::from_utf8(line).ok()?.split_once(is_space_char)?;
    Some((count.parse().ok()?, width.parse().ok()?))
}

/// Count of the numbers after the first word, if only numbers follow.
fn first_width(line: &[u8]) -> Option<usize> {
    let fields = line.split(is_space).skip(1);
    let width = fields.map(|field| number(field).map(|_| 1)).sum::<Option<usize>>()?;
    WIDTHS.contains(&(width as u64)).then_some(width)
}

/// Text has hardly any control characters; binary numbers have many.
fn is_binary(bytes: &[u8]) -> bool {
    let control = |byte: &&u8| byte.is_ascii_control() && !byte.is_ascii_whitespace();
    bytes.iter().filter(control).count() as f64 > CONTROL_SHARE_MAX * bytes.len() as f64
}

fn is_space_char(c: char) -> bool {
    c == ' ' || c == '\t'
}

fn is_space(byte: &u8) -> bool {
    is_space_char(char::from(*byte))
}

fn number(field: &[u8]) -> Option<f32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Reads rows of text up to the end of the file; `line` is the number of the first.
fn read_text(
    kept: &mut Kept<'_>,
    mut input: impl BufRead,
    width: usize,
    mut line: usize,
    promised: Option<usize>,
) -> Result<(), Fault> {
    let (mut bytes, mut numbers) = (Vec::new(), Vec::with_capacity(width));
    loop {
        bytes.clear();
        let read = input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)?;
        if read == 0 {
            break;
        }
        if read as u64 == LINE_BYTES_MAX && !bytes.ends_with(b"\n") {
            return Err(Fault::Endless(format!("line {line}")));
        }
        let row = bytes.trim_ascii_end();
        if !row.is_empty() {
            if promised == Some(kept.words) {
                return Err(Fault::Longer(kept.words));
            }
            let word = text_row(row, width, line, &mut numbers)?;
            kept.row(word, &numbers);
        }
        line += 1;
    }
    match promised {
        Some(promised) if kept.words < promised => {
            Err(Fault::Truncated { promised, found: kept.words })
        }
        _ => Ok(()),
    }
}

/// Parses the last `width` fields into `numbers` and returns what precedes them.
fn text_row<'a>(
    row: &'a [u8],
    width: usize,
    line: usize,
    numbers: &mut Vec<f32>,
) -> Result<&'a [u8], Fault> {
    let fields = row.iter().filter(|byte| is_space(byte)).count();
    let mut parts = row.rsplitn(width + 1, is_space);
    let values: Vec<&[u8]> = parts.by_ref().take(width).collect();
    // A word may contain spaces and end in a whole number ("terminal 2"); but if its last part is a number
    // with a fraction, as those of vectors are, the row is too long.
    let word = parts.next().filter(|word| {
        let mut fields = word.rsplit(is_space);
        let last = fields.next().filter(|last| number(last).is_some());
        let is_whole = last.is_some_and(|last| last.iter().all(u8::is_ascii_digit));
        last.is_none() || is_whole || fields.next().is_none()
    });
    let Some(word) = word else {
        return Err(Fault::Width { line, found: fields, expected: width });
    };
    numbers.clear();
    for value in values.into_iter().rev() {
        match number(value) {
            Some(number) if number.abs() <= NUMBER_MAX => numbers.push(number),
            _ => return Err(no_number(format!("line {line}"), word, lossy(value))),
        }
    }
    Ok(word)
}

/// Reads exactly `count` binary rows.
fn read_binary(
    kept: &mut Kept<'_>,
    mut input: impl BufRead,
    count: usize,
    width: usize,
) -> Result<(), Fault> {
    let (mut word, mut bytes) = (Vec::new(), vec![0; 4 * width]);
    let mut numbers = Vec::with_capacity(width);
    let truncated = |found| Fault::Truncated { promised: count, found };
    for row in 1..=count {
        word.clear();
        let read = input.by_ref().take(LINE_BYTES_MAX).read_until(b' ', &mut word)?;
        if word.pop_if(|last| *last == b' ').is_none() {
            let endless = read as u64 == LINE_BYTES_MAX;
            let at = format!("word {row}");
            return Err(if endless { Fault::Endless(at) } else { truncated(kept.words) });
        }
        input.read_exact(&mut bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => truncated(kept.words),
            _ => Fault::Io(error),
        })?;
        // Some writers end each row with a line feed, which then begins the next.
        let word = word.strip_prefix(b"\n").unwrap_or(&word);
        numbers.clear();
        numbers.extend(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
        if let Some(value) = numbers.iter().find(|n| n.is_nan() || n.abs() > NUMBER_MAX) {
            return Err(no_number(format!("word {row}"), word, value.to_string()));
        }
        kept.row(word, &numbers);
    }
    let mut rest = Vec::new();
    input.take(2).read_to_end(&mut rest)?;
    if rest.is_empty() || rest == b"\n" { Ok(()) } else { Err(Fault::Longer(count)) }
}

fn no_number(row: String, word: &[u8], value: String) -> Fault {
    Fault::Number { row, word: lossy(word), value }
}

/// At most 40 bytes, for messages.
fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned()
}

#[cfg(test)]
mod tests;
