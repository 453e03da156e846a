//! What Grafana puts into the SQL of a panel before Postgres gets it: variables in the browser, then macros in the
//! server.
//!
//! **Invariant.** What is not known is an error, as in Grafana, never left as it is. Restated from the sources of
//! Grafana: `packages/grafana-sql/src/datasource/SqlDatasource.ts` (variables) and
//! `pkg/tsdb/grafana-postgresql-datasource/macros.go` (macros).
//! Deliberately absent: TimescaleDB, fill modes, formats of variables.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};

/// What is chosen for a variable.
#[derive(Debug, Clone)]
pub enum Chosen {
    /// Of a variable with one value: quotes are doubled, and the SQL has the quotes around it.
    One(String),
    /// Of one with several: each is quoted, and they are joined by commas.
    Many(Vec<String>),
}

/// The time range of a dashboard.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn literal(at: DateTime<Utc>) -> String {
    quoted(&at.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

/// Seconds of an interval such as `15m`.
fn seconds(interval: &str) -> Option<u32> {
    let (number, unit) = interval.split_at_checked(interval.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    Some(number.parse::<u32>().ok()? * unit)
}

/// Replaces `$name` and `${name}` by what is chosen; names that are not known stay.
pub fn with_variables(text: &str, variables: &BTreeMap<String, Chosen>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let braced = after.strip_prefix('{').and_then(|it| it.split_once('}'));
        let (name, next) = braced.unwrap_or_else(|| {
            after.split_at(after.find(|c: char| !is_word(c)).unwrap_or(after.len()))
        });
        match variables.get(name) {
            Some(Chosen::One(value)) => out.push_str(&value.replace('\'', "''")),
            Some(Chosen::Many(values)) => {
                out.push_str(&values.iter().map(|it| quoted(it)).collect::<Vec<_>>().join(","));
            }
            None => {
                out.push('$');
                rest = after;
                continue;
            }
        }
        rest = next;
    }
    out + rest
}

fn macro_text(name: &str, arguments: &[&str], range: Range) -> Result<String, String> {
    let group = |column: &str, interval: &str| {
        let seconds = seconds(interval.trim_matches('\''))
            .ok_or_else(|| format!("{interval} is no interval"))?;
        Ok(format!("floor(extract(epoch from {column})/{seconds})*{seconds}"))
    };
    let (from, to) = (literal(range.from), literal(range.to));
    match (name, arguments) {
        ("__timeFrom", _) => Ok(from),
        ("__timeTo", _) => Ok(to),
        ("__timeFilter", [column]) => Ok(format!("{column} BETWEEN {from} AND {to}")),
        ("__time", [column]) => Ok(format!("{column} AS \"time\"")),
        ("__timeGroup", [column, interval]) => group(column, interval),
        ("__timeGroupAlias", [column, interval]) => Ok(group(column, interval)? + " AS \"time\""),
        _ => Err(format!("there is no macro ${name} with {} arguments", arguments.len())),
    }
}

/// The SQL that Postgres gets.
///
/// # Errors
/// A variable or macro is not known; the message names it.
pub fn expand(
    sql: &str,
    variables: &BTreeMap<String, Chosen>,
    range: Range,
) -> Result<String, String> {
    let sql = with_variables(sql, variables);
    let mut out = String::new();
    let mut rest = sql.as_str();
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (name, next) = after.split_at(after.find(|c: char| !is_word(c)).unwrap_or(after.len()));
        let call = next.strip_prefix('(').and_then(|it| it.split_once(')'));
        let (arguments, next) =
            call.ok_or_else(|| format!("${name} is no variable and no macro in: {sql}"))?;
        let arguments: Vec<&str> = arguments.split(',').map(str::trim).collect();
        // With a comma behind it, the old macro names its column.
        let name =
            if name == "__timeGroup" && next.starts_with(',') { "__timeGroupAlias" } else { name };
        out.push_str(&macro_text(name, &arguments, range)?);
        rest = next;
    }
    Ok(out + rest)
}
