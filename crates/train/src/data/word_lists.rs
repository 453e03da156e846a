//! Finds the word lists of the `study` preset on this machine.
//!
//! | list | as NLTK's data | as WordNet's own |
//! | --- | --- | --- |
//! | stop words | `corpora/stopwords[.zip]`: `english` | |
//! | dictionary | `corpora/words[.zip]`: `en`, `en-basic` | |
//! | nouns | `corpora/wordnet[.zip]`: `index.noun`, `noun.exc` | the same files in `dict` |
//!
//! The search order is: the caller's folder, at any depth and also in `wordnet-3.0.tar.xz`;
//! NLTK's folders, `$NLTK_DATA` first; WordNet's folders, `$WNSEARCHDIR` and `$WNHOME` first.
//!
//! **Invariant.** All files of a list come from one place; a place that lacks one of them is
//! skipped. Deliberately absent: downloads, and other languages.

use std::collections::HashMap;
use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use monitor_core::text::{Lexicon, LexiconError, LexiconSources};

use super::packed;

/// Largest file; WordNet's `index.noun` has 4.8 MB.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Depth to which the caller's folder is searched.
const DEPTH_MAX: usize = 6;

/// A list and the files it consists of.
#[derive(Debug)]
struct List {
    /// Its usual name.
    title: &'static str,
    /// Its name among NLTK's corpora.
    corpus: &'static str,
    files: &'static [&'static str],
    /// Another way to get it.
    package: &'static str,
}

const STOP_WORDS: List =
    List { title: "English stop words", corpus: "stopwords", files: &["english"], package: "" };
const DICTIONARY: List =
    List { title: "English dictionary", corpus: "words", files: &["en", "en-basic"], package: "" };
const WORDNET: List = List {
    title: "nouns of WordNet",
    corpus: "wordnet",
    files: &["index.noun", "noun.exc"],
    package: " or `apt install wordnet-base`",
};

/// A word list that is missing or damaged.
#[derive(Debug, thiserror::Error)]
pub enum WordListError {
    /// The list was not found.
    #[error(
        "the {title} ({files}) are missing, and the study preset needs them. Get them with \
         `python -m nltk.downloader stopwords words wordnet`{package}, or name the folder that \
         holds them (--word-lists). Looked at: {}", list_of(.places)
    )]
    Missing {
        /// Which list.
        title: &'static str,
        /// The files it consists of.
        files: String,
        /// Another way to get it.
        package: &'static str,
        /// Every place searched, in order.
        places: Vec<PathBuf>,
    },
    /// The caller's folder, or a file of a list, cannot be read.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Which folder or file.
        path: PathBuf,
        /// The error of the system or the decoder.
        source: io::Error,
    },
    /// The files exist but their content is invalid.
    #[error("{}: {source}; fetch it again", list_of(.places))]
    Content {
        /// Where the lists came from.
        places: Vec<PathBuf>,
        /// What is wrong.
        source: LexiconError,
    },
}

fn list_of(places: &[PathBuf]) -> String {
    places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Reads the word lists from `folder` if it has them, else from the standard places.
///
/// # Errors
/// [`WordListError`]: a list is missing or damaged.
pub fn find(folder: Option<&Path>) -> Result<Lexicon, WordListError> {
    find_among(folder, &nltk_places(), &wordnet_places())
}

/// The folders that NLTK searches, in its order.
fn nltk_places() -> Vec<PathBuf> {
    let given = env::var_os("NLTK_DATA").unwrap_or_default();
    let home = env::home_dir().map(|home| home.join("nltk_data"));
    let fixed = ["/usr/share", "/usr/local/share", "/usr/lib", "/usr/local/lib"];
    (env::split_paths(&given).filter(|path| !path.as_os_str().is_empty()))
        .chain(home)
        .chain(fixed.map(|folder| Path::new(folder).join("nltk_data")))
        .collect()
}

/// The folders that WordNet searches, and Debian's.
fn wordnet_places() -> Vec<PathBuf> {
    let search = env::var_os("WNSEARCHDIR").map(PathBuf::from);
    let home = env::var_os("WNHOME").map(|home| Path::new(&home).join("dict"));
    search.into_iter().chain(home).chain(["/usr/share/wordnet".into()]).collect()
}

fn find_among(
    folder: Option<&Path>,
    nltk: &[PathBuf],
    wordnet: &[PathBuf],
) -> Result<Lexicon, WordListError> {
    let mut below = Vec::new();
    if let Some(folder) = folder {
        fs::read_dir(folder).map_err(at(folder))?;
        walk(folder, 0, &mut below);
    }
    let search = |list: &List| {
        let archives = [format!("{}.zip", list.corpus), format!("{}-3.0.tar.xz", list.corpus)];
        let own = below
            .iter()
            .filter(|path| path.is_dir() || archives.iter().any(|archive| path.ends_with(archive)));
        let standard = nltk.iter().flat_map(|place| {
            let corpus = place.join("corpora").join(list.corpus);
            [corpus.clone(), corpus.with_extension("zip")]
        });
        let dict = wordnet.iter().filter(|_| list.corpus == WORDNET.corpus).cloned();
        for path in own.cloned().chain(standard.clone()).chain(dict.clone()) {
            if let Some(files) = read(&path, list.files).map_err(at(&path))? {
                return Ok((path, files));
            }
        }
        Err(WordListError::Missing {
            title: list.title,
            files: list.files.join(", "),
            package: list.package,
            places: (folder.map(Path::to_owned).into_iter()).chain(standard).chain(dict).collect(),
        })
    };
    let (stop_words_path, stop_words) = search(&STOP_WORDS)?;
    let (dictionary_path, dictionary) = search(&DICTIONARY)?;
    let (wordnet_path, wordnet) = search(&WORDNET)?;
    let sources = LexiconSources {
        stop_words: &stop_words[0],
        dictionary: &dictionary.join("\n"),
        index_noun: &wordnet[0],
        noun_exc: &wordnet[1],
    };
    let places = vec![stop_words_path, dictionary_path, wordnet_path];
    tracing::info!(lists = list_of(&places), "word lists found");
    Lexicon::from_sources(&sources).map_err(|source| WordListError::Content { places, source })
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> WordListError {
    let path = path.to_owned();
    move |source| WordListError::Io { path, source }
}

/// Adds `folder` and everything readable in it to `found`, in alphabetical order.
fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    found.push(folder.to_owned());
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() && !path.is_symlink() && depth < DEPTH_MAX {
            walk(&path, depth + 1, found);
        } else {
            found.push(path);
        }
    }
}

/// The contents of `names` in a folder or an archive; `None` if it does not exist or
/// lacks one of them.
fn read(path: &Path, names: &[&str]) -> io::Result<Option<Vec<String>>> {
    let mut found = HashMap::new();
    if path.is_dir() {
        for name in names.iter().filter(|name| path.join(name).is_file()) {
            found.insert(*name, text(File::open(path.join(name))?)?);
        }
    } else if path.is_file() && path.extension().is_some_and(|end| end == "zip") {
        let mut archive = zip::ZipArchive::new(io::BufReader::new(File::open(path)?))?;
        for index in 0..archive.len() {
            let entry = archive.by_index(index)?;
            let name = wanted(Path::new(&*entry.name()?), names);
            if let Some(name) = name {
                found.insert(name, text(entry)?);
            }
        }
    } else if path.is_file() {
        let mut archive = tar::Archive::new(packed::open(path)?);
        for entry in archive.entries()? {
            let entry = entry?;
            let name = wanted(&entry.path()?, names);
            if let Some(name) = name {
                found.insert(name, text(entry)?);
            }
            if found.len() == names.len() {
                break;
            }
        }
    }
    Ok(names.iter().map(|name| found.remove(name)).collect())
}

/// The name in `names` that the archive's entry has, regardless of its folder.
fn wanted<'a>(entry: &Path, names: &[&'a str]) -> Option<&'a str> {
    names.iter().copied().find(|name| entry.file_name().is_some_and(|file| file == *name))
}

/// All of `input`, which must be UTF-8 and not too long.
fn text(input: impl Read) -> io::Result<String> {
    let mut text = String::new();
    input.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let limit = format!("longer than {} MiB, so no word list", FILE_BYTES_MAX >> 20);
        return Err(io::Error::new(io::ErrorKind::InvalidData, limit));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Lists of a few words; `noun` distinguishes one WordNet from another.
    fn files(noun: &str) -> [(&'static str, String); 5] {
        [
            ("stopwords/english", "the\n".into()),
            ("words/en", "cat\nAaron\n".into()),
            ("words/en-basic", "dog\n".into()),
            ("wordnet/index.noun", format!("  licence\n{noun} n 1 0 1 0 00000001\n")),
            ("wordnet/noun.exc", format!("{noun}en {noun}\n")),
        ]
    }

    fn put(folder: &Path, name: &str, content: &[u8]) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// The files of a corpus as `corpora/<corpus>/...`.
    fn put_folder(nltk: &Path, corpus: &str, noun: &str) {
        for (name, content) in files(noun).iter().filter(|(name, _)| name.starts_with(corpus)) {
            put(&nltk.join("corpora"), name, content.as_bytes());
        }
    }

    fn zipped(corpus: &str, noun: &str) -> Vec<u8> {
        let mut archive = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default();
        archive.add_directory(corpus, options).unwrap();
        for (name, content) in files(noun).iter().filter(|(name, _)| name.starts_with(corpus)) {
            archive.start_file(*name, options).unwrap();
            archive.write_all(content.as_bytes()).unwrap();
        }
        archive.finish().unwrap().into_inner()
    }

    fn tar_xz(noun: &str) -> Vec<u8> {
        let mut archive = tar::Builder::new(liblzma::write::XzEncoder::new(Vec::new(), 1));
        for (name, content) in files(noun).iter().filter(|(name, _)| name.starts_with("wordnet")) {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            let path = name.replace("wordnet/", "wordnet-3.0/");
            archive.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap().finish().unwrap()
    }

    /// Fills an empty folder with `fill` and searches it: the caller's folder is `given`,
    /// NLTK's `nltk`, WordNet's `dict`, if they exist. Returns the lemma of
    /// "ox-en", "yak-en" or "gnu-en", whichever is known.
    fn search(fill: impl Fn(&Path)) -> Result<&'static str, String> {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path());
        let given = folder.path().join("given");
        let places = [folder.path().join("nltk"), folder.path().join("none")];
        let dict = [folder.path().join("dict")];
        let found = find_among(given.exists().then_some(&*given), &places, &dict);
        found
            .map(|lexicon| {
                assert!(lexicon.is_stop_word("the"));
                assert!(lexicon.is_in_dictionary("cat") && lexicon.is_in_dictionary("dog"));
                let nouns = [("oxen", "ox"), ("yaken", "yak"), ("gnuen", "gnu")];
                let known = nouns.into_iter().find(|(form, noun)| lexicon.lemma(form) == *noun);
                known.expect("one of the three was written").1
            })
            .map_err(|error| {
                error.to_string().replace(&*folder.path().display().to_string(), "ROOT")
            })
    }

    #[test]
    fn finds_the_lists() {
        let check = |name: &str, expected: &str, fill: &dyn Fn(&Path)| {
            assert_eq!(search(fill), Ok(expected).map_err(str::to_owned), "{name}");
        };
        let all = |root: &Path, noun| {
            for corpus in ["stopwords", "words", "wordnet"] {
                put_folder(root, corpus, noun);
            }
        };
        check("NLTK's folders", "ox", &|root| all(&root.join("nltk"), "ox"));
        check("NLTK's archives", "ox", &|root| {
            for corpus in ["stopwords", "words", "wordnet"] {
                let name = format!("nltk/corpora/{corpus}.zip");
                put(root, &name, &zipped(corpus, "ox"));
            }
        });
        check("WordNet's own folder", "gnu", &|root| {
            put_folder(&root.join("nltk"), "stopwords", "");
            put_folder(&root.join("nltk"), "words", "");
            put(root, "dict/index.noun", files("gnu")[3].1.as_bytes());
            put(root, "dict/noun.exc", files("gnu")[4].1.as_bytes());
        });
        check("the given folder comes first", "yak", &|root| {
            all(&root.join("nltk"), "ox");
            all(&root.join("given"), "yak");
        });
        check("and is searched at any depth", "yak", &|root| {
            put(root, "given/a/b/stopwords.zip", &zipped("stopwords", ""));
            put(root, "given/a/words.zip", &zipped("words", ""));
            put(root, "given/wordnet/wordnet-3.0.tar.xz", &tar_xz("yak"));
        });
        check("the standard places fill in", "ox", &|root| {
            all(&root.join("nltk"), "ox");
            put(root, "given/readme.txt", b"");
        });
        check("a place that lacks a part is passed over", "gnu", &|root| {
            all(&root.join("nltk"), "ox");
            fs::remove_file(root.join("nltk/corpora/wordnet/noun.exc")).unwrap();
            put(root, "dict/index.noun", files("gnu")[3].1.as_bytes());
            put(root, "dict/noun.exc", files("gnu")[4].1.as_bytes());
        });
    }

    #[test]
    fn names_missing_and_damaged_files() {
        let check = |name: &str, expected: &[&str], fill: &dyn Fn(&Path)| {
            let error = search(fill).expect_err(name);
            for part in expected {
                assert!(error.contains(part), "{name}: {error}");
            }
        };
        check("nothing at all", &["English stop words (english)", "ROOT/none/corpora"], &|_| {});
        check(
            "no dictionary",
            &["English dictionary (en, en-basic)", "python -m nltk.downloader stopwords words"],
            &|root| put_folder(&root.join("nltk"), "stopwords", ""),
        );
        let but_wordnet = |root: &Path| {
            put_folder(&root.join("nltk"), "stopwords", "");
            put_folder(&root.join("nltk"), "words", "");
        };
        check(
            "no WordNet",
            &[
                "nouns of WordNet (index.noun, noun.exc)",
                "apt install wordnet-base",
                "ROOT/given, ROOT/nltk/corpora/wordnet, ROOT/nltk/corpora/wordnet.zip, ",
                "ROOT/none/corpora/wordnet.zip, ROOT/dict",
            ],
            &|root| {
                but_wordnet(root);
                put(root, "given/readme.txt", b"");
            },
        );
        check("a given file", &["ROOT/given: "], &|root| put(root, "given", b"cat"));
        check("no archive", &["ROOT/nltk/corpora/stopwords.zip: "], &|root| {
            put(root, "nltk/corpora/stopwords.zip", b"<html>not found</html>");
        });
        check("an archive cut off", &["ROOT/given/wordnet-3.0.tar.xz: "], &|root| {
            but_wordnet(root);
            let whole = tar_xz("ox");
            put(root, "given/wordnet-3.0.tar.xz", &whole[..whole.len() / 2]);
        });
        check("no text", &["ROOT/nltk/corpora/stopwords: ", "UTF-8"], &|root| {
            put(root, "nltk/corpora/stopwords/english", b"caf\xe9\n");
        });
        check("no words", &["ROOT/dict: it has no nouns; fetch it again"], &|root| {
            but_wordnet(root);
            put(root, "dict/index.noun", b"  licence\n");
            put(root, "dict/noun.exc", b"oxen ox\n");
        });
    }

    #[test]
    fn rejects_a_decompression_bomb() {
        let check = |name: &str, length: u64, fine: bool| {
            assert_eq!(text(io::repeat(b'a').take(length)).is_ok(), fine, "{name}");
        };
        check("a long list", FILE_BYTES_MAX, true);
        check("longer", FILE_BYTES_MAX + 1, false);
        check("without end", u64::MAX, false);
    }
}
