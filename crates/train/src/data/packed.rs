//! Reads data files that are plain, `.xz`, `.gz`, or a `.zip` with one member.
//!
//! The first bytes decide the format, not the name. An xz file may have several streams, a
//! gzip file several members; they are read in order.
//!
//! **Invariant.** Memory does not grow with the file. An archive unpacks to at most
//! [`UNPACKED_BYTES_MAX`] bytes, and beyond [`FREE_BYTES`] to at most [`RATIO_MAX`] times
//! its own size. A larger one (a decompression bomb) and a truncated or damaged one end in an
//! error, never in fewer rows. Deliberately absent: nested archives, passwords, file names in
//! errors (the caller adds them).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use flate2::CrcReader;
use flate2::bufread::{DeflateDecoder, MultiGzDecoder};
use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Error as XzError, Stream};
use sha2::{Digest, Sha256};
use zip::{CompressionMethod, ZipArchive};

use monitor_core::hash::hex;

use super::encoding;

/// Unpacked size of an archive at most: 1.5 times GloVe 840B's text.
const UNPACKED_BYTES_MAX: u64 = 8 << 30;
/// Compression ratio at most, beyond [`FREE_BYTES`]. Tweets and vectors have ratios of 2 to 10,
/// zeros about 1,000.
const RATIO_MAX: u64 = 100;
/// Unpacked size that is allowed for every archive.
const FREE_BYTES: u64 = 64 << 20;
/// Memory that xz may use to unpack; `xz -9` needs 65 MiB.
const XZ_MEMORY_BYTES_MAX: u64 = 256 << 20;
/// Bytes per read.
const BUFFER_BYTES: usize = 128 << 10;
/// Members of a zip that an error names.
const MEMBERS_NAMED_MAX: usize = 5;

/// Why an archive cannot be read; the caller adds the file's name.
#[derive(Debug, thiserror::Error)]
enum PackedError {
    #[error(
        "it is {packed} bytes and unpacks to more than {limit}, which no data file should (at most \
         {} bytes, and {RATIO_MAX} times the archive beyond {} MiB): a decompression bomb? If \
         you trust it, unpack it first and give the plain file",
        UNPACKED_BYTES_MAX, FREE_BYTES >> 20
    )]
    Bomb { packed: u64, limit: u64 },
    #[error(
        "the {kind} archive is damaged or cut short, after {unpacked} bytes unpacked ({source}); \
         fetch it again"
    )]
    Damaged { kind: &'static str, unpacked: u64, source: io::Error },
    #[error(
        "the xz archive needs more than {} MiB of memory to unpack; unpack it first, or pack it \
         with xz -9 or less",
        XZ_MEMORY_BYTES_MAX >> 20
    )]
    Memory,
    #[error("the zip has no file in it; it should have one")]
    NoMember,
    #[error(
        "the zip has {count} files in it, and one is needed ({names}); unpack the one you mean"
    )]
    Members { count: usize, names: String },
    #[error("{name} in the zip is {what}; unpack it first and give the plain file")]
    Member { name: String, what: String },
}

impl From<PackedError> for io::Error {
    fn from(error: PackedError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// The unpacked bytes of a data file.
pub struct Packed {
    decoder: Box<dyn Read + Send>,
    /// `None` if the file is plain.
    kind: Option<&'static str>,
    /// The open file that the decoder reads; shares its position.
    file: File,
    file_bytes: u64,
    unpacked_bytes: u64,
    unpacked_bytes_max: u64,
}

/// Opens a data file; reading from it gives the unpacked bytes.
///
/// # Errors
/// The file cannot be read, or is a damaged zip or one without exactly one member that can be
/// unpacked; folders and `__MACOSX` (from macOS) do not count. The message does not name the
/// file. Later reads may fail with kind `InvalidData`: a decompression bomb, or a damaged or
/// truncated archive.
pub fn open(path: &Path) -> io::Result<Packed> {
    let file = File::open(path)?;
    let file_bytes = file.metadata()?.len();
    let mut input = BufReader::with_capacity(BUFFER_BYTES, file.try_clone()?);
    let magic = input.fill_buf()?;
    let (kind, decoder): (_, Box<dyn Read + Send>) = if magic.starts_with(b"\xFD7zXZ\0") {
        let stream = Stream::new_stream_decoder(XZ_MEMORY_BYTES_MAX, CONCATENATED)?;
        (Some("xz"), Box::new(XzDecoder::new_stream(input, stream)))
    } else if magic.starts_with(b"\x1F\x8B") {
        (Some("gzip"), Box::new(MultiGzDecoder::new(input)))
    } else if magic.starts_with(b"PK\x03\x04") || magic.starts_with(b"PK\x05\x06") {
        (Some("zip"), member(input)?)
    } else {
        (None, Box::new(input))
    };
    let unpacked_bytes_max = match kind {
        Some(_) => file_bytes.saturating_mul(RATIO_MAX).clamp(FREE_BYTES, UNPACKED_BYTES_MAX),
        None => u64::MAX,
    };
    Ok(Packed { decoder, kind, file, file_bytes, unpacked_bytes: 0, unpacked_bytes_max })
}

/// Opens a data file of text, as [`open`] does; UTF-16 with a byte order mark is read as UTF-8.
///
/// # Errors
/// As [`open`].
pub(super) fn open_text(path: &Path) -> io::Result<Packed> {
    let packed = open(path)?;
    Ok(Packed { decoder: encoding::without_mark(packed.decoder), ..packed })
}

impl Packed {
    /// Bytes of the file read so far (approximately), and its size; for progress.
    pub fn place(&mut self) -> (u64, u64) {
        (self.file.stream_position().unwrap_or(0), self.file_bytes)
    }

    /// SHA-256 of the stored (packed) file in hexadecimal; reads it again from the start.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn finish(mut self) -> io::Result<String> {
        self.file.seek(SeekFrom::Start(0))?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match self.file.read(&mut buffer)? {
                0 => break,
                read => hash.update(&buffer[..read]),
            }
        }
        Ok(hex(&hash.finalize()))
    }
}

impl Read for Packed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.decoder.read(buffer).map_err(|error| self.explain(error))?;
        self.unpacked_bytes += read as u64;
        if self.unpacked_bytes > self.unpacked_bytes_max {
            let (packed, limit) = (self.file_bytes, self.unpacked_bytes_max);
            return Err(PackedError::Bomb { packed, limit }.into());
        }
        Ok(read)
    }
}

impl Packed {
    /// Distinguishes errors of the disk from errors of the decoder.
    fn explain(&self, source: io::Error) -> io::Error {
        let of_xz = source.get_ref().and_then(|inner| inner.downcast_ref::<XzError>());
        match (self.kind, of_xz) {
            (_, Some(XzError::MemLimit)) => PackedError::Memory.into(),
            (Some(kind), _)
                if source.raw_os_error().is_none()
                    && source.kind() != io::ErrorKind::Interrupted =>
            {
                PackedError::Damaged { kind, unpacked: self.unpacked_bytes, source }.into()
            }
            _ => source,
        }
    }
}

/// Reads the only member of a zip, located by the directory at the end of the file, because the
/// header before the member may lack its size.
fn member(input: BufReader<File>) -> io::Result<Box<dyn Read + Send>> {
    let damaged = |error: zip::result::ZipError| match error {
        zip::result::ZipError::Io(source) if source.raw_os_error().is_some() => source,
        error => {
            let source = io::Error::other(error);
            PackedError::Damaged { kind: "zip", unpacked: 0, source }.into()
        }
    };
    let mut archive = ZipArchive::new(input).map_err(damaged)?;
    let (mut members, mut index) = (Vec::new(), 0);
    for at in 0..archive.len() {
        let entry = archive.by_index_raw(at).map_err(damaged)?;
        let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
        if !entry.is_dir() && !name.split('/').any(|part| part == "__MACOSX" || part == ".DS_Store")
        {
            members.push(name);
            index = at;
        }
    }
    let name = match members.len() {
        0 => return Err(PackedError::NoMember.into()),
        1 => members.swap_remove(0),
        count => {
            members.truncate(MEMBERS_NAMED_MAX);
            let more = if count > MEMBERS_NAMED_MAX { ", ..." } else { "" };
            let names = members.join(", ") + more;
            return Err(PackedError::Members { count, names }.into());
        }
    };
    let entry = archive.by_index_raw(index).map_err(damaged)?;
    let refused = |what: String| Err(PackedError::Member { name, what }.into());
    let method = entry.compression();
    let (bytes, crc32, size) = (entry.compressed_size(), entry.crc32(), entry.size());
    let start = entry.data_start();
    if entry.encrypted() {
        return refused("encrypted".into());
    }
    drop(entry);
    let mut input = archive.into_inner();
    input.seek(SeekFrom::Start(start.unwrap_or(0)))?;
    let input = input.take(bytes);
    let inner: Box<dyn Read + Send> = match method {
        CompressionMethod::Stored => Box::new(input),
        CompressionMethod::Deflated => Box::new(DeflateDecoder::new(input)),
        other => return refused(format!("packed with {other:?}")),
    };
    Ok(Box::new(Checked { inner: CrcReader::new(inner), crc32, size }))
}

/// Checks a zip member's unpacked size and checksum against the directory.
struct Checked {
    inner: CrcReader<Box<dyn Read + Send>>,
    crc32: u32,
    size: u64,
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let crc = self.inner.crc();
        // `amount` counts modulo 4 GiB, hence the truncated size.
        if read == 0
            && !buffer.is_empty()
            && (crc.sum() != self.crc32 || crc.amount() != self.size as u32)
        {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its checksum differs"));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use monitor_core::hash::sha256_hex;

    use super::*;

    const TEXT: &str = "\"0\",\"1\",\"today\",\"NO_QUERY\",\"ann\",\"it broke\"\n";

    fn xz(content: &[u8]) -> Vec<u8> {
        let mut out = liblzma::write::XzEncoder::new(Vec::new(), 1);
        out.write_all(content).unwrap();
        out.finish().unwrap()
    }

    fn gz(content: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        out.write_all(content).unwrap();
        out.finish().unwrap()
    }

    fn zip(method: CompressionMethod, members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        for (name, content) in members {
            if name.ends_with('/') {
                out.add_directory(*name, options).unwrap();
            } else {
                out.start_file(*name, options).unwrap();
                out.write_all(content).unwrap();
            }
        }
        out.finish().unwrap().into_inner()
    }

    /// Writes `content` to a file without an extension and reads it to the end.
    fn unpack(content: &[u8]) -> io::Result<(Vec<u8>, String)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        std::fs::write(&path, content).unwrap();
        let mut packed = open(&path)?;
        let mut out = Vec::new();
        packed.by_ref().take(1 << 30).read_to_end(&mut out)?;
        let (place, total) = packed.place();
        assert_eq!((place <= total, total), (true, content.len() as u64));
        Ok((out, packed.finish()?))
    }

    #[test]
    fn detects_the_format_by_content() {
        let text = TEXT.repeat(10_000);
        let bytes = text.as_bytes();
        let check = |name: &str, content: &[u8]| {
            let (found, sha256) = unpack(content).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(found == bytes, "{name}");
            assert_eq!(sha256, sha256_hex(content), "{name}: of the packed file");
        };
        let (left, right) = bytes.split_at(1_000);
        check("plain", bytes);
        check("xz", &xz(bytes));
        check("xz, two streams", &[xz(left), xz(right)].concat());
        check("gzip", &gz(bytes));
        check("gzip, two members", &[gz(left), gz(right)].concat());
        check("zip", &zip(CompressionMethod::Deflated, &[("a.csv", bytes)]));
        check("zip, stored", &zip(CompressionMethod::Stored, &[("a.csv", bytes)]));
        let of_apple: [(&str, &[u8]); 3] =
            [("data/", b""), ("data/a.csv", bytes), ("__MACOSX/data/._a.csv", b"x")];
        check("zip with folders", &zip(CompressionMethod::Deflated, &of_apple));
        let (found, _) = unpack(b"").unwrap();
        assert!(found.is_empty(), "empty");
    }

    #[test]
    fn a_broken_archive_is_an_error() {
        let check = |name: &str, content: &[u8], expected: &str| match unpack(content) {
            Ok((found, _)) => panic!("{name}: unpacked {} bytes", found.len()),
            Err(error) => assert!(error.to_string().contains(expected), "{name}: {error}"),
        };
        let text = (0..50_000).map(|n| format!("{n},")).collect::<String>();
        let half = |content: Vec<u8>| content[..content.len() / 2].to_owned();
        let flipped = |mut content: Vec<u8>| {
            let at = content.len() / 2;
            content[at] ^= 0xFF;
            content
        };
        let deflated = zip(CompressionMethod::Deflated, &[("a.csv", text.as_bytes())]);
        let stored = zip(CompressionMethod::Stored, &[("a.csv", text.as_bytes())]);
        let (xz, gz) = (xz(text.as_bytes()), gz(text.as_bytes()));
        check("xz cut short", &half(xz.clone()), "the xz archive is damaged or cut short, after");
        check("xz, its end missing", &xz[..xz.len() - 1], "the xz archive is damaged");
        check("xz damaged", &flipped(xz.clone()), "the xz archive is damaged");
        check("gzip cut short", &half(gz.clone()), "the gzip archive is damaged");
        check("gzip, its end missing", &gz[..gz.len() - 1], "the gzip archive is damaged");
        check("gzip damaged", &flipped(gz), "the gzip archive is damaged");
        check("zip cut short", &half(deflated.clone()), "the zip archive is damaged");
        check("zip damaged", &flipped(deflated), "the zip archive is damaged");
        check("zip, stored, damaged", &flipped(stored), "its checksum differs");
        let none = zip(CompressionMethod::Stored, &[("folder/", b"")]);
        check("zip without a file", &none, "no file in it");
        let several: [(&str, &[u8]); 2] = [("train.csv", b"a"), ("test.csv", b"b")];
        let several = zip(CompressionMethod::Stored, &several);
        check("zip with two", &several, "2 files in it, and one is needed (train.csv, test.csv)");
    }

    #[test]
    fn refuses_decompression_bombs() {
        let zeros = vec![0; FREE_BYTES as usize + 1];
        let check = |name: &str, content: &[u8]| {
            let error = unpack(content).unwrap_err().to_string();
            let figures =
                format!("it is {} bytes and unpacks to more than 67108864", content.len());
            assert!(error.contains(&figures) && error.contains("bomb"), "{name}: {error}");
        };
        check("xz", &xz(&zeros));
        check("gzip", &gz(&zeros));
        check("zip", &zip(CompressionMethod::Deflated, &[("a.csv", &zeros)]));
        let allowed = gz(&zeros[1..]);
        assert_eq!(unpack(&allowed).unwrap().0.len() as u64, FREE_BYTES, "as much as any may");
    }

    #[test]
    fn limits_the_memory_of_xz() {
        // The letter a, by xz --lzma2=preset=0,dict=512MiB: the header claims the memory.
        let header =
            b"\xFD7zXZ\0\0\x01\x69\x22\xDE\x36\x02\0\x21\x01\x22\0\0\0\x82\x40\xAC\xDC\x01\0\0\x61";
        let error = unpack(header).unwrap_err().to_string();
        assert!(error.contains("more than 256 MiB of memory"), "{error}");
    }
}
