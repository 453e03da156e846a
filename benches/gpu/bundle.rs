//! A folder that measures on another machine, which has neither Rust nor the repository.
//!
//! **Invariant.** The packed files lie as in the repository, so the benchmark finds them there too.
//! Only the files that the model reads to score are packed. Deliberately absent: libtorch, which is
//! that of the machine's own torch.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use monitor_model as classifier;

use super::{SCRIPT, TWEETS};

/// What a person can carry to a machine with a GPU.
const BYTES_MAX: u64 = 60 << 20;

/// Writes the folder, which must not exist yet, and says how large it is.
pub fn write(folder: &Path, models: &Path, names: &[&str]) -> anyhow::Result<()> {
    ensure!(!folder.exists(), "{} exists: name a new folder", folder.display());
    let inside = tempfile::tempdir()?;
    let inside = inside.path();
    let program = std::env::current_exe()?;
    run(Command::new("strip").arg("-o").arg(inside.join("gpu")).arg(program))?;

    for name in names {
        let manifest = classifier::read_manifest(models, name)?;
        let from = classifier::folder(models, &manifest.id());
        let to = classifier::folder(&inside.join("models"), &manifest.id());
        copy(&from.join("manifest.json"), &to.join("manifest.json"))?;
        for (file, _) in manifest.files_read() {
            copy(&from.join(file), &to.join(file))?;
        }
    }
    copy(&models.join("promoted.json"), &inside.join("models/promoted.json"))?;
    for path in [TWEETS, SCRIPT] {
        copy(Path::new(path), &inside.join(path))?;
    }
    let commit = run(Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=40"]))?;
    fs::write(inside.join("commit"), commit)?;

    fs::create_dir_all(folder)?;
    let packed = folder.join("packed.tar.xz");
    let mut tar = Command::new("tar");
    tar.args(["--use-compress-program", "xz -6 -T0", "-cf"]).arg(packed);
    run(tar.arg("-C").arg(inside).arg("."))?;
    copy(Path::new("benches/gpu/run"), &folder.join("run"))?;

    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        bytes += entry?.metadata()?.len();
    }
    let mib = bytes as f64 / f64::from(1 << 20);
    println!("{}: {mib:.1} MiB; there: bash run", folder.display());
    ensure!(bytes < BYTES_MAX, "that is not below {} MiB", BYTES_MAX >> 20);
    Ok(())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to.parent().context("a file has a folder")?)?;
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

/// What a command prints.
fn run(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {errors}");
    Ok(output.stdout)
}
