//! Every PromQL of the dashboards: of metrics that there are, and answered by a real Prometheus that scrapes the demo.

use std::collections::BTreeMap;

use serde_json::Value;

use super::demo::Demo;
use super::expand::{Chosen, with_variables};
use super::{dashboards, items, text};
use crate::deploy::Prometheus;

/// In a demo that goes well these have no answer.
const MAY_BE_EMPTY: [&str; 4] =
    ["ALERTS", "monitor_notices_total", "monitor_partitions_paused", "monitor_drift"];

/// Place, expression and whether it is asked for a single moment.
fn expressions() -> Vec<(String, String, bool)> {
    let mut found = Vec::new();
    for dashboard in dashboards() {
        for panel in dashboard.panels() {
            for target in items(&panel["targets"]).iter().filter(|it| it["expr"].is_string()) {
                let place =
                    format!("{}, {}, {}", dashboard.name, panel["title"], text(&target["refId"]));
                found.push((place, text(&target["expr"]).to_owned(), target["instant"] == true));
            }
        }
    }
    assert!(found.len() > 25, "only {}", found.len());
    found
}

/// Metric and label of each variable that asks Prometheus.
fn label_values() -> Vec<(String, String)> {
    let dashboards = dashboards();
    let variables = dashboards.iter().flat_map(|it| it.variables());
    let queries = variables.filter_map(|it| it["query"]["query"].as_str());
    let split = |query: &str| {
        let inner = query.strip_prefix("label_values(")?.strip_suffix(')')?;
        let (metric, label) = inner.rsplit_once(", ")?;
        Some((metric.to_owned(), label.to_owned()))
    };
    queries.map(|query| split(query).unwrap_or_else(|| panic!("{query}"))).collect()
}

/// All chosen, as Grafana puts it in, and a rate over some scrapes of the test.
fn expand(expression: &str) -> String {
    let values = [("job", ".+"), ("instance", ".+"), ("__rate_interval", "30s")];
    let variables = values.map(|(name, value)| (name.to_owned(), Chosen::One(value.to_owned())));
    with_variables(expression, &BTreeMap::from(variables))
}

#[test]
fn panels_name_only_metrics_that_there_are() {
    let names = include_str!("../../../crates/telemetry/src/lib.rs");
    for (place, expression, _) in expressions() {
        let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
        let words = expression.split(|c| !is_name(c)).filter(|it| it.starts_with("monitor_"));
        for word in words {
            let base = word.trim_end_matches("_bucket");
            assert!(names.contains(&format!("{base:?}")), "{place}: there is no {word}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus"]
async fn every_promql_answers_on_the_demo() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let demo = Demo::start().await;
    let prometheus = Prometheus::scraping(demo.page.trim_start_matches("http://"));
    prometheus.until(r#"rate(monitor_records_total{job="monitor"}[30s])"#).await;
    let get = async |path: &str, query: &[(&str, &str)]| prometheus.get(path, query).await;
    let has_result = |answer: &Value| !items(&answer["data"]["result"]).is_empty();

    let mut wrong = Vec::new();
    for (place, expression, instant) in expressions() {
        let query = expand(&expression);
        let answer = if instant {
            get("query", &[("query", &query)]).await
        } else {
            let now = get("query", &[("query", "time()")]).await.unwrap();
            let to = now["data"]["result"][0].as_f64().unwrap();
            let (from, to) = ((to - 10.0).to_string(), to.to_string());
            get("query_range", &[("query", &query), ("start", &from), ("end", &to), ("step", "1")])
                .await
        };
        let answer = answer.unwrap();
        let may_be_empty = MAY_BE_EMPTY.iter().any(|it| expression.contains(it));
        if answer["status"] != "success" || !(has_result(&answer) || may_be_empty) {
            wrong.push(format!("{place}: {query}: {answer}"));
        }
    }
    for (metric, label) in label_values() {
        let answer =
            get(&format!("label/{label}/values"), &[("match[]", &expand(&metric))]).await.unwrap();
        if items(&answer["data"]).len() != 1 {
            wrong.push(format!("{metric}, {label}: {answer}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    drop(prometheus);
    demo.end().await;
}
