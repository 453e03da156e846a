//! The rows that a model learned from, as a filter: `learned.filter` in its folder.
//!
//! An evaluation recognises them in any file. The filter is a binary fuse filter of 16 bits (Graf
//! and Lemire, "Binary fuse filters", JEA 2022): 18 bits a row. It recognises every row that it
//! holds, and one in 65,536 of all others by mistake. It holds no texts, but whoever has a text can
//! ask whether it was learned from.
//!
//! The file: [`MAGIC`]; number of rows (u32); seed (u64), segment length, its mask and length of
//! all segments but two (u32 each); then the fingerprints (u16). All numbers are little-endian. A row's key
//! is [`identity_key`].
//!
//! **Invariant.** A row that the model learned from is recognised under any file name, however its
//! white space, case, names and addresses are written. Deliberately absent: rows that only a
//! teacher learned from.

use std::path::Path;

use monitor_core::hash::sha256_hex;
use monitor_core::text::identity_key;
use xorf::{BinaryFuse16, Descriptor, DmaSerializable, Filter};

use super::artifact::{ArtifactError, read_file};
use super::registry::{folder, read_manifest};
use super::{Manifest, ModelId};

/// Ending of the names of filters.
pub(super) const FILTER: &str = ".filter";
/// The filter of the rows that a training read.
const LEARNED: &str = "learned.filter";
/// Beginning of the name of a filter taken over from the version that the training began with.
const BEFORE: &str = "learned-before-";
const MAGIC: &[u8] = b"monitor: rows learned from, 1\n";
/// Bytes of the number of rows and of the descriptor.
const HEAD: usize = 4 + BinaryFuse16::DESCRIPTOR_LEN;

/// Files to keep with a version, by name.
pub type Filters = Vec<(String, Vec<u8>)>;

/// The rows that a model learned from.
#[derive(Debug, Clone)]
pub struct LearnedRows {
    filters: Vec<BinaryFuse16>,
    rows: usize,
}

impl LearnedRows {
    /// Probability that one filter recognises a row that it does not hold.
    const MISTAKE: f64 = 1.0 / 65_536.0;

    /// Whether the model learned from this text.
    pub fn contains(&self, text: &str) -> bool {
        let key = identity_key(text);
        self.filters.iter().any(|filter| filter.contains(&key))
    }

    /// Number of distinct rows, counted for each training that the model went through.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Probability that a row is recognised which the model did not learn from.
    pub fn mistake(&self) -> f64 {
        1.0 - (1.0 - Self::MISTAKE).powi(self.filters.len() as i32)
    }

    /// Of the rows with these texts.
    pub fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let parsed = learned_filter(texts).into_iter().filter_map(|(_, bytes)| parse(&bytes));
        let (filters, rows): (Vec<_>, Vec<usize>) = parsed.unzip();
        Self { filters, rows: rows.into_iter().sum() }
    }
}

/// A model and what is known of the rows that it learned from.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its manifest.
    pub manifest: Manifest,
    /// The rows; `None` for a version of before they were kept.
    pub learned: Option<LearnedRows>,
}

/// What is known of a model, and of both models of a cascade; `name` as in
/// [`open`](super::open).
///
/// # Errors
/// [`ArtifactError`]: the model does not exist, or its manifest or a filter cannot be read.
pub fn known(directory: &Path, name: &str) -> Result<Vec<Known>, ArtifactError> {
    let manifest = read_manifest(directory, name)?;
    let learned = learned(&folder(directory, &manifest.id()), &manifest)?;
    let members: Vec<ModelId> =
        manifest.architecture.members().into_iter().map(|member| member.model.clone()).collect();
    let mut all = vec![Known { manifest, learned }];
    for member in members {
        all.extend(known(directory, &member.to_string())?);
    }
    Ok(all)
}

/// The filter of the rows with these texts, to keep with a version.
pub fn learned_filter<'a>(texts: impl IntoIterator<Item = &'a str>) -> Filters {
    let mut keys: Vec<u64> = texts.into_iter().map(identity_key).collect();
    keys.sort_unstable();
    keys.dedup();
    if keys.is_empty() {
        return Vec::new();
    }
    let filter = BinaryFuse16::try_from(&keys).expect("building fails for equal keys only");
    let mut bytes = MAGIC.to_vec();
    bytes.extend((keys.len() as u32).to_le_bytes());
    let head = bytes.len();
    bytes.resize(head + BinaryFuse16::DESCRIPTOR_LEN, 0);
    filter.dma_copy_descriptor_to(&mut bytes[head..]);
    bytes.extend(filter.fingerprints.iter().flat_map(|print| print.to_le_bytes()));
    vec![(LEARNED.to_owned(), bytes)]
}

/// Adds the filters of the registered version in `folder` to those of a version that is trained from it,
/// and returns whether it keeps any.
///
/// # Errors
/// A filter cannot be read.
pub fn add_filters_of_base(filters: &mut Filters, folder: &Path) -> Result<bool, ArtifactError> {
    let Ok(manifest) = super::artifact::read_manifest(folder) else { return Ok(false) };
    let names = manifest.files.keys().filter(|name| name.ends_with(FILTER));
    let found: Vec<Vec<u8>> =
        names.map(|name| read_file(&folder.join(name))).collect::<Result<_, _>>()?;
    let keeps_any = !found.is_empty();
    add_before(filters, found);
    Ok(keeps_any)
}

/// Adds filters of versions before, each once.
fn add_before(filters: &mut Filters, found: Vec<Vec<u8>>) {
    for bytes in found {
        if filters.iter().all(|(_, known)| *known != bytes) {
            let before = filters.iter().filter(|(name, _)| name.starts_with(BEFORE)).count();
            filters.push((format!("{BEFORE}{}{FILTER}", before + 1), bytes));
        }
    }
}

/// Reads and verifies the filters of the version in `folder`.
fn learned(folder: &Path, manifest: &Manifest) -> Result<Option<LearnedRows>, ArtifactError> {
    let (mut filters, mut rows) = (Vec::new(), 0);
    for (name, expected) in manifest.files.iter().filter(|(name, _)| name.ends_with(FILTER)) {
        let path = folder.join(name);
        let bytes = read_file(&path)?;
        let found = sha256_hex(&bytes);
        if found != *expected {
            return Err(ArtifactError::Checksum { path, expected: expected.clone(), found });
        }
        let (filter, count) = parse(&bytes).ok_or_else(|| ArtifactError::Unfit {
            path,
            reason: "it is not a filter of rows that this program can read".into(),
        })?;
        filters.push(filter);
        rows += count;
    }
    Ok(manifest.files.contains_key(LEARNED).then_some(LearnedRows { filters, rows }))
}

/// A filter and its number of rows; `None` if the bytes are not a filter.
fn parse(bytes: &[u8]) -> Option<(BinaryFuse16, usize)> {
    let bytes = bytes.strip_prefix(MAGIC)?;
    let (head, prints) = bytes.split_at_checked(HEAD)?;
    let number = |at: usize| head[at..at + 4].try_into().ok().map(u32::from_le_bytes);
    let descriptor = Descriptor {
        seed: u64::from_le_bytes(head[4..12].try_into().ok()?),
        segment_length: number(12)?,
        segment_length_mask: number(16)?,
        segment_count_length: number(20)?,
    };
    let Descriptor { segment_length, segment_length_mask, segment_count_length, .. } = descriptor;
    // Else a look-up would reach beyond the fingerprints.
    let is_sound = segment_length.is_power_of_two()
        && segment_length_mask == segment_length - 1
        && segment_count_length.is_multiple_of(segment_length)
        && prints.len() as u64
            == 2 * (u64::from(segment_count_length) + 2 * u64::from(segment_length));
    let prints = prints.chunks_exact(2).map(|print| u16::from_le_bytes([print[0], print[1]]));
    let fingerprints = prints.collect();
    is_sound.then_some((BinaryFuse16 { descriptor, fingerprints }, number(0)? as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_what_it_holds_and_hardly_anything_else() {
        for count in [1, 2, 3, 10, 1_000, 100_000] {
            let texts: Vec<String> = (0..count).map(|n| format!("tweet no {n}")).collect();
            let learned = LearnedRows::of(texts.iter().map(String::as_str));
            assert_eq!(learned.rows(), count);
            assert!(texts.iter().all(|text| learned.contains(text)), "{count}");
            assert!(learned.contains(" Tweet  NO 0\n"));
            let others = 200_000;
            let wrong = (0..others).filter(|n| learned.contains(&format!("other {n}"))).count();
            let expected = learned.mistake() * f64::from(others);
            // Poisson of mean 3: 12 or more in one of 10,000 runs.
            assert!(wrong as f64 <= expected + 9.0, "{count}: {wrong}, expected {expected}");
        }
    }

    #[test]
    fn keeps_the_filters_of_each_version_before_once() {
        let mut filters = learned_filter(["so sad"]);
        let own = filters[0].1.clone();
        add_before(&mut filters, vec![own, vec![1], vec![2]]);
        add_before(&mut filters, vec![vec![2], vec![3]]);
        let found: Vec<(&str, &[u8])> =
            filters[1..].iter().map(|(name, bytes)| (&**name, &**bytes)).collect();
        let before = |number| format!("{BEFORE}{number}{FILTER}");
        let names = [1, 2, 3].map(before);
        assert_eq!(found, [(&*names[0], &[1][..]), (&names[1], &[2]), (&names[2], &[3])]);
    }

    #[test]
    fn takes_18_bits_a_row() {
        let texts: Vec<String> = (0..100_000).map(|n| format!("tweet no {n}")).collect();
        let bytes = learned_filter(texts.iter().map(String::as_str))[0].1.len();
        assert!((220_000..240_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn equal_rows_count_once_and_the_same_rows_give_the_same_bytes() {
        let texts = ["so sad", "So Sad", "glad"];
        let first = learned_filter(texts);
        assert_eq!(parse(&first[0].1).unwrap().1, 2);
        assert_eq!(first, learned_filter(["glad", "so sad"]));
        assert!(learned_filter([]).is_empty());
    }

    #[test]
    fn refuses_other_bytes() {
        let bytes = learned_filter(["a", "b", "c"]).remove(0).1;
        assert!(parse(&bytes).is_some());
        for end in [0, 5, MAGIC.len(), MAGIC.len() + HEAD, bytes.len() - 1] {
            assert!(parse(&bytes[..end]).is_none(), "{end}");
        }
        for at in MAGIC.len() + 12..MAGIC.len() + HEAD {
            let mut changed = bytes.clone();
            changed[at] ^= 0x81;
            assert!(parse(&changed).is_none(), "byte {at}");
        }
    }
}
