//! The characters of text files: UTF-8, UTF-16 with a byte order mark, Windows-1252.
//!
//! Spreadsheet programs of Western Europe write Windows-1252, of which Latin-1's letters are a part.
//! Nothing in a file says so, but its letters are hardly ever valid UTF-8 by chance, so each row tells
//! by itself. sentiment140's layout does this by column; see `layouts.rs`.
//!
//! **Invariant.** A row of UTF-8 is unchanged. A row in which another character is UTF-8 is damaged
//! UTF-8, and unchanged too. Deliberately absent: other code pages, which look the same as
//! Windows-1252.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use encoding_rs::WINDOWS_1252;
use encoding_rs_io::DecodeReaderBytesBuilder;

/// Files of which it was said that they are not UTF-8.
static TOLD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// UTF-16 with a byte order mark as UTF-8; other bytes unchanged, without the mark of UTF-8.
pub(super) fn without_mark(input: Box<dyn Read + Send>) -> Box<dyn Read + Send> {
    Box::new(DecodeReaderBytesBuilder::new().utf8_passthru(true).strip_bom(true).build(input))
}

/// A row of the file `path`, as [`utf8`] reads it. That it is not UTF-8 is said once for each file.
pub(super) fn row<'a>(path: &Path, bytes: &'a [u8]) -> Cow<'a, [u8]> {
    let read = utf8(bytes);
    if matches!(read, Cow::Owned(_)) {
        let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
        if told.insert(path.to_owned()) {
            eprintln!("{} is not UTF-8: read as Windows-1252, row by row", path.display());
        }
    }
    read
}

/// Bytes of Windows-1252 as UTF-8; others unchanged.
pub(super) fn utf8(bytes: &[u8]) -> Cow<'_, [u8]> {
    let is_utf8 = std::str::from_utf8(bytes).is_ok();
    if is_utf8 || bytes.utf8_chunks().any(|chunk| !chunk.valid().is_ascii()) {
        return Cow::Borrowed(bytes);
    }
    Cow::Owned(WINDOWS_1252.decode_without_bom_handling(bytes).0.into_owned().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_tells_its_encoding() {
        let check = |name: &str, bytes: &[u8], expected: Option<&str>| {
            let expected = expected.map_or(bytes, str::as_bytes);
            assert_eq!(*utf8(bytes), *expected, "{name}");
        };
        check("ASCII", b"coffee", None);
        check("UTF-8", "café ☕".as_bytes(), None);
        check("Latin-1", b"caf\xe9", Some("café"));
        check("Windows' own", b"\x93caf\xe9\x94 5 \x80\x85", Some("“café” 5 €…"));
        check("UTF-8 that was cut", b"caf\xc3\xa9 \xc3", None);
        check("UTF-16", b"c\0a\0f\0", None);
    }

    #[test]
    fn marks_of_unicode() {
        let check = |name: &str, bytes: &[u8], expected: &[u8]| {
            let mut found = Vec::new();
            without_mark(Box::new(std::io::Cursor::new(bytes.to_vec())))
                .read_to_end(&mut found)
                .unwrap();
            assert_eq!(found, expected, "{name}");
        };
        let text = "label,text\r\n0,café ☕ 😀\r\n";
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        check("UTF-16, little endian", &[b"\xff\xfe", &little[..]].concat(), text.as_bytes());
        check("UTF-16, big endian", &[b"\xfe\xff", &big[..]].concat(), text.as_bytes());
        check("UTF-8 with a mark", &[b"\xef\xbb\xbf", text.as_bytes()].concat(), text.as_bytes());
        check("UTF-8", text.as_bytes(), text.as_bytes());
        check("any bytes", b"caf\xe9\xff\xfe\0", b"caf\xe9\xff\xfe\0");
        check("one byte", b"a", b"a");
        check("nothing", b"", b"");
    }
}
