//! The SQL of the dashboards in grafana/, for their own time ranges.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, anyhow};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::expand::{Chosen, Range, expand};

/// Name and SQL of each panel, as if it were looked at at the end of the data, for all brands or "brand 1".
pub fn panels(until: DateTime<Utc>, brands: u32) -> anyhow::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for name in ["overview", "brand", "incident", "models"] {
        let file = fs::read_to_string(format!("grafana/dashboards/{name}.json"))?;
        let dashboard: Value = serde_json::from_str(&file)?;
        let days = dashboard["time"]["from"]
            .as_str()
            .and_then(|it| it.strip_prefix("now-")?.strip_suffix('d'));
        let days: i64 = days.with_context(|| format!("{name}: days"))?.parse()?;
        let range = Range { from: until - TimeDelta::days(days), to: until };
        let many = items(&dashboard["templating"]["list"])
            .iter()
            .any(|it| it["name"] == "brand" && it["multi"] == true);
        let brand = match many {
            true => Chosen::Many((1..=brands).map(|n| format!("brand {n}")).collect()),
            false => Chosen::One("brand 1".into()),
        };
        let variables = BTreeMap::from([
            ("brand".to_owned(), brand),
            ("incident".to_owned(), Chosen::One("1".into())),
            ("step".to_owned(), Chosen::One("3h".into())),
        ]);
        for panel in items(&dashboard["panels"]) {
            for target in items(&panel["targets"]) {
                let sql = target["rawSql"].as_str().context("SQL")?;
                let sql =
                    expand(sql, &variables, range).map_err(|error| anyhow!("{name}: {error}"))?;
                let title = panel["title"].as_str().unwrap_or_default();
                found.push((format!("{name}, {days} days: {title}"), sql));
            }
        }
    }
    Ok(found)
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
