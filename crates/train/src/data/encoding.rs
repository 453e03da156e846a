//! The characters of text files: UTF-8, UTF-16 with a byte order mark, Windows-1252.
//!
//! **Invariant.** A row of UTF-8 is unchanged; see [`utf8`], which records of the stream use too.
//! Deliberately absent: sentiment140's layout, which is decoded by column; see `layouts.rs`.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use encoding_rs_io::DecodeReaderBytesBuilder;
use monitor_core::text::utf8;

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

#[cfg(test)]
mod tests {
    use super::*;

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
