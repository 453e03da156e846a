//! What the HTTP server gets of the settings and of the running daemon.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use tokio::sync::watch;

use super::evaluator::Explainer;
use super::lineup::Lineup;
use super::routes::policy;
use monitor_config::{Rights, Settings};
use monitor_core::clock::Clock;
use monitor_core::words::WordWeight;
use monitor_serve::{Access, Explain, Right, Token};
use monitor_store::{Example, Store, StoredTweet};
use monitor_telemetry::{self as telemetry, Readiness};

/// Explains the tweets on the page, once there are models.
pub type Slot = Arc<OnceLock<Box<dyn Explain>>>;

/// Who may use the page and the API, by the settings.
pub fn access(settings: &Settings, clock: Arc<dyn Clock>) -> Arc<Access> {
    let tokens = settings.http.tokens.iter().filter_map(|(name, token)| {
        Some(Token {
            name: name.clone(),
            // Validated when the settings were read.
            sha256: token.digest()?,
            right: match token.rights {
                Rights::Read => Right::Read,
                Rights::Act => Right::Act,
            },
        })
    });
    Arc::new(Access::new(tokens.collect(), settings.http.public_url.as_deref(), clock))
}

/// The server's context; `explainer` is filled when the models are loaded.
pub fn context(
    settings: &Settings,
    store: Arc<dyn Store>,
    readiness: Arc<Readiness>,
    clock: Arc<dyn Clock>,
    explainer: Slot,
) -> monitor_serve::ServeContext {
    monitor_serve::ServeContext {
        store,
        readiness,
        metrics: telemetry::init_metrics(),
        brands: settings.brands.keys().cloned().collect(),
        access: access(settings, clock.clone()),
        clock,
        policy: policy(&settings.alerting),
        explainer,
        public_url: settings.http.public_url.clone(),
        further: axum::Router::new(),
    }
}

/// Explains with the models of `lineup`.
pub fn explainer(lineup: watch::Receiver<Lineup>) -> Box<dyn Explain> {
    Box::new(OfPage(Explainer::new(lineup)))
}

struct OfPage(Explainer);

#[async_trait]
impl Explain for OfPage {
    async fn explain(&self, tweet: &StoredTweet) -> Option<Vec<WordWeight>> {
        let example = Example {
            tweet_id: tweet.tweet_id.clone(),
            text: tweet.text.clone(),
            created_at: tweet.created_at,
            negative: tweet.negative,
            author: None,
            reach: None,
            alike: 1,
            words: Vec::new(),
        };
        let found = self.0.explained(vec![(example, tweet.model.clone())]).await;
        found.into_iter().map(|example| example.words).find(|words| !words.is_empty())
    }
}
