//! Tests the expansion of variables and macros.

use std::collections::BTreeMap;

use super::expand::{Chosen, Range, expand};

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
