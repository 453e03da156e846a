//! Every SQL of the dashboards, run by the read-only role on the demo's data.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Column, Connection, PgConnection, Row, TypeInfo};

use super::demo::Demo;
use super::expand::{Chosen, Range, expand};
use super::picture::{Answers, picture};
use super::{Dashboard, dashboards, items, root, text};
use crate::store_contract::views::{TWEETS, UNTIL, filled, rows_read};

/// A time of any time zone: the queries may not depend on it.
const ZONE: &str = "SET timezone = 'Asia/Kolkata'";

/// Where an SQL is written.
pub enum Kind<'a> {
    Panel(&'a Value),
    Variable,
    Annotation,
}

pub struct Query<'a> {
    /// The dashboard and the panel, for messages.
    pub place: String,
    pub kind: Kind<'a>,
    pub sql: &'a str,
}

/// All SQL of a dashboard.
pub fn queries(dashboard: &Dashboard) -> Vec<Query<'_>> {
    let place = |what: &Value| format!("{}, {what}", dashboard.name);
    let mut found = Vec::new();
    for variable in dashboard.variables().iter().filter(|it| it["type"] == "query") {
        if let Some(sql) = variable["query"].as_str() {
            found.push(Query { place: place(&variable["name"]), kind: Kind::Variable, sql });
        }
    }
    for annotation in dashboard.annotations() {
        let sql = text(&annotation["target"]["rawSql"]);
        found.push(Query { place: place(&annotation["name"]), kind: Kind::Annotation, sql });
    }
    for panel in dashboard.panels() {
        for target in items(&panel["targets"]).iter().filter(|it| it["rawSql"].is_string()) {
            let sql = text(&target["rawSql"]);
            let place = format!("{}, {}", place(&panel["title"]), text(&target["refId"]));
            found.push(Query { place, kind: Kind::Panel(panel), sql });
        }
    }
    found
}

/// What a person has chosen on top of a dashboard.
#[derive(Clone)]
pub struct Choice {
    /// Where one brand can be chosen.
    pub brand: String,
    /// Where several can.
    pub brands: Vec<String>,
    pub incident: String,
    pub range: Range,
}

impl Choice {
    pub fn expand(&self, dashboard: &Dashboard, query: &Query<'_>) -> String {
        let chosen = |variable: &Value| match (text(&variable["name"]), variable["multi"] == true) {
            ("brand", true) => Chosen::Many(self.brands.clone()),
            ("brand", false) => Chosen::One(self.brand.clone()),
            ("incident", false) => Chosen::One(self.incident.clone()),
            _ => Chosen::One(text(&variable["current"]["value"]).to_owned()),
        };
        let variables = dashboard.variables().iter();
        let variables: BTreeMap<_, _> =
            variables.map(|it| (text(&it["name"]).to_owned(), chosen(it))).collect();
        expand(query.sql, &variables, self.range)
            .unwrap_or_else(|error| panic!("{}: {error}", query.place))
    }
}

/// What a query answers.
pub struct Answer {
    /// Name and type of each column.
    pub columns: Vec<(String, String)>,
    /// Each row as an object.
    pub rows: Vec<Value>,
}

pub async fn ask(connection: &mut PgConnection, sql: &str) -> Result<Answer, sqlx::Error> {
    // A row there always is, for the columns.
    let shape = format!("SELECT q.* FROM (SELECT 1) AS one LEFT JOIN ({sql}) AS q ON true LIMIT 1");
    let row = sqlx::query(AssertSqlSafe(shape)).fetch_one(&mut *connection).await?;
    let columns = row.columns().iter();
    let columns =
        columns.map(|it| (it.name().to_owned(), it.type_info().name().to_owned())).collect();
    let rows = format!("SELECT row_to_json(q) FROM ({sql}) AS q");
    let rows = sqlx::query_scalar(AssertSqlSafe(rows)).fetch_all(connection).await?;
    Ok(Answer { columns, rows })
}

fn is_number(kind: &str) -> bool {
    ["INT2", "INT4", "INT8", "FLOAT4", "FLOAT8", "NUMERIC"].contains(&kind)
}

/// Seconds since 1970 of a time, or of a number that is one.
pub fn seconds(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| {
        let at: DateTime<Utc> = value.as_str()?.parse().ok()?;
        Some(at.timestamp_millis() as f64 / 1000.0)
    })
}

/// Checks what Grafana needs of an answer.
fn check(query: &Query<'_>, answer: &Answer, range: Range) {
    let place = &query.place;
    let kind = |name: &str| answer.columns.iter().find(|it| it.0 == name).map(|it| it.1.as_str());
    let names: BTreeSet<&str> = answer.columns.iter().map(|it| it.0.as_str()).collect();
    assert_eq!(names.len(), answer.columns.len(), "{place}: two columns have one name");
    for row in &answer.rows {
        for (name, kind) in answer.columns.iter().filter(|it| is_number(&it.1)) {
            let value = &row[name];
            assert!(value.is_null() || value.is_number(), "{place}: {name} ({kind}) is {value}");
        }
    }
    let times: Vec<f64> = match kind("time") {
        Some(_) => answer.rows.iter().map(|row| seconds(&row["time"]).expect("a time")).collect(),
        None => vec![],
    };
    match query.kind {
        Kind::Variable => {
            let names: Vec<&str> = answer.columns.iter().map(|it| it.0.as_str()).collect();
            assert!(names == ["__text", "__value"] || names == ["brand"], "{place}: {names:?}");
        }
        Kind::Annotation => {
            assert_eq!(
                (kind("time"), kind("text")),
                (Some("TIMESTAMPTZ"), Some("TEXT")),
                "{place}"
            );
            if kind("timeend").is_some() {
                assert_eq!(kind("timeend"), Some("TIMESTAMPTZ"), "{place}");
                for (row, from) in answer.rows.iter().zip(&times) {
                    let to = seconds(&row["timeend"]).expect("a time");
                    assert!(*from <= to, "{place}: {row}");
                    let (first, last) =
                        (range.from.timestamp() as f64, range.to.timestamp() as f64);
                    assert!(
                        *from <= last && to >= first,
                        "{place}: outside of the time range: {row}"
                    );
                }
            }
        }
        Kind::Panel(panel) if panel["type"] == "timeseries" => {
            let time = kind("time");
            assert!(
                time.is_some_and(|it| it == "TIMESTAMPTZ" || is_number(it)),
                "{place}: {time:?}"
            );
            assert!(times.is_sorted(), "{place}: not in the order of time");
            let (first, last) = (range.from - TimeDelta::days(1), range.to);
            let inside =
                |at: &f64| (first.timestamp() as f64..=last.timestamp() as f64).contains(at);
            assert!(times.iter().all(inside), "{place}: outside of the time range");
            let others = || answer.columns.iter().filter(|it| it.0 != "time");
            assert!(others().any(|it| is_number(&it.1)), "{place}: no number to draw");
            let labels: Vec<_> = others().filter(|it| !is_number(&it.1)).collect();
            assert!(
                labels.len() <= 1 && labels.iter().all(|it| it.1 == "TEXT"),
                "{place}: {labels:?}"
            );
        }
        Kind::Panel(panel) if panel["type"] == "stat" => {
            assert!(answer.rows.len() <= 1, "{place}: a single row");
            let is_text = panel["fieldConfig"]["defaults"]["unit"] == "string";
            assert!(
                is_text || answer.columns.iter().all(|it| is_number(&it.1)),
                "{place}: {:?}",
                answer.columns
            );
        }
        Kind::Panel(_) => {}
    }
}

/// Checks that what is set for single columns is set for columns that there are.
fn check_overrides(panel: &Value, columns: &BTreeSet<String>, place: &str) {
    for one in items(&panel["fieldConfig"]["overrides"]) {
        let name = text(&one["matcher"]["options"]);
        assert!(columns.contains(name), "{place}: an override of {name}, of {columns:?}");
        for property in items(&one["properties"]) {
            if property["id"] == "custom.fillBelowTo" {
                assert!(columns.contains(text(&property["value"])), "{place}: {property}");
            }
        }
    }
    let defaults = panel["fieldConfig"]["defaults"].to_string();
    for label in defaults.split("${__field.labels.").skip(1).map(|it| it.split_once('}').unwrap().0)
    {
        assert!(columns.contains(label), "{place}: the label {label}, of {columns:?}");
    }
    for field in
        panel.to_string().split("${__data.fields.").skip(1).map(|it| it.split_once('}').unwrap().0)
    {
        assert!(columns.contains(field), "{place}: the field {field}, of {columns:?}");
    }
}

/// What the demo has none of: a brand with a quote in its name, authors, a switch and a retraining.
const MORE: &str = "
    INSERT INTO minute_counts SELECT 'O''Neill', minute, total, negative, model FROM minute_counts WHERE brand = 'United';
    INSERT INTO hour_counts SELECT 'O''Neill', hour, model, language, tweets, negative, neutral
        FROM hour_counts WHERE brand = 'United';
    INSERT INTO day_counts SELECT 'O''Neill', day, model, language, tweets, negative, neutral
        FROM day_counts WHERE brand = 'United';
    INSERT INTO incidents (brand, cause, severity, opened_at, evidence)
        SELECT 'O''Neill', cause, severity, opened_at, evidence FROM incidents WHERE brand = 'Southwest' LIMIT 1;
    UPDATE scores SET author = '#' || right(tweet_id, 2), followers = right(tweet_id, 3)::bigint;
    INSERT INTO model_switches (minute, model, gap_from) VALUES ('2015-02-22 00:00+00', 'next@2', '2015-02-22 00:00+00');
    INSERT INTO rescored_counts (model, brand, minute, instead_of, total, negative, gained, lost, not_judged)
        SELECT 'next@2', brand, minute, model, total, negative, 0, 0, 0 FROM minute_counts;
    INSERT INTO retrainings (reason, due_at, started_at, attempts, model, outcome, note, ended_at)
        VALUES ('schedule', '2015-02-20', '2015-02-20', 1, 'next@2', 'promoted', 'better', '2015-02-20 01:00+00');";

/// These may be empty: whether somebody was not told depends on how fast the week is read.
const EMPTY: [&str; 1] = ["incident, \"Who was not told, and why\", A"];

fn week() -> Range {
    let at = |text: &str| text.parse().expect("a time");
    Range { from: at("2015-02-16T00:00:00Z"), to: at("2015-02-25T00:00:00Z") }
}

async fn run(sql: &'static str, connection: &mut PgConnection) {
    sqlx::raw_sql(sql).execute(connection).await.unwrap_or_else(|error| panic!("{error}: {sql}"));
}

/// Runs all queries of all dashboards; those of the week must answer with rows.
async fn check_all(connection: &mut PgConnection, choice: &Choice, has_rows: bool) -> usize {
    let mut checked = 0;
    for dashboard in &dashboards() {
        let mut columns: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
        for query in queries(dashboard) {
            let sql = choice.expand(dashboard, &query);
            let answer = ask(&mut *connection, &sql).await;
            let answer = answer.unwrap_or_else(|error| panic!("{}: {error}: {sql}", query.place));
            check(&query, &answer, choice.range);
            if has_rows && !EMPTY.contains(&query.place.as_str()) {
                assert!(!answer.rows.is_empty(), "{}: no row: {sql}", query.place);
            }
            if let Kind::Panel(panel) = query.kind {
                let found = columns.entry(panel["id"].as_u64().unwrap()).or_default();
                found.extend(answer.columns.into_iter().map(|it| it.0));
            }
            checked += 1;
        }
        for panel in dashboard.panels() {
            if let Some(columns) = columns.get(&panel["id"].as_u64().unwrap()) {
                check_overrides(panel, columns, &format!("{}, {}", dashboard.name, panel["title"]));
            }
        }
    }
    checked
}

/// The values of a variable that asks the database.
async fn values(
    connection: &mut PgConnection,
    dashboard: &str,
    name: &str,
    choice: &Choice,
) -> Vec<Value> {
    let dashboards = dashboards();
    let dashboard = dashboards.iter().find(|it| it.name == dashboard).unwrap();
    let queries = queries(dashboard);
    let query =
        queries.iter().find(|it| it.place == format!("{}, {name:?}", dashboard.name)).unwrap();
    ask(connection, &choice.expand(dashboard, query)).await.unwrap().rows
}

/// Draws the dashboard of a brand with an incident; into docs/grafana.svg if `$MONITOR_PICTURES` is set.
async fn draw(connection: &mut PgConnection) {
    let choice = Choice {
        brand: "Southwest".into(),
        brands: vec![],
        incident: String::new(),
        range: week(),
    };
    let dashboards = dashboards();
    let dashboard = dashboards.iter().find(|it| it.name == "brand").unwrap();
    let (mut answers, mut regions) = (Answers::new(), None);
    for query in queries(dashboard) {
        let answer = ask(&mut *connection, &choice.expand(dashboard, &query)).await.unwrap();
        match query.kind {
            Kind::Panel(panel) => {
                answers.entry(panel["id"].as_u64().unwrap()).or_default().push(answer)
            }
            Kind::Annotation => regions = Some(answer),
            Kind::Variable => {}
        }
    }
    let svg =
        picture(dashboard, "Monitor: brand Southwest", &answers, &regions.unwrap(), choice.range);
    for part in [
        "Share of negative tweets",
        "Most negative tweets",
        "95 % to",
        "<polygon",
        "<polyline",
        "corrected",
    ] {
        assert!(svg.contains(part), "{part} is not in the picture");
    }
    if std::env::var_os("MONITOR_PICTURES").is_some() {
        fs::write(root("docs/grafana.svg"), svg).unwrap();
    }
}

async fn number(sql: &'static str, connection: &mut PgConnection) -> i64 {
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_answers_on_the_demo_as_the_reader() {
    let demo = Demo::start().await;
    let url = demo.url();
    let mut owner = PgConnection::connect(&url).await.unwrap();
    let role = format!("grafana_{}", std::process::id());
    let mut migrate = Command::new(env!("CARGO_BIN_EXE_monitor"));
    let granted = migrate
        .args(["migrate", "--reader", &role])
        .env("MONITOR_STORE__URL", &url)
        .output()
        .unwrap();
    assert!(granted.status.success(), "{}", String::from_utf8_lossy(&granted.stderr));
    let mut reader = PgConnection::connect(&url).await.unwrap();
    let become_reader = format!("{ZONE}; SET ROLE {role}; SET default_transaction_read_only = on");
    sqlx::raw_sql(AssertSqlSafe(become_reader)).execute(&mut reader).await.unwrap();
    draw(&mut reader).await;

    run(MORE, &mut owner).await;
    let mentions = "SELECT count(*) FROM scores, unnest(brands) AS brand WHERE label IS NOT NULL";
    let mentions = number(mentions, &mut owner).await
        + number(
            "SELECT sum(tweets)::bigint FROM hour_counts WHERE brand = 'O''Neill' AND model <> ''",
            &mut owner,
        )
        .await;

    let nothing =
        Choice { brand: String::new(), brands: vec![], incident: String::new(), range: week() };
    let brands = values(&mut reader, "overview", "brand", &nothing).await;
    let brands: Vec<String> = brands.iter().map(|it| text(&it["brand"]).to_owned()).collect();
    assert!(brands.len() == 7 && brands.contains(&"O'Neill".to_owned()), "{brands:?}");
    let incidents = values(&mut reader, "incident", "incident", &nothing).await;
    let incident = |brand: &str| {
        let found = incidents.iter().find(|it| text(&it["__text"]).contains(brand));
        found.unwrap_or_else(|| panic!("no incident of {brand} in {incidents:?}"))["__value"]
            .to_string()
    };
    let storm = Choice {
        brand: "Southwest".into(),
        brands,
        incident: incident("Southwest"),
        range: week(),
    };
    let checked = check_all(&mut reader, &storm, true).await;
    assert!(checked > 40, "only {checked} queries");
    let quote = vec!["O'Neill".to_owned(), "United".to_owned()];
    let quoted = Choice {
        brand: "O'Neill".into(),
        brands: quote,
        incident: incident("O'Neill"),
        range: week(),
    };
    check_all(&mut reader, &quoted, false).await;
    check_all(&mut reader, &nothing, false).await;
    let range =
        Range { from: week().from - TimeDelta::days(4000), to: week().to - TimeDelta::days(4000) };
    check_all(&mut reader, &Choice { range, ..storm.clone() }, false).await;

    // What a panel says is what is stored.
    let dashboards = dashboards();
    let overview = dashboards.iter().find(|it| it.name == "overview").unwrap();
    let panels = queries(overview);
    let tweets = panels.iter().find(|it| it.place == "overview, \"Tweets\", A").unwrap();
    let shown = ask(&mut reader, &storm.expand(overview, tweets)).await.unwrap();
    assert_eq!(shown.rows[0]["tweets"], mentions);

    let dropped = format!("RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}");
    owner.close().await.unwrap();
    let mut owner = PgConnection::connect(&url).await.unwrap();
    reader.close().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(dropped)).execute(&mut owner).await.unwrap();
    owner.close().await.unwrap();
    demo.end().await;
}

/// The names of the tables that a plan reads from their first to their last row, but for empty ones.
fn whole_tables(plan: &Value, found: &mut Vec<String>) {
    if plan["Node Type"] == "Seq Scan" && plan["Actual Rows"].as_f64() > Some(0.0) {
        found.push(text(&plan["Relation Name"]).to_owned());
    }
    for below in items(&plan["Plans"]) {
        whole_tables(below, found);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_panel_reads_all_tweets() {
    let (store, _) = filled().await;
    let mut connection = store.pool().acquire().await.unwrap();
    let to: DateTime<Utc> = UNTIL.replacen(' ', "T", 1).replace("+00", ":00Z").parse().unwrap();
    let brands = (1..=20).map(|n| format!("brand {n}")).collect();
    let range = Range { from: to - TimeDelta::days(90), to };
    let choice = Choice { brand: "brand 1".into(), brands, incident: "1".into(), range };
    for dashboard in &dashboards() {
        for query in queries(dashboard) {
            let sql = format!(
                "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {}",
                choice.expand(dashboard, &query)
            );
            let plan: Value =
                sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *connection).await.unwrap();
            let plan = &plan[0]["Plan"];
            let read = rows_read(plan);
            assert!(read < TWEETS as f64 / 5.0, "{}: {read} rows of scores read", query.place);
            let mut whole = Vec::new();
            whole_tables(plan, &mut whole);
            // Of a week of which much is wanted Postgres reads all: seven days are in two of them.
            let weeks = whole.iter().filter(|it| it.starts_with("scores")).count();
            assert!(weeks <= 2, "{}: {whole:?}", query.place);
        }
    }
}
