//! The form of the dashboards: the schema of Grafana's own package, and the rules of grafana/dashboard-linter,
//! restated, with some of our own.

use std::collections::BTreeSet;
use std::fs;

use jsonschema::Validator;
use saphyr::{LoadableYamlNode, Yaml};
use serde_json::{Value, json};

use super::{Dashboard, dashboards, items, root, text};

const POSTGRES: &str = "grafana-postgresql-datasource";
const PROMETHEUS: &str = "prometheus";
/// Units of Grafana's list that the dashboards use.
const UNITS: [&str; 9] =
    ["none", "string", "short", "percentunit", "bytes", "cps", "s", "dtdurations", "bool_yes_no"];
/// Alerts have no job and no instance: their rules sum over the daemons.
const WITHOUT_INSTANCE: &str = "ALERTS";

/// What is wrong, by place.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn unless(&mut self, good: bool, what: impl FnOnce() -> String) {
        if !good {
            self.0.push(what());
        }
    }

    fn end(self) {
        assert!(self.0.is_empty(), "{}", self.0.join("\n"));
    }
}

#[test]
fn dashboards_have_the_form_of_grafana() {
    let file = fs::read_to_string(root("tests/fixtures/grafana.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&file).unwrap();
    let compile = |schema: &Value| -> Validator { jsonschema::draft7::new(schema).unwrap() };
    let mut wrong = Wrong::default();
    let mut check = |schema: &Validator, value: &Value, place: &str| {
        for error in schema.iter_errors(value) {
            wrong.0.push(format!("{place}{}: {error}", error.instance_path()));
        }
    };
    let whole = compile(&schema["dashboard"]);
    for dashboard in dashboards() {
        check(&whole, &dashboard.json, &dashboard.name);
        for panel in dashboard.panels() {
            let place = format!("{}, {}", dashboard.name, panel["title"]);
            let parts = &schema[text(&panel["type"])]["properties"];
            assert!(
                parts.is_object(),
                "{place}: scripts/make-grafana-schema does not know its type"
            );
            check(&compile(&parts["options"]), &panel["options"], &place);
            // A type without a part `custom` allows none.
            let custom = compile(parts.get("custom").unwrap_or(&json!({"const": {}})));
            let config = &panel["fieldConfig"];
            check(&custom, config["defaults"].get("custom").unwrap_or(&json!({})), &place);
            for property in
                items(&config["overrides"]).iter().flat_map(|it| items(&it["properties"]))
            {
                if let Some(name) = text(&property["id"]).strip_prefix("custom.") {
                    let known = &parts["custom"]["properties"][name];
                    assert!(known.is_object(), "{place}: there is no custom.{name}");
                    check(&compile(known), &property["value"], &place);
                }
            }
        }
    }
    wrong.end();
    let strict = |value: Value| whole.is_valid(&value);
    assert!(strict(json!({"schemaVersion": 42})), "the schema is one of dashboards");
    assert!(
        !strict(json!({"schemaVersion": 42, "panel": []})),
        "and refuses what it does not know"
    );
}

fn check_dashboard(dashboard: &Dashboard, wrong: &mut Wrong) {
    let (name, json) = (&dashboard.name, &dashboard.json);
    wrong.unless(json["editable"] == false, || format!("{name}: uneditable-dashboard"));
    wrong
        .unless(json["uid"] == format!("monitor-{name}"), || format!("{name}: its uid is another"));
    wrong.unless(json["id"].is_null() && json["schemaVersion"] == 42, || {
        format!("{name}: id, schemaVersion")
    });
    wrong.unless(json["tags"] == json!(["monitor"]), || format!("{name}: tags"));
    wrong.unless(json.get("__inputs").is_none(), || {
        format!("{name}: provisioning knows no __inputs")
    });
    wrong.unless(!text(&json["description"]).is_empty(), || format!("{name}: no description"));
    let refresh = text(&json["refresh"]);
    wrong.unless(["30s", "1m", "5m"].contains(&refresh), || {
        format!("{name}: refreshed every {refresh}")
    });
    let to_others = items(&json["links"])
        .iter()
        .any(|it| it["type"] == "dashboards" && it["tags"] == json!(["monitor"]));
    wrong.unless(to_others, || format!("{name}: no link to the other dashboards"));

    for variable in dashboard.variables() {
        let place = format!("{name}, variable {}", variable["name"]);
        let kind = text(&variable["type"]);
        if kind == "datasource" {
            let good = variable["name"] == "datasource" && variable["label"] == "Data source";
            wrong.unless(good, || format!("{place}: template-datasource"));
            let query = text(&variable["query"]);
            wrong.unless([POSTGRES, PROMETHEUS].contains(&query), || format!("{place}: {query}"));
        }
        if kind == "query" {
            wrong.unless(variable["refresh"] == 2, || {
                format!("{place}: template-on-time-change-reload")
            });
            wrong.unless(variable["datasource"]["uid"] == "${datasource}", || {
                format!("{place}: its data source")
            });
        }
        wrong.unless(variable["label"].is_string(), || format!("{place}: no label"));
    }
    if dashboard.source() == PROMETHEUS {
        for (label, title) in [("job", "Job"), ("instance", "Instance")] {
            let found = dashboard.variables().iter().find(|it| it["name"] == label);
            let good = found.is_some_and(|it| {
                it["label"] == title
                    && it["multi"] == true
                    && it["includeAll"] == true
                    && it["allValue"] == ".+"
            });
            wrong.unless(good, || format!("{name}: template-{label}"));
        }
    }
}

fn check_panel(dashboard: &Dashboard, panel: &Value, wrong: &mut Wrong) {
    let place = format!("{}, {}", dashboard.name, panel["title"]);
    let has = |key: &str| panel[key].as_str().is_some_and(|it| !it.trim().is_empty());
    wrong
        .unless(has("title") && has("description"), || format!("{place}: panel-title-description"));
    let source = json!({"type": dashboard.source(), "uid": "${datasource}"});
    wrong.unless(panel["datasource"] == source, || format!("{place}: panel-datasource"));
    let targets = items(&panel["targets"]);
    wrong.unless(!targets.is_empty(), || format!("{place}: panel-no-targets"));
    let ids: BTreeSet<&str> = targets.iter().map(|it| text(&it["refId"])).collect();
    wrong.unless(ids.len() == targets.len(), || format!("{place}: two targets have one refId"));

    let config = &panel["fieldConfig"];
    let overridden = items(&config["overrides"]).iter().flat_map(|it| items(&it["properties"]));
    let units = overridden.filter(|it| it["id"] == "unit").map(|it| &it["value"]);
    for unit in units.chain([&config["defaults"]["unit"]]) {
        let good = unit.as_str().is_some_and(|unit| UNITS.contains(&unit));
        wrong.unless(good, || format!("{place}: panel-units: {unit}"));
    }
    for target in targets {
        wrong.unless(target["datasource"] == source, || {
            format!("{place}: the data source of a target")
        });
        if let Some(expression) = target["expr"].as_str() {
            check_promql(expression, &place, wrong);
        } else {
            let format = if panel["type"] == "timeseries" { "time_series" } else { "table" };
            let good = target["format"] == format
                && target["rawQuery"] == true
                && target["editorMode"] == "code";
            wrong.unless(good && target["rawSql"].is_string(), || format!("{place}: {target}"));
        }
    }
}

fn check_promql(expression: &str, place: &str, wrong: &mut Wrong) {
    if expression.contains(WITHOUT_INSTANCE) {
        return;
    }
    let selectors: Vec<&str> =
        expression.split('{').skip(1).filter_map(|it| Some(it.split_once('}')?.0)).collect();
    wrong.unless(!selectors.is_empty(), || format!("{place}: no selector in {expression}"));
    for selector in selectors {
        let good = selector.starts_with(r#"job=~"$job", instance=~"$instance""#);
        wrong.unless(good, || format!("{place}: target-job, target-instance: {expression}"));
    }
    for range in expression.split('[').skip(1) {
        let good = range.starts_with("$__rate_interval]");
        wrong.unless(good, || format!("{place}: target-rate-interval: {expression}"));
    }
    for (before, _) in expression.match_indices("_total{").map(|(at, _)| expression.split_at(at)) {
        let call = before.rsplit_once('(').map_or("", |(call, _)| call);
        let good = call.ends_with("rate") || call.ends_with("increase");
        wrong.unless(good, || format!("{place}: target-counter-agg: {expression}"));
    }
}

#[test]
fn dashboards_keep_the_rules_of_dashboard_linter() {
    let mut wrong = Wrong::default();
    for dashboard in dashboards() {
        check_dashboard(&dashboard, &mut wrong);
        let mut titles = BTreeSet::new();
        let mut ids = BTreeSet::new();
        let mut cells = BTreeSet::new();
        for panel in dashboard.panels() {
            check_panel(&dashboard, panel, &mut wrong);
            let place = format!("{}, {}", dashboard.name, panel["title"]);
            wrong.unless(titles.insert(text(&panel["title"])), || {
                format!("{place}: its title is there twice")
            });
            wrong.unless(ids.insert(panel["id"].as_u64()), || {
                format!("{place}: its id is there twice")
            });
            let [x, y, w, h] =
                ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
            wrong.unless(x + w <= 24, || format!("{place}: it is wider than the page"));
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                wrong.unless(cells.insert(cell), || {
                    format!("{place}: it overlaps another at {cell:?}")
                });
            }
        }
    }
    wrong.end();
}

#[test]
fn links_between_dashboards_lead_somewhere() {
    let dashboards = dashboards();
    let mut links = 0;
    for dashboard in &dashboards {
        let text = dashboard.json.to_string();
        for link in text.split("/d/").skip(1) {
            links += 1;
            let (uid, query) = link.split_once('?').expect("a link names a variable");
            let to = dashboards.iter().find(|it| it.json["uid"] == uid);
            let to = to.unwrap_or_else(|| panic!("{}: there is no {uid}", dashboard.name));
            for pair in query.split('&').filter_map(|it| it.strip_prefix("var-")) {
                let (name, _) = pair.split_once('=').unwrap();
                let known = to.variables().iter().any(|it| it["name"] == name);
                assert!(known, "{}: {uid} has no variable {name}", dashboard.name);
            }
        }
    }
    assert!(links >= 8, "only {links}");
}

#[test]
fn provisioning_names_what_there_is() {
    let load = |path: &str| fs::read_to_string(root(path)).unwrap();
    let sources = load("grafana/provisioning/datasources/monitor.yaml");
    let sources = Yaml::load_from_str(&sources).unwrap();
    let kinds: Vec<_> = sources[0]["datasources"]
        .as_sequence()
        .unwrap()
        .iter()
        .map(|it| it["type"].as_str())
        .collect();
    assert_eq!(kinds, [Some(POSTGRES), Some(PROMETHEUS)]);
    let providers = load("grafana/provisioning/dashboards/monitor.yaml");
    let providers = Yaml::load_from_str(&providers).unwrap();
    let path = providers[0]["providers"][0]["options"]["path"].as_str().unwrap();

    let compose = load("docker-compose.yml");
    let compose = Yaml::load_from_str(&compose).unwrap();
    let grafana = &compose[0]["services"]["grafana"];
    let mounts: Vec<&str> =
        grafana["volumes"].as_sequence().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    assert!(mounts.contains(&format!("./grafana/dashboards:{path}:ro").as_str()), "{mounts:?}");
    assert!(mounts.contains(&"./grafana/provisioning:/etc/grafana/provisioning:ro"), "{mounts:?}");
    let environment = grafana["environment"].as_mapping().unwrap();
    let given = |name: &str| {
        environment
            .iter()
            .find(|(key, _)| key.as_str() == Some(name))
            .map(|it| it.1.as_str().unwrap())
    };
    let text = load("grafana/provisioning/datasources/monitor.yaml");
    for name in text.split("$__env{").skip(1).map(|it| it.split_once('}').unwrap().0) {
        assert!(given(name).is_some(), "docker-compose.yml does not set {name}");
    }
    let home = given("GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH").unwrap();
    let file =
        home.strip_prefix(path).expect("a dashboard that is mounted").trim_start_matches('/');
    assert!(root("grafana/dashboards").join(file).is_file(), "{home}");

    // The role that the first start of Postgres makes, the one that gets its rights, and the one that reads.
    let reader = given("MONITOR_READER").unwrap();
    let made = load("deploy/postgres/reader.sql");
    let password = given("MONITOR_READER_PASSWORD").unwrap();
    assert!(made.contains(&format!("CREATE ROLE {reader} LOGIN PASSWORD '{password}'")), "{made}");
    let migrate = compose[0]["services"]["migrate"]["command"].as_sequence().unwrap();
    let migrate: Vec<_> = migrate.iter().map(|it| it.as_str().unwrap()).collect();
    assert!(migrate.windows(2).any(|it| it == ["--reader", reader]), "{migrate:?}");
}
