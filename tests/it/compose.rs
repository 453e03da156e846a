//! Checks docker-compose.yml and the Dockerfile as far as possible without Docker.

use std::fs;
use std::path::{Path, PathBuf};

use monitor_config as config;
use saphyr::{LoadableYamlNode, Yaml};
use sha2::{Digest, Sha256};

use monitor::settings::OWNERS;

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

/// Whether the tag names a version, so that each pull gets the same image.
fn is_pinned(image: &str) -> bool {
    image.rsplit_once(':').is_some_and(|(_, tag)| {
        tag.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit()) && tag.contains('.')
    })
}

#[test]
fn distinguishes_pinned_from_moving_tags() {
    for (image, expected) in [
        ("postgres:17.6", true),
        ("axllent/mailpit:v1.27", true),
        ("rust:1.95.0-bookworm", true),
        ("postgres", false),
        ("postgres:latest", false),
        ("postgres:17", false),
    ] {
        assert_eq!(is_pinned(image), expected, "{image}");
    }
}

fn strings<'a>(node: &'a Yaml<'a>, key: &str) -> Vec<&'a str> {
    let Some(list) = node.as_mapping_get(key) else { return vec![] };
    list.as_sequence().unwrap().iter().map(|item| item.as_str().unwrap()).collect()
}

#[test]
fn the_compose_file_is_pinned_and_its_paths_exist() {
    let text = fs::read_to_string(root().join("docker-compose.yml")).unwrap();
    assert!(text.contains("Not run so far"));
    let documents = Yaml::load_from_str(&text).unwrap();
    assert_eq!(documents.len(), 1);
    let compose = &documents[0];
    let services = compose["services"].as_mapping().unwrap();
    let volumes: Vec<&str> =
        compose["volumes"].as_mapping().unwrap().keys().map(|key| key.as_str().unwrap()).collect();
    let names: Vec<&str> = services.keys().map(|key| key.as_str().unwrap()).collect();
    for name in ["kafka", "postgres", "mail", "monitor", "prometheus", "grafana"] {
        assert!(names.contains(&name), "the service {name} is missing");
    }
    for (name, service) in services {
        let name = name.as_str().unwrap();
        let image = service["image"].as_str().unwrap();
        assert!(is_pinned(image), "{name}: {image}");
        if let Some(folder) = service.as_mapping_get("build") {
            assert!(root().join(folder.as_str().unwrap()).join("Dockerfile").is_file(), "{name}");
        }
        for volume in strings(service, "volumes") {
            let source = volume.split(':').next().unwrap();
            let exists = if source.starts_with('.') {
                root().join(source).exists()
            } else {
                volumes.contains(&source)
            };
            assert!(exists, "{name}: {source} is missing");
        }
        for port in strings(service, "ports") {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port} is reachable from the network");
        }
    }
}

#[test]
fn the_dockerfile_is_pinned_and_copies_only_existing_paths() {
    let text = fs::read_to_string(root().join("Dockerfile")).unwrap();
    let mut images = 0;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["FROM", image, ..] => {
                images += 1;
                assert!(is_pinned(image), "{image}");
            }
            ["COPY", first, ..] if first.starts_with("--") => {}
            ["COPY", sources @ .., _target] => {
                for source in sources {
                    assert!(root().join(source).exists(), "{source} is missing");
                }
            }
            _ => {}
        }
    }
    assert_eq!(images, 2);
}

#[test]
fn the_compose_settings_are_valid() {
    let file = root().join("config/docker.toml");
    let store =
        ("MONITOR_STORE__URL".into(), "postgres://monitor:monitor@postgres:5432/monitor".into());
    let settings = config::load_from(Some(Path::new(&file)), [store], &[], OWNERS).unwrap();
    assert!(!settings.brands.is_empty() && !settings.receivers.is_empty());
    assert_eq!(settings.kafka.brokers, "kafka:9092");
    let scrapes = fs::read_to_string(root().join("deploy/prometheus/docker.yml")).unwrap();
    let scrapes = Yaml::load_from_str(&scrapes).unwrap();
    let token = scrapes[0]["scrape_configs"][0]["authorization"]["credentials"].as_str().unwrap();
    let known = &settings.http.tokens["prometheus"];
    let digest: String = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(known.sha256, digest, "the token of Prometheus");
}
