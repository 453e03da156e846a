//! Whether commands in the documentation are the program's own.
//!
//! **Invariant.** Subcommands and flags are looked up in `--help`, scripts and benchmarks on the
//! disk; nothing but `--help` is run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::root;

/// The program's own words on its subcommands and flags.
#[derive(Default)]
pub struct Helps(BTreeMap<Vec<String>, String>);

impl Helps {
    fn of(&mut self, path: &[String]) -> &str {
        self.0.entry(path.to_vec()).or_insert_with(|| {
            let program = env!("CARGO_BIN_EXE_monitor");
            let output = Command::new(program).args(path).arg("--help").output().unwrap();
            assert!(output.status.success(), "monitor {} --help", path.join(" "));
            String::from_utf8(output.stdout).unwrap()
        })
    }

    fn subcommands(&mut self, path: &[String]) -> BTreeSet<String> {
        let lines = self.of(path).lines().skip_while(|line| *line != "Commands:").skip(1);
        // Their descriptions are further in, and blank lines may stand between them.
        lines
            .take_while(|line| line.is_empty() || line.starts_with("  "))
            .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
            .filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
            .collect()
    }

    fn flags(&mut self, path: &[String]) -> BTreeSet<String> {
        let indent = |line: &str| line.len() - line.trim_start().len();
        let is_flag =
            |line: &&str| (2..=6).contains(&indent(line)) && line.trim_start().starts_with('-');
        let words = self.of(path).lines().filter(is_flag).flat_map(|line| {
            let line = line.trim_start();
            line.split_once("  ").map_or(line, |(flags, _)| flags).split([' ', ',', '=', '['])
        });
        words.filter(|word| word.starts_with('-')).map(str::to_owned).collect()
    }

    /// What is wrong with the words behind `monitor`, if anything is.
    fn check(&mut self, words: &[String]) -> Result<(), String> {
        let (mut path, mut rest) = (Vec::<String>::new(), words);
        while let [first, behind @ ..] = rest {
            let subcommands = self.subcommands(&path);
            if subcommands.is_empty() || first.starts_with('-') {
                break;
            }
            if !subcommands.contains(first) {
                return Err(format!("there is no `monitor {} {first}`", path.join(" ")));
            }
            path.push(first.clone());
            rest = behind;
        }
        let flags = self.flags(&path);
        for word in rest.iter().filter(|word| word.starts_with('-') && word.len() > 1) {
            let flag = word.split_once('=').map_or(word.as_str(), |(flag, _)| flag);
            if !flags.contains(flag) {
                return Err(format!("`monitor {}` has no {flag}", path.join(" ")));
            }
        }
        Ok(())
    }
}

/// The words of a command up to a comment, pipe or redirection; quotes are taken off.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, '|' | '<' | '>' | ';' | '&') => break,
            (None, ' ') => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// What is wrong with a command line, variables before it aside; `None` where it is none of ours.
pub fn check_command(helps: &mut Helps, line: &str) -> Option<Result<(), String>> {
    let words: Vec<_> = words(line).into_iter().skip_while(|word| word.contains('=')).collect();
    let (program, arguments) = words.split_first()?;
    if ["monitor", "target/release/monitor"].contains(&program.as_str()) {
        return Some(helps.check(arguments));
    }
    if !program.starts_with("scripts/") {
        return None;
    }
    let script = fs::metadata(root().join(program));
    if !script.is_ok_and(|file| file.permissions().mode() & 0o111 != 0) {
        return Some(Err(format!("{program} is not there, or cannot be run")));
    }
    match arguments.first() {
        Some(name) if program == "scripts/bench" && !name.starts_with('-') => {
            let bench = root().join("benches").join(format!("{name}.rs"));
            Some(
                bench.exists().then_some(()).ok_or_else(|| format!("there is no benchmark {name}")),
            )
        }
        _ => Some(Ok(())),
    }
}
