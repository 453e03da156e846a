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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, expected: Result<&str, &str>) {
        let range = Range {
            from: "2026-11-01T00:00:00Z".parse().unwrap(),
            to: "2026-11-02T00:00:00.5Z".parse().unwrap(),
        };
        let many = ["a", "O'Neill"].map(str::to_owned).to_vec();
        let variables = [
            ("one".to_owned(), Chosen::One("O'Neill".into())),
            ("many".to_owned(), Chosen::Many(many)),
            ("none".to_owned(), Chosen::Many(vec![])),
            ("step".to_owned(), Chosen::One("3h".into())),
        ];
        let found = expand(sql, &BTreeMap::from(variables), range);
        assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned), "{sql}");
    }

    #[test]
    fn expands_as_grafana_does() {
        check("'$one' '${one}x'", Ok("'O''Neill' 'O''Neillx'"));
        check("ARRAY[$many] ARRAY[$none]", Ok("ARRAY['a','O''Neill'] ARRAY[]"));
        check("$__timeFrom()::timestamptz", Ok("'2026-11-01T00:00:00Z'::timestamptz"));
        check(
            "$__timeFilter( at ) x",
            Ok("at BETWEEN '2026-11-01T00:00:00Z' AND '2026-11-02T00:00:00.500Z' x"),
        );
        let group = "floor(extract(epoch from at)/10800)*10800";
        check("$__timeGroup(at,'$step')", Ok(group));
        check("$__timeGroup(at, '3h'), 1", Ok(&format!("{group} AS \"time\", 1")));
        check("$__timeGroupAlias(at,'180m')", Ok(&format!("{group} AS \"time\"")));
        check("$__time(at)", Ok("at AS \"time\""));
        check("$other", Err("$other is no variable and no macro in: $other"));
        check("$__unixEpochTo()", Err("there is no macro $__unixEpochTo with 1 arguments"));
    }
}
