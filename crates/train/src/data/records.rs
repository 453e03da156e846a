//! Cuts a stream into rows of one or more lines and counts the lines.
//!
//! **Invariant.** A row is searched within [`ROW_BYTES_MAX`] bytes and [`ROW_LINES_MAX`]
//! lines, so a quote that is never closed costs one line, not the rest of the file, and
//! memory is bounded. Deliberately absent: columns.

use std::io::{self, BufRead, BufReader, Read};

/// Bytes of a row at most, unless a reader has another limit.
pub const ROW_BYTES_MAX: usize = 64 << 10;
/// Lines of a row at most.
pub const ROW_LINES_MAX: usize = 64;

/// Where a row ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowEnd {
    /// At the end of the line, regardless of quotes.
    Line,
    /// At the end of the line; its quotes must be balanced.
    QuotedLine,
    /// At the end of the first line at which all quotes are balanced. A line without an open
    /// quoted column ends its row even with other quotes in its columns (`1,6'2" tall`).
    ClosedQuotes,
}

/// One row as in the file.
#[derive(Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its first line, from 1.
    pub line: u64,
    /// Number of lines.
    pub lines: u64,
    pub bytes: &'a [u8],
    /// Whether its quotes are balanced; if not, `bytes` is only the first line.
    pub closed: bool,
}

pub struct Records<R> {
    input: BufReader<R>,
    /// Bytes read ahead; begins with the row returned last.
    ahead: Vec<u8>,
    /// Bytes and lines of the row returned last.
    given: (usize, u64),
    first_line_bytes: usize,
    line: u64,
    bytes_max: usize,
}

impl<R: Read> Records<R> {
    /// Rows of at most [`ROW_BYTES_MAX`] bytes.
    pub fn new(input: R) -> Self {
        Self::with_limit(input, ROW_BYTES_MAX)
    }

    /// Rows of at most `bytes_max` bytes.
    pub fn with_limit(input: R, bytes_max: usize) -> Self {
        let input = BufReader::with_capacity(ROW_BYTES_MAX, input);
        Self { input, ahead: Vec::new(), given: (0, 0), first_line_bytes: 0, line: 1, bytes_max }
    }

    pub fn get_mut(&mut self) -> &mut R {
        self.input.get_mut()
    }

    pub fn into_inner(self) -> R {
        self.input.into_inner()
    }

    /// The next lines, without consuming them.
    pub fn peek(&mut self, lines: usize) -> io::Result<Vec<&[u8]>> {
        let mut ends = vec![self.given.0];
        while ends.len() <= lines {
            match self.line_end(ends[ends.len() - 1])? {
                Some(end) => ends.push(end),
                None => break,
            }
        }
        Ok(ends.windows(2).map(|pair| &self.ahead[pair[0]..pair[1]]).collect())
    }

    /// The next row; `None` at the end.
    pub fn next(&mut self, ends: RowEnd) -> io::Result<Option<Record<'_>>> {
        self.ahead.drain(..self.given.0);
        self.line += self.given.1;
        self.given = (0, 0);
        let lines_max = if ends == RowEnd::ClosedQuotes { ROW_LINES_MAX as u64 } else { 1 };
        let (mut end, mut lines, mut closed) = (0, 0, true);
        while lines < lines_max && end < self.bytes_max {
            let Some(next) = self.line_end(end)? else { break };
            let quotes = self.ahead[end..next].iter().filter(|byte| **byte == b'"').count();
            closed ^= ends != RowEnd::Line && quotes % 2 == 1;
            (end, lines) = (next, lines + 1);
            if lines == 1 {
                self.first_line_bytes = end;
                closed |= ends == RowEnd::ClosedQuotes && !leaves_open(&self.ahead[..end]);
            }
            if closed {
                break;
            }
        }
        self.given = if closed { (end, lines) } else { (self.first_line_bytes, 1) };
        let (bytes, lines) = self.given;
        let record = Record { line: self.line, lines, bytes: &self.ahead[..bytes], closed };
        Ok((lines > 0).then_some(record))
    }

    /// Consumes only the first line of the row returned last; the next row begins at its second.
    pub fn go_back(&mut self) {
        self.given = (self.first_line_bytes, 1);
    }

    /// End of the line that begins at `start` of `ahead`, after its line feed. Bytes beyond
    /// the limit are skipped, so a longer line gets a length of that plus one.
    fn line_end(&mut self, start: usize) -> io::Result<Option<usize>> {
        if let Some(at) = self.ahead[start..].iter().position(|byte| *byte == b'\n') {
            return Ok(Some(start + at + 1));
        }
        if start < self.ahead.len() {
            return Ok(Some(self.ahead.len()));
        }
        let bytes_max = self.bytes_max + 1;
        let read = self.input.by_ref().take(bytes_max as u64).read_until(b'\n', &mut self.ahead)?;
        if read == bytes_max && self.ahead.last() != Some(&b'\n') {
            self.input.skip_until(b'\n')?;
            // So that the next search finds the end of the line.
            self.ahead.pop();
            self.ahead.push(b'\n');
        }
        Ok((read > 0).then_some(self.ahead.len()))
    }
}

/// Whether a quoted column continues after this first line of a row.
fn leaves_open(line: &[u8]) -> bool {
    // Two quotes in a row are an escaped quote: the second one reopens the column.
    let (mut may_open, mut quoted) = (true, false);
    for byte in line {
        let turns = *byte == b'"' && (quoted || may_open);
        quoted ^= turns;
        may_open = !quoted && (turns || *byte == b',');
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_where_quotes_are_closed() {
        let check = |name: &str, ends: RowEnd, content: &str, expected: &[(u64, &str, bool)]| {
            let mut records = Records::new(content.as_bytes());
            let mut found = Vec::new();
            while let Some(record) = records.next(ends).unwrap() {
                let text = std::str::from_utf8(record.bytes).unwrap().trim_end().to_owned();
                found.push((record.line, text, record.closed));
            }
            let found: Vec<_> = found.iter().map(|(l, text, c)| (*l, text.as_str(), *c)).collect();
            assert_eq!(found, expected, "{name}");
        };
        use RowEnd::*;
        check("nothing", ClosedQuotes, "", &[]);
        check(
            "lines",
            ClosedQuotes,
            "a\nb\r\nc",
            &[(1, "a", true), (2, "b", true), (3, "c", true)],
        );
        check(
            "a line feed in quotes",
            ClosedQuotes,
            "1,\"a\nb\"\n2,c\n",
            &[(1, "1,\"a\nb\"", true), (3, "2,c", true)],
        );
        check(
            "a quote never closed",
            ClosedQuotes,
            "1,\"a\n2,\"b\"\n3,c\n",
            &[(1, "1,\"a", false), (2, "2,\"b\"", true), (3, "3,c", true)],
        );
        check(
            "the same, a line a row",
            QuotedLine,
            "\"1\",\"a\n\"2\",\"b\"\n",
            &[(1, "\"1\",\"a", false), (2, "\"2\",\"b\"", true)],
        );
        check(
            "a quote within a column",
            ClosedQuotes,
            "1,6'2\" tall\n2,\"a\"\"\nb\"\n",
            &[(1, "1,6'2\" tall", true), (2, "2,\"a\"\"\nb\"", true)],
        );
        check("quotes are text", Line, "a \"b\nc\n", &[(1, "a \"b", true), (2, "c", true)]);
        let far = format!("\"{}\"\n", "\n".repeat(ROW_LINES_MAX));
        let mut records = Records::new(far.as_bytes());
        let first = records.next(ClosedQuotes).unwrap().unwrap();
        assert_eq!((first.bytes, first.closed), (&b"\"\n"[..], false), "closed too far on");
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let content = format!("{}\nb\n", "a".repeat(5 * ROW_BYTES_MAX));
        let mut records = Records::new(content.as_bytes());
        assert_eq!(records.next(RowEnd::Line).unwrap().unwrap().bytes.len(), ROW_BYTES_MAX + 1);
        let second = records.next(RowEnd::Line).unwrap().unwrap();
        assert_eq!((second.line, second.bytes), (2, &b"b\n"[..]));
    }

    #[test]
    fn goes_back_to_the_second_line_and_peeks() {
        let mut records = Records::new(&b"\"a\nb\"\nc\n"[..]);
        assert_eq!(records.peek(2).unwrap(), [&b"\"a\n"[..], b"b\"\n"]);
        assert_eq!(records.next(RowEnd::ClosedQuotes).unwrap().unwrap().lines, 2);
        records.go_back();
        let second = records.next(RowEnd::Line).unwrap().unwrap();
        assert_eq!((second.line, second.bytes), (2, &b"b\"\n"[..]));
        assert_eq!(records.next(RowEnd::Line).unwrap().unwrap().bytes, b"c\n");
        assert!(records.next(RowEnd::Line).unwrap().is_none());
    }
}
