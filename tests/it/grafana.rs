//! The dashboards in `grafana/`: their form, the rules that they keep, and each of their queries, run on the demo.
//!
//! **Invariant.** What is run is what Grafana would send: `expand.rs` puts in variables and macros as it does.
//! Deliberately absent: Grafana itself, which no package registry has. It has not shown these dashboards here.

mod demo;
mod expand;
mod expanded;
mod lint;
mod picture;
mod prometheus;
mod queries;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// One of the files in `grafana/dashboards`.
pub struct Dashboard {
    /// Its name, without the extension.
    pub name: String,
    pub json: Value,
}

impl Dashboard {
    pub fn panels(&self) -> &[Value] {
        self.json["panels"].as_array().expect("panels")
    }

    pub fn variables(&self) -> &[Value] {
        self.json["templating"]["list"].as_array().expect("variables")
    }

    pub fn annotations(&self) -> &[Value] {
        self.json["annotations"]["list"].as_array().expect("annotations")
    }

    /// The kind of its data source.
    pub fn source(&self) -> &str {
        let source = self.variables().iter().find(|it| it["type"] == "datasource");
        text(&source.expect("a variable for the data source")["query"])
    }
}

pub fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a text, not {value}"))
}

/// The items of a list; none if there is no list.
pub fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub fn dashboards() -> Vec<Dashboard> {
    let mut found: Vec<Dashboard> = fs::read_dir(root("grafana/dashboards"))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let json = serde_json::from_str(&fs::read_to_string(&path).unwrap());
            Dashboard { json: json.unwrap_or_else(|error| panic!("{name}: {error}")), name }
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(
        found.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(),
        ["brand", "incident", "models", "overview", "pipeline"]
    );
    found
}
