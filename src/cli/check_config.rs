use std::fmt::Write as _;

use super::evaluate::print;
use crate::classifier;
use crate::config::{Receiver, Settings};
use crate::store::PostgresStore;

/// Check the settings and print what is wrong with them
///
/// Reads all layers as `run` would, and opens the model. Prints a summary without
/// secrets where the settings are valid, else the problems with their remedies, and then
/// ends with status 1. Asks neither broker nor database nor receivers.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args, settings: Settings) -> anyhow::Result<()> {
    super::run::require_brands(&settings)?;
    let model = &settings.model;
    let model = classifier::open(&model.directory, &model.name, model.threads)?;
    print(&summary(&settings, &model.id.to_string()))
}

fn summary(settings: &Settings, model: &str) -> String {
    let mut out = String::from("settings are valid\n");
    let mut line = |text: String| writeln!(out, "{text}").expect("writing to a string cannot fail");
    let s = settings;
    line(format!("kafka: topic {} at {}, group {}", s.kafka.topic, s.kafka.brokers, s.kafka.group));
    line(format!("store: {}", PostgresStore::place(&s.store)));
    line(format!("model: {model} from {}", s.model.directory.display()));
    line(format!("http: {}", s.http.listen));
    for (name, brand) in &s.brands {
        let terms = [
            (brand.keywords.len(), "keyword"),
            (brand.handles.len(), "handle"),
            (brand.hashtags.len(), "hashtag"),
            (brand.rule_tags.len(), "rule tag"),
        ]
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, noun)| if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") })
        .collect::<Vec<_>>();
        line(format!("brand {name}: {}", terms.join(", ")));
    }
    if s.receivers.is_empty() {
        line("receivers: none, so nobody will hear of an alarm".into());
    }
    for (name, receiver) in &s.receivers {
        line(match receiver {
            Receiver::Email(e) => {
                format!("receiver {name}: email to {} by {}:{}", e.to.join(", "), e.host, e.port)
            }
            Receiver::Webhook(w) => format!("receiver {name}: webhook at {}", w.origin()),
        });
    }
    out
}
