//! Initial word vectors of a network, from files of embeddings.
//!
//! Vectors of several files are concatenated (Yin and Schütze 2016, CONC) and reduced to their
//! principal components if they are wider than the network's word vectors.
//!
//! **Invariant.** Padding's vector is zero. Deliberately absent: reading; see
//! `embeddings.rs`.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use tch::{Device, Kind, Tensor};

use monitor_core::format::percent_tenths;
use monitor_core::text::{PADDING, Vocabulary};
use monitor_model::Source;

use crate::data::embeddings::{self, EmbeddingError};
use crate::data::file_name;

/// Standard deviation of scaled vectors: small, as for initial weights, but large enough to
/// distinguish words.
const DEVIATION: f64 = 0.3;
/// The same for words without a vector in any file.
const DEVIATION_UNKNOWN: f64 = 0.1;

/// How to transform the vectors of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fitting {
    /// Unchanged; a word without a vector gets zeros.
    AsTheyAre,
    /// Scaled to one standard deviation per file, then reduced to this width if wider; a word
    /// without a vector gets a small random one.
    To(usize),
}

/// A table of first vectors.
pub(super) struct Vectors {
    /// Shape [vocabulary, width].
    pub(super) table: Tensor,
    /// What was read, for the manifest.
    pub(super) sources: Vec<Source>,
}

/// Reads vectors for the words of `vocabulary`, which occur as often as `counts` says;
/// says on standard error how many have one.
pub(super) fn read(
    files: &[PathBuf],
    vocabulary: &Vocabulary,
    counts: &HashMap<String, usize>,
    fitting: Fitting,
) -> Result<Vectors, EmbeddingError> {
    let wanted: HashSet<&str> = vocabulary.words().map(|(word, _)| word).collect();
    let (mut tables, mut sources) = (Vec::new(), Vec::new());
    for file in files {
        let found = embeddings::read(file, &wanted)?;
        let counted = vocabulary.words().map(|(word, _)| (word, counts[word]));
        let coverage = found.coverage(counted);
        eprintln!("{}: {coverage}", file_name(file));
        sources.push(Source {
            file: file_name(file),
            sha256: found.sha256.clone(),
            about: format!(
                "{} wide; {} of {} words have a vector there, {} of their occurrences",
                found.width,
                percent_tenths(coverage.types),
                wanted.len(),
                percent_tenths(coverage.tokens),
            ),
        });
        let mut flat = vec![0.0; vocabulary.len() * found.width];
        for (word, id) in vocabulary.words() {
            if let Some(vector) = found.get(word) {
                let at = id as usize * found.width;
                flat[at..at + found.width].copy_from_slice(vector);
            }
        }
        tables.push(Tensor::from_slice(&flat).reshape([-1, found.width as i64]));
    }
    let table = match fitting {
        Fitting::AsTheyAre => Tensor::cat(&tables, 1),
        Fitting::To(width) => fitted(&tables, width as i64),
    };
    let _ = tch::no_grad(|| table.get(i64::from(PADDING)).zero_());
    Ok(Vectors { table, sources })
}

/// One scale, the width wanted, and something for every word.
fn fitted(tables: &[Tensor], width: i64) -> Tensor {
    let known: Vec<Tensor> =
        tables.iter().map(|t| t.abs().sum_dim_intlist(1, true, None::<Kind>).gt(0.0)).collect();
    let scaled: Vec<Tensor> = (tables.iter().zip(&known))
        .map(|(table, known)| {
            let rows = table.masked_select(known);
            let noise = table.randn_like() * DEVIATION_UNKNOWN;
            (table / rows.std(false) * DEVIATION).where_self(known, &noise)
        })
        .collect();
    let mut table = Tensor::cat(&scaled, 1);
    if table.size()[1] > width {
        let centred = &table - table.mean_dim(0, true, None::<Kind>);
        let (_, directions) = centred.tr().matmul(&centred).linalg_eigh("L");
        let most = directions.size()[1] - width;
        table = table.matmul(&directions.narrow(1, most, width));
        table = &table / table.std(false) * DEVIATION;
    }
    table.to_device(Device::Cpu)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn tables_of_one_file_and_of_two() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let files = [
            file("a.txt", "good 1 2 3\nbad -1 -2 -3\n"),
            file("b.vec", "2 2\ngood 5 5\nplane 7 -7\n"),
        ];
        let words: Vec<String> = ["good", "bad", "plane", "zzz"].map(str::to_owned).to_vec();
        let vocabulary = Vocabulary::build_closed([words.as_slice()], 9, 1);
        let counts: HashMap<String, usize> = words.into_iter().map(|word| (word, 1)).collect();
        let row = |table: &Tensor, word: &str| {
            let id = i64::from(vocabulary.id(word).unwrap());
            Vec::<f32>::try_from(table.get(id)).unwrap()
        };

        let plain = read(&files[..1], &vocabulary, &counts, Fitting::AsTheyAre).unwrap();
        assert_eq!(row(&plain.table, "bad"), [-1.0, -2.0, -3.0]);
        assert_eq!(row(&plain.table, "zzz"), [0.0; 3]);
        assert!(
            plain.sources[0].to_string().contains("a.txt (3 wide; 50.0 % of 4 words"),
            "{:?}",
            plain.sources
        );

        let both = read(&files, &vocabulary, &counts, Fitting::To(9)).unwrap();
        assert_eq!(both.table.size(), [5, 5], "narrow enough already");
        let good = row(&both.table, "good");
        assert!((good[1] / good[0] - 2.0).abs() < 1e-5 && good[3] == good[4], "{good:?}");
        assert!(row(&both.table, "zzz").iter().all(|n| *n != 0.0));

        let reduced = read(&files, &vocabulary, &counts, Fitting::To(2)).unwrap();
        assert_eq!(reduced.table.size(), [5, 2]);
        let (good, bad) = (row(&reduced.table, "good"), row(&reduced.table, "bad"));
        let cosine =
            (good[0] * bad[0] + good[1] * bad[1]) / (good[0].hypot(good[1]) * bad[0].hypot(bad[1]));
        assert!(cosine < -0.5, "opposites stay opposites: {cosine}");
        assert_eq!(Vec::<f32>::try_from(reduced.table.get(0)).unwrap(), [0.0; 2], "padding");
    }
}
