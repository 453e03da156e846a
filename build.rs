//! Makes the binary find libtorch at run time (torch-sys's own link metadata reaches only
//! its direct dependents), and know the commit it was built from.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    match std::env::var("LIBTORCH") {
        Ok(path) => println!("cargo:rustc-link-arg=-Wl,-rpath,{path}/lib"),
        Err(_) => println!(
            "cargo:warning=LIBTORCH is not set: run scripts/setup, then `eval \"$(scripts/setup --env)\"` in this shell"
        ),
    }
    // Manifests of models name it. Without git, or outside a repository, they do not.
    if let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) {
        println!("cargo:rustc-env=MONITOR_COMMIT={commit}");
    }
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    println!("cargo:rerun-if-changed=build.rs");
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
