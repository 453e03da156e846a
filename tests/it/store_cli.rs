//! The commands that keep the database: migrate, prune, export, forget.

use std::path::Path;
use std::process::Command;

use parquet::file::reader::SerializedFileReader;
use serde_json::Value;
use sqlx::{Connection, PgConnection};

use crate::support::fresh_database;

/// What a command prints to its standard output and error, and whether it succeeds.
fn monitor(url: &str, arguments: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_monitor"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("MONITOR_STORE__URL", url).args(arguments);
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

/// The rows of a Parquet file, as its library shows them.
fn parquet(file: &Path) -> Vec<String> {
    let file = SerializedFileReader::new(std::fs::File::open(file).unwrap()).unwrap();
    file.into_iter().map(|row| row.unwrap().to_string()).collect()
}

/// Two old tweets and a new one, of two authors.
const TWEETS: &str = "
    SELECT make_score_partitions(at, at) FROM unnest('{2020-01-01, 2026-11-20}'::timestamptz[]) AS at;
    INSERT INTO scores (tweet_id, created_at, brands, text, negative, label, model, author) VALUES
        ('1', '2020-01-01 10:00+00', '{acme}', 'first, and \"quoted\"', 0.9, 'NEGATIVE', 'm@1', 'ann'),
        ('2', '2020-01-01 11:00+00', '{acme}', 'second', 0.1, 'POSITIVE', 'm@1', 'bob'),
        ('3', '2026-11-20 10:00+00', '{acme}', 'third', 0.1, 'POSITIVE', 'm@1', 'ann');
    INSERT INTO tweet_ids SELECT tweet_id, created_at FROM scores;
    INSERT INTO day_counts (brand, day, model, language, tweets, negative, neutral) VALUES
        ('acme', '2020-01-01', 'm@1', 'en', 2, 1, 0), ('acme', '2026-11-20', 'm@1', 'en', 1, 0, 0);";

#[tokio::test(flavor = "multi_thread")]
async fn the_database_is_kept_from_the_command_line() {
    let url = fresh_database().await;
    let reader = format!("reader_{}", std::process::id());
    let (ok, out, err) = monitor(&url, &["migrate", "--reader", &reader]);
    assert!(ok, "{err}");
    let expected = format!(
        "the schema is up to date\nthe role {reader} may read the views\n\
         it is new: set its password with \\password {reader} in psql\n"
    );
    assert_eq!(out, expected);
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("SET timezone = 'UTC'").execute(&mut connection).await.unwrap();
    sqlx::raw_sql(TWEETS).execute(&mut connection).await.unwrap();

    let from = ["--from", "2019-12-01"];
    let (ok, out, err) = monitor(&url, &[&["export", "tweets"], &from[..]].concat());
    assert!(ok, "{err}");
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 4, "{out}");
    assert!(lines[0].starts_with("tweet_id,created_at,brands,text,"), "{out}");
    assert!(lines[1].contains(r#""first, and ""quoted""""#), "{out}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("days.csv");
    let to_file = ["--to", "2021-01-01", "--out", file.to_str().unwrap()];
    let arguments = [&["export", "share_per_day"], &from[..], &to_file].concat();
    let (ok, out, err) = monitor(&url, &arguments);
    assert!(ok && out.is_empty() && err.starts_with("wrote "), "{out} {err}");
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(written.lines().nth(1).unwrap().starts_with("acme,2020-01-01 00:00:00+00,2,1,0,0.5,"));
    let exported = |what: &str| {
        let file = folder.path().join(format!("{what}.PARQUET"));
        let to_file = ["--out", file.to_str().unwrap()];
        let (ok, out, err) = monitor(&url, &[&["export", what], &from[..], &to_file].concat());
        assert!(ok && out.is_empty() && err.starts_with("wrote "), "{what}: {out} {err}");
        let rows = parquet(&file);
        assert!(err.ends_with(&format!("({} rows)\n", rows.len())), "{err}");
        rows
    };
    let tweets = exported("tweets");
    assert_eq!(tweets.len(), 3);
    for part in [
        r#"created_at: 2020-01-01 10:00:00.000000 +00:00, brands: ["acme"], text: "first, and "quoted"""#,
        r#"negative: 0.9, label: "NEGATIVE""#,
        "followers: null",
        "truncated: false",
    ] {
        assert!(tweets[0].contains(part), "{part} is not in {}", tweets[0]);
    }
    let days = exported("share_per_day");
    let first = r#"{brand: "acme", day: 2020-01-01 00:00:00.000000 +00:00, tweets: 2, negative: 1, neutral: 0, share: 0.5, "#;
    assert!(days.len() == 2 && days[0].starts_with(first), "{days:?}");
    // Each can be written, also without rows: every type of theirs is known.
    for what in ["share_per_minute", "share_per_hour", "incidents"] {
        assert_eq!(exported(what), [""; 0]);
    }
    let (ok, _, err) =
        monitor(&url, &["export", "tweets", "--from", "2030-01-01", "--to", "2029-01-01"]);
    assert!(!ok && err.contains("is not before --to"), "{err}");
    let (ok, _, err) =
        monitor(&url, &[&["export", "tweets", "--brand", "acme"], &from[..]].concat());
    assert!(!ok && err.contains("there is no brand \"acme\""), "{err}");

    let keep = ["--set", "store.keep_days=400"];
    let (ok, out, err) = monitor(&url, &[&["prune", "--dry-run", "--json"], &keep[..]].concat());
    assert!(ok, "{err}");
    let planned: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(planned["weeks"][0]["table"], "scores_2019_12_30", "{out}");
    assert_eq!(
        (planned["weeks"].as_array().unwrap().len(), &planned["dry_run"]),
        (1, &Value::Bool(true))
    );
    let (ok, out, err) = monitor(&url, &[&["prune"], &keep[..]].concat());
    assert!(ok && err == "removing scores_2019_12_30\n", "{err}");
    assert!(out.starts_with("removed scores_2019_12_30: about "), "{out}");
    let (_, out, _) = monitor(&url, &[&["prune"], &keep[..]].concat());
    assert!(out.starts_with("nothing is too old\n"), "{out}");

    let (ok, out, err) = monitor(&url, &["forget", "--author", "ann"]);
    assert!(ok && out == "deleted 1 tweets of \"ann\"\n", "{out} {err}");
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM scores").fetch_one(&mut connection).await.unwrap();
    assert_eq!(left, 0);
    let drop = format!("DROP OWNED BY {reader}; DROP ROLE {reader}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(drop)).execute(&mut connection).await.unwrap();
}
