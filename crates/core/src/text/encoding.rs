//! The characters of bytes that should be UTF-8.
//!
//! Spreadsheet programs of Western Europe write Windows-1252, of which Latin-1's letters are a part.
//! Nothing in the bytes says so, but its letters are hardly ever valid UTF-8 by chance, so each row
//! of a file and each record of a stream tells by itself.
//!
//! **Invariant.** UTF-8 is unchanged. A row in which another character is UTF-8 is damaged
//! UTF-8, and unchanged too. Deliberately absent: other code pages, which look the same as
//! Windows-1252.

use std::borrow::Cow;

use encoding_rs::WINDOWS_1252;

/// Bytes of Windows-1252 as UTF-8; others unchanged.
pub fn utf8(bytes: &[u8]) -> Cow<'_, [u8]> {
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
}
