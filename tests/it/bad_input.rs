//! `monitor retrain` with invalid files and a full disk: it prints a clear error and leaves the
//! folder of models unchanged.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Folder of unfinished trainings; complete checkpoints may stay there.
const RUNS: &str = ".runs";
const DATA: &str = "tests/fixtures/sentiment.csv";
/// An archive may always unpack to this many bytes, whatever its size.
const FREE_BYTES: usize = 64 << 20;

fn monitor() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_monitor"));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

/// A folder with one promoted model, trained once for all tests here.
fn models() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let arguments = ["retrain", "lstm", "--data", DATA, "--epochs", "1", "--output"];
        let output = monitor().args(arguments).arg(folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(folder.path().join("promoted.json").exists());
        folder
    });
    folder.path()
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Every folder and file below, with the content of the files.
fn content(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(content(&path));
            found.insert(path, None);
        } else {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, Some(bytes));
        }
    }
    found
}

/// Asserts that the program ended with status 1 and one line of error that contains all of
/// `expected`.
fn refused(name: &str, output: &Output, expected: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    let error = text.lines().last().unwrap_or_default();
    assert_eq!(output.status.code(), Some(1), "{name}: {text}");
    assert!(error.starts_with("error: "), "{name}: {text}");
    for part in expected {
        assert!(error.contains(part), "{name}: {part:?} is not in {text}");
    }
    let mut parts: Vec<&str> = error.split(": ").collect();
    parts.sort_unstable();
    assert!(parts.windows(2).all(|pair| pair[0] != pair[1]), "{name}: said twice: {error}");
}

/// Asserts that a folder of models is unchanged, except for complete checkpoints.
fn unchanged(name: &str, before: &BTreeMap<PathBuf, Option<Vec<u8>>>, folder: &Path) {
    let runs = folder.join(RUNS);
    let (added, after): (BTreeMap<_, _>, BTreeMap<_, _>) =
        content(folder).into_iter().partition(|(path, _)| path.starts_with(&runs));
    let names = |content: &BTreeMap<PathBuf, _>| content.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&after), names(before), "{name}");
    assert!(after == *before, "{name}: a file has changed");
    let files = added.iter().filter(|(_, bytes)| bytes.is_some());
    for (path, _) in files {
        assert_eq!(path.file_name().unwrap(), "checkpoint", "{name}: {}", path.display());
    }
}

/// Retrains on `data` from `embeddings`, which must fail.
fn check(name: &str, data: &Path, embeddings: Option<&Path>, expected: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    copy_folder(models(), folder.path());
    let before = content(folder.path());
    let mut command = monitor();
    command.args(["retrain", "lstm", "--epochs", "1", "--data"]).arg(data);
    command.arg("--output").arg(folder.path());
    command.args(embeddings.into_iter().flat_map(|path| [Path::new("--embeddings"), path]));
    let output = command.output().unwrap();
    refused(name, &output, expected);
    unchanged(name, &before, folder.path());
}

fn zip(content: &[u8]) -> Vec<u8> {
    let mut out = zip::ZipWriter::new(Cursor::new(Vec::new()));
    out.start_file("inside", zip::write::SimpleFileOptions::default()).unwrap();
    out.write_all(content).unwrap();
    out.finish().unwrap().into_inner()
}

#[test]
fn rejects_invalid_data() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, bytes: &[u8], expected: &str| {
        let path = folder.path().join("tweets.csv");
        fs::write(&path, bytes).unwrap();
        check(name, &path, None, &["tweets.csv", expected]);
    };
    check("empty", b"", "empty");
    check("wrong column count", &b"\"0\",\"1\",\"it broke\"\n".repeat(50), "rows");
    check("another kind of file", &[0x89, b'P', b'N', b'G', 0, 1, 2, b'\n'].repeat(50), "rows");
    check("zip bomb", &zip(&vec![b' '; FREE_BYTES + 1]), "bomb");
    let sound = fs::read(DATA).unwrap();
    let packed = zip(&sound);
    check("zip cut off", &packed[..packed.len() / 2], "zip archive is damaged or cut short");
    let few = sound.split_inclusive(|byte| *byte == b'\n').take(3).collect::<Vec<_>>().concat();
    let path = folder.path().join("tweets.csv");
    fs::write(&path, few).unwrap();
    self::check("hardly a row", &path, None, &["give more rows"]);
}

#[test]
fn rejects_invalid_embeddings() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, bytes: &[u8], expected: &str| {
        let path = folder.path().join("vectors.txt");
        fs::write(&path, bytes).unwrap();
        check(name, Path::new(DATA), Some(&path), &["vectors.txt", expected]);
    };
    let sound = "the 1 2 3 4\nawful .1 .2 .3 .4\nhappy 4 3 2 1\n";
    check("empty", b"", "empty");
    check("other content", &fs::read(DATA).unwrap(), "no word embeddings");
    check("NaN", sound.replace("4 3", "4 nan").as_bytes(), "line 3 (\"happy\") holds \"nan\"");
    check("infinity", sound.replace(".2", "inf").as_bytes(), "line 2 (\"awful\") holds \"inf\"");
    check("narrow in the middle", sound.replace(" .4", "").as_bytes(), "line 2 has 3 numbers");
    check("wide in the middle", sound.replace(".4", ".4 .5").as_bytes(), "line 2 has 5 numbers");
    check("cut off", format!("4 4\n{sound}").as_bytes(), "promises 4 words, and it ends after 3");
    let binary = |number: f32| {
        let rows = ["the", "awful"]
            .map(|word| [format!("{word} ").as_bytes(), &[0; 12], &number.to_le_bytes()].concat());
        [&b"2 4\n"[..], &rows.concat()].concat()
    };
    check("binary, NaN", &binary(f32::NAN), "word 1 (\"the\") holds \"NaN\"");
    let whole = binary(1.0);
    check("binary, cut off", &whole[..whole.len() - 3], "promises 2 words, and it ends after 1");
    let packed = zip(sound.repeat(100).as_bytes());
    check("zip cut off", &packed[..packed.len() / 2], "zip archive is damaged or cut short");
    let blank =
        [sound.as_bytes(), &[&[b' '; 999][..], b"\n"].concat().repeat(FREE_BYTES / 1000 + 1)];
    check("zip bomb", &zip(&blank.concat()), "bomb");
    check("another language", b"haus 1 2\nhund 3 4\n", "none of its 2 words");
    let nowhere = folder.path().join("nowhere.vec");
    self::check("missing", Path::new(DATA), Some(&nowhere), &["nowhere.vec", "No such file"]);
}

#[test]
fn rejects_a_truncated_weights_file() {
    let folder = tempfile::tempdir().unwrap();
    copy_folder(models(), folder.path());
    let weights = folder.path().join("lstm/1/weights.safetensors");
    let whole = fs::read(&weights).unwrap();
    let set = format!("model.directory={}", folder.path().display());
    for end in [0, 7, whole.len() / 2, whole.len() - 1] {
        fs::write(&weights, &whole[..end]).unwrap();
        let arguments = ["score", "a fine day", "--model", "lstm", "--set", &set];
        let output = monitor().args(arguments).output().unwrap();
        refused(&format!("{end} bytes"), &output, &["weights.safetensors", "truncated"]);
        assert!(output.stdout.is_empty(), "{end} bytes");
    }
}

/// A limit on file sizes has the same effect as a full disk.
#[test]
fn reports_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    copy_folder(models(), folder.path());
    let before = content(folder.path());
    // 64 KiB, in POSIX blocks of 512 bytes.
    let script = "trap '' XFSZ; ulimit -f 128; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_monitor")]);
    command.args(["retrain", "lstm", "--data", DATA, "--epochs", "1", "--output"]);
    command.arg(folder.path()).current_dir(env!("CARGO_MANIFEST_DIR"));
    refused("checkpoint", &command.output().unwrap(), &["checkpoint", "File too large"]);
    unchanged("checkpoint", &before, folder.path());
}

/// Runs `retrain` with a small temporary file system as its folder of models; returns the output
/// and the files left there, except locks. `None` if mounting is not allowed.
fn on_a_small_disk(options: &str) -> Option<(Output, String)> {
    let folder = tempfile::tempdir().unwrap();
    let (disk, list) = (folder.path().join("disk"), folder.path().join("list"));
    fs::create_dir(&disk).unwrap();
    let script = format!(
        "mount -t tmpfs -o {options} tmpfs \"$1\" || exit 99; disk=$1; list=$2; shift 2; \
         \"$@\"; status=$?; \
         (cd \"$disk\" && find . -type f ! -name '.*.lock') >\"$list\"; exit $status"
    );
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script, "sh"]).args([&disk, &list]);
    command.arg(env!("CARGO_BIN_EXE_monitor"));
    command.args(["retrain", "lstm", "--data", DATA, "--epochs", "1", "--output"]).arg(&disk);
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output();
    // Mounting requires root; without it there is no list.
    let found = output.ok().and_then(|output| Some((output, fs::read_to_string(list).ok()?)));
    if found.is_none() {
        eprintln!("skipped: file systems cannot be mounted here");
    }
    found
}

#[test]
fn reports_a_full_small_disk() {
    // A checkpoint has four arrays in single precision for one in half precision.
    let weights = fs::metadata(models().join("lstm/1/weights.safetensors")).unwrap().len();
    let but_not_the_weights = 8 * weights + weights / 2;
    let whole = "./.runs/lstm/checkpoint\n";
    for (file, bytes, expected) in
        [("checkpoint", 65_536, ""), ("weights.safetensors", but_not_the_weights, whole)]
    {
        let Some((output, left)) = on_a_small_disk(&format!("size={bytes}")) else { return };
        refused(file, &output, &[file, "No space left on device"]);
        assert_eq!(left, expected, "{file}");
    }
}

#[test]
fn reports_a_read_only_folder() {
    let folder = tempfile::tempdir().unwrap();
    let retrain = |output: &Path| {
        let arguments = ["retrain", "lstm", "--data", DATA, "--epochs", "1", "--output"];
        monitor().args(arguments).arg(output).output().unwrap()
    };
    let file = folder.path().join("file");
    fs::write(&file, "here").unwrap();
    refused("a file", &retrain(&file), &["file", "not a directory"]);
    assert_eq!(fs::read(&file).unwrap(), b"here");

    let locked = folder.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    // Root ignores permissions, but cannot write to a read-only file system.
    if fs::write(locked.join("probe"), "").is_ok() {
        let Some((output, left)) = on_a_small_disk("ro") else { return };
        refused("read-only", &output, &["Read-only file system"]);
        assert_eq!(left, "");
    } else {
        refused("locked", &retrain(&locked), &["locked", "Permission denied"]);
        assert_eq!(fs::read_dir(&locked).unwrap().count(), 0);
    }
}
