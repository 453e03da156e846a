//! Who runs a command.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// The name of the user who runs this process: `$USER`, else `$LOGNAME`, else the one that
/// `/etc/passwd` has for the process's number, else that number. Daemons and containers have no `$USER`.
pub(super) fn me() -> String {
    let named = ["USER", "LOGNAME"].into_iter().filter_map(|name| env::var(name).ok());
    let users = || fs::read_to_string("/etc/passwd").unwrap_or_default();
    let id = || fs::metadata("/proc/self").map(|it| it.uid()).ok();
    choose(named, id, users)
}

fn choose(
    mut named: impl Iterator<Item = String>,
    id: impl Fn() -> Option<u32>,
    users: impl Fn() -> String,
) -> String {
    if let Some(name) = named.find(|name| !name.trim().is_empty()) {
        return name;
    }
    let Some(id) = id() else { return "unknown".into() };
    let number = id.to_string();
    let of_line = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        (fields.nth(1) == Some(number.as_str()) && !name.is_empty()).then_some(name)
    };
    users().lines().find_map(of_line).unwrap_or_else(|| format!("user {id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_name() {
        let passwd =
            || "root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n".to_owned();
        let check = |name, variables: &[&str], id, expected: &str| {
            let named = variables.iter().map(|name| (*name).to_owned());
            assert_eq!(choose(named, || id, passwd), expected, "{name}");
        };
        check("$USER", &["grace"], Some(1000), "grace");
        check("an empty $USER", &["", "grace"], Some(1000), "grace");
        check("no variable", &[], Some(1000), "ada");
        check("a number without a name", &[], Some(7), "user 7");
        check("nothing", &[" "], None, "unknown");
    }
}
