//! `monitor models fetch` against a local model hub over real sockets, and
//! `monitor retrain` with the fetched model. Runs the program as a user does.

mod server;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::support;
use server::{COMMIT, Fault, Hub, WEIGHTS};

/// Environment variables that the program must not inherit.
const OUTSIDE: [&str; 6] = [
    "HF_TOKEN",
    "HF_HUB_OFFLINE",
    "HF_HUB_DOWNLOAD_TIMEOUT",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
];
const OFFLINE: (&str, &str) = ("HF_HUB_OFFLINE", "1");

type Files = BTreeMap<String, Vec<u8>>;

/// A tiny model.
fn tiny() -> Files {
    let folder = tempfile::tempdir().unwrap();
    support::tiny_distilbert(folder.path());
    let files = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (last(&path), fs::read(&path).unwrap())).collect()
}

fn without(file: &str) -> Files {
    let mut files = tiny();
    files.remove(file).unwrap();
    files
}

fn last(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// A hub, and an empty cache.
struct Rig {
    hub: Hub,
    home: TempDir,
}

impl Rig {
    fn new(files: Files, fault: Fault) -> Self {
        Self { hub: Hub::start(files, fault), home: tempfile::tempdir().unwrap() }
    }

    /// The program, with this hub and this cache.
    fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // If it is set, the program does not restart itself.
        command.env("OMP_WAIT_POLICY", "PASSIVE");
        for variable in OUTSIDE {
            command.env_remove(variable);
        }
        command.env("HF_HOME", self.home.path()).env("HF_ENDPOINT", &self.hub.url);
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        command
    }

    fn monitor(&self, words: &str, variables: &[(&str, &str)]) -> Output {
        let mut command = self.program(env!("CARGO_BIN_EXE_monitor"));
        command.args(words.split(' ')).envs(variables.iter().copied()).output().unwrap()
    }

    fn fetch(&self, variables: &[(&str, &str)]) -> Output {
        self.monitor("models fetch tiny", variables)
    }

    fn repository(&self) -> PathBuf {
        self.home.path().join("hub/models--tiny")
    }

    fn folder(&self) -> PathBuf {
        self.repository().join("snapshots").join(COMMIT)
    }

    /// Asserts that the program printed the folder, and that it contains the hub's `files`;
    /// returns the standard error.
    fn fetched(&self, case: &str, output: &Output, files: &[&str]) -> String {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{case}: {said}");
        let printed = String::from_utf8_lossy(&output.stdout);
        assert_eq!(printed, format!("{}\n", self.folder().display()), "{case}");
        let mut found: Vec<String> = fs::read_dir(self.folder())
            .unwrap()
            .map(|entry| last(&entry.unwrap().path()))
            .collect();
        found.sort();
        assert_eq!(found, files, "{case}");
        for file in files {
            let content = fs::read(self.folder().join(file)).unwrap();
            assert!(content == self.hub.files()[*file], "{case}: {file} differs");
        }
        assert_eq!(fs::read_to_string(self.repository().join("refs/main")).unwrap(), COMMIT);
        said
    }

    /// Asserts that the cache has no weights, and that the model cannot be opened.
    fn nothing(&self, case: &str) {
        assert!(
            fs::symlink_metadata(self.folder().join(WEIGHTS)).is_err(),
            "{case}: a link is left"
        );
        assert!(!self.repository().join("blobs").join(self.hub.etag(WEIGHTS)).exists(), "{case}");
        refused(case, &self.fetch(&[OFFLINE]), &["tiny is not in", "HF_HUB_OFFLINE"]);
    }
}

const FILES: [&str; 4] = ["config.json", WEIGHTS, "tokenizer_config.json", "vocab.txt"];

/// Asserts that standard error has only lines of progress and then one error with all of
/// `expected`.
fn refused(case: &str, output: &Output, expected: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    let error = said.lines().last().unwrap_or_default();
    assert_eq!(output.status.code(), Some(1), "{case}: {said}");
    assert!(error.starts_with("error: ") && !said.contains("panicked"), "{case}: {said}");
    for part in expected {
        assert!(error.contains(part), "{case}: {part:?} is not in {said}");
    }
}

#[test]
fn fetches_once_and_opens_without_a_network() {
    let rig = Rig::new(tiny(), Fault::None);
    rig.nothing("before");
    let said = rig.fetched("first", &rig.fetch(&[]), &FILES);
    assert!(said.contains("tiny: model.safetensors: 0.2 MB fetched, checksum agrees"), "{said}");
    let whole =
        ["config.json 0-", "vocab.txt 0-", "tokenizer_config.json 0-", "model.safetensors 0-"];
    assert_eq!(rig.hub.downloads(), whole);

    let said = rig.fetched("again", &rig.fetch(&[]), &FILES);
    assert!(said.contains("model.safetensors: there already, checksum agrees"), "{said}");
    assert_eq!(rig.hub.downloads(), [""; 0], "nothing is downloaded twice");

    let nowhere = [OFFLINE, ("HF_ENDPOINT", "http://127.0.0.1:1")];
    let said = rig.fetched("offline", &rig.fetch(&nowhere), &FILES);
    assert_eq!(said, "");

    let commit = format!("models fetch tiny --revision {COMMIT}");
    rig.fetched("a commit", &rig.monitor(&commit, &[]), &FILES);
    rig.fetched("a commit offline", &rig.monitor(&commit, &[OFFLINE]), &FILES);
    assert_eq!(rig.hub.downloads(), [""; 0]);

    // The content of the cache is verified, too.
    let weights = rig.folder().join(WEIGHTS);
    let mut damaged = fs::read(&weights).unwrap();
    damaged[100] ^= 1;
    fs::write(&weights, damaged).unwrap();
    let said = rig.fetched("damaged", &rig.fetch(&[]), &FILES);
    assert!(said.contains("what the cache has is damaged"), "{said}");
    fs::remove_file(&weights).unwrap();
    rig.fetched("a link that is gone", &rig.fetch(&[]), &FILES);
    fs::remove_file(fs::canonicalize(&weights).unwrap()).unwrap();
    rig.fetched("a link to nowhere", &rig.fetch(&[]), &FILES);
    assert_eq!(rig.hub.downloads(), ["model.safetensors 0-"; 2]);

    // A copied cache has files instead of links; `fetched` compares them.
    fs::remove_file(&weights).unwrap();
    fs::write(&weights, "damaged on the way").unwrap();
    rig.fetched("a file in place of the link", &rig.fetch(&[]), &FILES);
    assert_eq!(rig.hub.downloads(), [""; 0]);
}

#[test]
fn resumes_interrupted_downloads() {
    let bytes = tiny()[WEIGHTS].len();
    let weights = |rig: &Rig| -> Vec<String> {
        let downloads = rig.hub.downloads().into_iter();
        downloads.filter_map(|line| Some(line.strip_prefix("model.safetensors ")?.into())).collect()
    };
    let rig = Rig::new(tiny(), Fault::Cut(1));
    let said = rig.fetched("once", &rig.fetch(&[]), &FILES);
    assert!(said.contains("attempt 1 of 5 failed; trying again"), "{said}");
    assert_eq!(weights(&rig), ["0-".to_owned(), format!("{}-", bytes / 2)]);

    let rig = Rig::new(tiny(), Fault::Cut(6));
    refused("always", &rig.fetch(&[]), &["model.safetensors: the connection broke", "resumes"]);
    rig.nothing("always");
    assert_eq!(weights(&rig).len(), 5);
    rig.fetched("the same again", &rig.fetch(&[]), &FILES);
    let asked = weights(&rig);
    assert!(asked.len() == 2 && asked.iter().all(|range| range != "0-"), "{asked:?}");

    let rig = Rig::new(tiny(), Fault::CutThenWhole);
    rig.fetched("a server that sends the whole", &rig.fetch(&[]), &FILES);
    assert_eq!(weights(&rig), ["0-".to_owned(), format!("{}-", bytes / 2)], "and not again");

    let rig = Rig::new(tiny(), Fault::Whole);
    rig.fetched("a server without ranges", &rig.fetch(&[]), &FILES);

    // Invalid parts, which a disk or a program may have left.
    for (case, part) in [("other bytes", bytes / 3), ("whole", bytes), ("too long", bytes + 1)] {
        let rig = Rig::new(tiny(), Fault::None);
        let blobs = rig.repository().join("blobs");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(rig.hub.etag(WEIGHTS) + ".part"), vec![7; part]).unwrap();
        rig.fetched(case, &rig.fetch(&[]), &FILES);
    }
}

#[test]
fn accepts_models_without_optional_files() {
    let mut fast = without("vocab.txt");
    fast.remove("tokenizer_config.json");
    fast.insert("tokenizer.json".into(), support::tiny_tokenizer());
    let rig = Rig::new(fast, Fault::None);
    rig.fetched("tokenizer.json", &rig.fetch(&[]), &["config.json", WEIGHTS, "tokenizer.json"]);
    let rig = Rig::new(without("tokenizer_config.json"), Fault::None);
    rig.fetched("vocab.txt alone", &rig.fetch(&[]), &["config.json", WEIGHTS, "vocab.txt"]);
}

#[test]
fn rejects_faulty_hubs() {
    let check = |case: &str, fault: Fault, variables: &[(&str, &str)], expected: &[&str]| {
        let rig = Rig::new(tiny(), fault);
        refused(case, &rig.fetch(variables), expected);
        rig.nothing(case);
    };
    let short =
        ["model.safetensors: ", " bytes came where the hub names ", "fetch the model again"];
    check("truncated", Fault::Short, &[], &short);
    let damaged = ["model.safetensors: its checksum is ", "it is removed"];
    check("another byte", Fault::Damaged, &[], &damaged);
    let timeout = [("HF_HUB_DOWNLOAD_TIMEOUT", "1")];
    let silent = ["model.safetensors: nothing came for 1 s", "resumes there"];
    check("silent", Fault::Silent, &timeout, &silent);
    check("unauthorised", Fault::Status(401), &[], &["(status 401)", "check the name", "HF_TOKEN"]);
    check("gated", Fault::Status(403), &[], &["(status 403)", "accept its terms"]);
    check("ill", Fault::Status(503), &[], &["answers 503", "config.json of tiny", "later"]);
    let unknown = ["has no model \"tiny\" at revision \"main\""];
    check("unknown", Fault::Status(404), &[], &unknown);
    check("no checksum", Fault::Etag("../../../x"), &[], &["no checksum of config.json", "x"]);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = format!("http://127.0.0.1:{port}");
    let endpoint = [("HF_ENDPOINT", nobody.as_str())];
    check("nobody", Fault::None, &endpoint, &["cannot reach", &nobody, "refused", "--base"]);
    check("no address", Fault::None, &[("HF_ENDPOINT", "hub")], &["hub", "HF_ENDPOINT"]);
}

#[test]
fn rejects_invalid_models() {
    let check = |case: &str, files: Files, words: &str, expected: &[&str]| {
        let rig = Rig::new(files, Fault::None);
        refused(case, &rig.monitor(&format!("models fetch {words}"), &[]), expected);
        let asked = rig.hub.downloads();
        assert!(!asked.iter().any(|line| line.contains(".bin")), "{case}: {asked:?}");
    };
    check("another name", tiny(), "owner/other", &["has no model \"owner/other\""]);
    check("revision", tiny(), "tiny --revision v9", &["\"tiny\" at revision \"v9\""]);
    for name in ["../tiny", "a/b/c", "/tmp", "tiny/", "a..b", "a--b", "a?b"] {
        check(name, tiny(), name, &["is not a model's name", "owner/name"]);
    }
    for revision in ["../main", "a//b", "x?y"] {
        check(revision, tiny(), &format!("tiny --revision {revision}"), &["is not a revision"]);
    }
    let mut pickle = without(WEIGHTS);
    check("no weights", pickle.clone(), "tiny", &["tiny has no model.safetensors"]);
    pickle.insert("pytorch_model.bin".into(), b"\x80\x02evil".to_vec());
    check("a pickle", pickle, "tiny", &["only as pytorch_model.bin", "never downloaded nor read"]);
    check("no words", without("vocab.txt"), "tiny", &["has no tokenizer.json or vocab.txt"]);
    check("no configuration", without("config.json"), "tiny", &["with a config.json"]);
    let mut other = tiny();
    other.insert("config.json".into(), br#"{"model_type": "roberta"}"#.to_vec());
    check("another kind", other, "tiny", &["tiny is fetched, but", "config.json", "\"roberta\""]);
}

#[test]
fn a_token_gives_access_to_private_models() {
    let rig = Rig::new(tiny(), Fault::Private);
    refused("no token", &rig.fetch(&[]), &["(status 401)", "HF_TOKEN"]);
    refused("another token", &rig.fetch(&[("HF_TOKEN", "other")]), &["(status 401)"]);
    rig.fetched("the token", &rig.fetch(&[("HF_TOKEN", "secret\n")]), &FILES);
}

#[test]
fn a_token_stays_with_the_hub() {
    let rig = Rig::new(tiny(), Fault::Elsewhere);
    rig.fetched("large files on another host", &rig.fetch(&[("HF_TOKEN", "secret")]), &FILES);
    let asked = rig.hub.asked();
    assert!(asked.iter().any(|line| line.ends_with(" 0-0")), "the size is asked there: {asked:?}");
    let told: Vec<_> = asked.iter().filter(|line| line.contains("secret")).collect();
    assert_eq!(told, [""; 0]);
}

#[test]
fn reports_a_full_disk() {
    let rig = Rig::new(tiny(), Fault::None);
    // 64 KiB, in POSIX blocks of 512 bytes.
    let script = "trap '' XFSZ; ulimit -f 128; exec \"$@\"";
    let mut command = rig.program("sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_monitor"), "models", "fetch", "tiny"]);
    refused("full", &command.output().unwrap(), &["the cache in", "File too large", "HF_HOME"]);
    rig.nothing("full");
    rig.fetched("again", &rig.fetch(&[]), &FILES);
    assert!(!rig.hub.downloads().contains(&"model.safetensors 0-1".into()));
}

#[test]
fn retrains_from_a_fetched_model() {
    let rig = Rig::new(tiny(), Fault::None);
    let models = tempfile::tempdir().unwrap();
    let output = models.path().display();
    let words = format!(
        "retrain transformer --data tests/fixtures/sentiment.csv --rows 200 --epochs 1 --output {output}"
    );
    let named = format!("{words} --base tiny");
    let advice = ["no folder tiny", "monitor models fetch tiny"];
    refused("before it is fetched", &rig.monitor(&named, &[]), &advice);
    let advice = ["pretrained weights", "monitor models fetch distilbert-base-uncased"];
    refused("no base", &rig.monitor(&words, &[]), &advice);
    assert_eq!(fs::read_dir(models.path()).unwrap().count(), 0);
    let all = rig.monitor(&words.replace("retrain transformer", "retrain"), &[]);
    let said = String::from_utf8_lossy(&all.stderr);
    assert!(all.status.success(), "no base for all: {said}");
    assert!(said.contains("leaving out the transformer: ") && said.contains(advice[1]), "{said}");
    assert!(models.path().join("lstm/1").is_dir() && !models.path().join("transformer").exists());
    assert_eq!(rig.hub.downloads(), [""; 0], "retrain downloads nothing");

    rig.fetched("fetched", &rig.fetch(&[]), &FILES);
    let check = |case: &str, base: &str, version: u32| {
        let trained = rig.monitor(&format!("{words} --base {base}"), &[]);
        assert!(trained.status.success(), "{case}: {}", String::from_utf8_lossy(&trained.stderr));
        let path = models.path().join(format!("transformer/{version}/manifest.json"));
        let manifest: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let command = manifest["command"].as_str().unwrap();
        assert!(command.contains(" --base tiny --"), "{case}: {command}");
        let source = &manifest["data"]["embeddings"][0]["file"];
        assert_eq!(source, "tiny/model.safetensors", "{case}");
    };
    check("by name", "tiny", 1);
    check("by folder", rig.folder().to_str().unwrap(), 2);
}

#[test]
fn prints_help() {
    let rig = Rig::new(Files::new(), Fault::None);
    let help = rig.monitor("models fetch --help", &[]);
    let help = String::from_utf8(help.stdout).unwrap();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    insta::assert_snapshot!(help.join("\n"), @r"
    Download a pretrained BERT or DistilBERT, for `monitor retrain transformer --base NAME`

    Fetches config.json, model.safetensors and tokenizer.json (or vocab.txt) from the model hub into the
    cache shared with Python's huggingface_hub, checks sizes and checksums, and prints the folder.
    Complete files in the cache are not fetched again; interrupted downloads are resumed. Weights in a
    pickle (pytorch_model.bin) are not fetched.

    Environment, as in Python: HF_HOME (where the cache is; ~/.cache/huggingface), HF_ENDPOINT (another
    hub), HF_TOKEN (for private and gated models), HF_HUB_OFFLINE=1 (use the cache only),
    HF_HUB_DOWNLOAD_TIMEOUT (seconds without a byte; 10), HTTPS_PROXY.

    Usage: monitor models fetch [OPTIONS] <NAME>

    Arguments:
      <NAME>
              The model's name on the hub, such as distilbert-base-uncased or owner/name

    Options:
      -c, --config <FILE>
              Settings file (TOML)

              [env: MONITOR_CONFIG=]

          --revision <REVISION>
              Branch, tag or commit

              [default: main]

          --set <KEY=VALUE>
              Set one value, such as `kafka.topic=tweets`; may be repeated

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version
    ");
}
