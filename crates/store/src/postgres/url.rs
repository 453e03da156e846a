//! Reads `store.url`, as psql does.
//!
//! **Invariant.** No message contains a part of the URL that may be a password.

use sqlx::postgres::PgConnectOptions;

/// What is told of a URL that is none.
const EXAMPLE: &str = "give a URL such as postgres://user:password@host:5432/database";
/// The values of `sslmode`.
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// Parses a URL. The host may be empty, as in `postgres://monitor@/monitor?host=/run/postgresql`.
pub(super) fn parse(url: &str) -> Result<PgConnectOptions, sqlx::Error> {
    let (before, query) = url.split_once('?').map_or((url, ""), |(before, query)| (before, query));
    // The URL crate refuses a user without a host. A `host` of the query replaces this one.
    match before.split_once("@/") {
        Some((user, database)) if !user.contains('@') => {
            format!("{user}@localhost/{database}?{query}").parse()
        }
        _ => url.parse(),
    }
}

/// What is wrong with a URL, and what to do; `None` if it can be used.
pub fn postgres_url_problem(url: &str) -> Option<String> {
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
    let Some(rest) = rest else { return Some(EXAMPLE.to_owned()) };
    if let Some((_, query)) = rest.split_once('?') {
        let modes = query.split('&').filter_map(|pair| {
            pair.strip_prefix("sslmode=").or_else(|| pair.strip_prefix("ssl-mode="))
        });
        for mode in modes {
            if !SSL_MODES.contains(&mode.to_ascii_lowercase().as_str()) {
                let mode: String = mode.chars().take(40).collect();
                return Some(format!("sslmode={mode}: choose one of {}", SSL_MODES.join(", ")));
            }
        }
    }
    // These characters end the part with the password; behind them there is still an `@`.
    let ends = |c| matches!(c, '/' | '?' | '#');
    let password_is_raw = rest.split_once(ends).is_some_and(|(before, behind)| {
        let port = before.split_once(':').map(|(_, port)| port.parse::<u16>());
        matches!(port, Some(Err(_))) && !before.contains('@') && behind.contains('@')
    });
    match parse(url) {
        _ if password_is_raw => Some(
            "the password has a character that ends it in a URL; write such characters percent-encoded: \
             %23 for #, %2F for /, %3F for ?, %40 for @"
                .to_owned(),
        ),
        Ok(_) => None,
        Err(_) => Some(EXAMPLE.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connects_as_psql_does() {
        let check = |url: &str, host: &str, socket: Option<&str>, database: Option<&str>| {
            assert_eq!(postgres_url_problem(url), None, "{url}");
            let options = parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            let socket = socket.map(std::path::PathBuf::from);
            assert_eq!(options.get_socket(), socket.as_ref(), "{url}");
            assert_eq!((options.get_host(), options.get_database()), (host, database), "{url}");
            assert_eq!(options.get_username(), "monitor", "{url}");
        };
        check("postgres://monitor:pw@db.example:5433/m", "db.example", None, Some("m"));
        check("postgresql://monitor@db.example/m?sslmode=require", "db.example", None, Some("m"));
        let socket = Some("/run/pg");
        check("postgres://monitor@/m?host=/run/pg", "localhost", socket, Some("m"));
        check(
            "postgres://monitor:p%2Fw@/m?host=/run/pg&sslmode=prefer",
            "localhost",
            socket,
            Some("m"),
        );
        check("postgres://monitor@/m", "localhost", None, Some("m"));
        check("postgres://monitor:p%23%40%2Fw@h/m", "h", None, Some("m"));
        check("postgres://h:5432/m?user=monitor&application_name=a@b", "h", None, Some("m"));
    }

    #[test]
    fn names_what_is_wrong() {
        let check = |url: &str, part: &str| {
            let found = postgres_url_problem(url).unwrap_or_default();
            assert!(found.contains(part), "{url}: {found:?}");
            assert!(!found.contains("hunter"), "{url}: {found:?}");
        };
        check("localhost:5432", "give a URL such as");
        check("mysql://monitor@h/m", "give a URL such as");
        check("postgres://monitor@h:port/m", "give a URL such as");
        check("postgres://monitor:hunter#2@h/m", "%23 for #");
        check("postgres://monitor:hunter/2@h/m", "%2F for /");
        check("postgres://monitor:hunter?2@h/m", "%3F for ?");
        check(
            "postgres://monitor@h/m?sslmode=bogus",
            "sslmode=bogus: choose one of disable, allow",
        );
    }
}
