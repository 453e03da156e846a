//! What the HTTP server gets of the settings and of the running daemon.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use tokio::sync::watch;

use super::evaluator::Explainer;
use super::lineup::Lineup;
use super::routes::{brand_zone, policy};
use super::scoring::{LineupScorer, inference_limits};
use monitor_config::{self as config, Rights, Settings};
use monitor_core::clock::Clock;
use monitor_core::links::LinkKey;
use monitor_core::words::WordWeight;
use monitor_serve::{Access, Explain, Inference, Right, ServeContext, Token};
use monitor_store::{Example, Store, StoredTweet};
use monitor_telemetry::{self as telemetry, Readiness};

/// What the server asks the models for, once there are any.
pub struct Models {
    explainer: Arc<OnceLock<Box<dyn Explain>>>,
    scorer: Arc<LineupScorer>,
}

impl Models {
    /// Without models yet, for the device of the settings.
    pub fn new(model: &config::Model) -> Self {
        Self { explainer: Arc::default(), scorer: Arc::new(LineupScorer::new(model)) }
    }

    /// Starts to answer.
    pub fn open(&self, lineup: &watch::Sender<Lineup>) {
        self.scorer.open(lineup.subscribe());
        // A second call would bring the same models.
        let _ = self.explainer.set(Box::new(OfPage(Explainer::new(lineup.subscribe()))));
    }
}

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

/// The server's context.
pub fn context(
    settings: &Settings,
    store: Arc<dyn Store>,
    readiness: Arc<Readiness>,
    clock: Arc<dyn Clock>,
    models: &Models,
    links: Option<LinkKey>,
    commit: Option<&'static str>,
) -> ServeContext {
    let inference = settings.serve.predict.then(|| {
        let limits = inference_limits(&settings.serve);
        Inference::new(models.scorer.clone(), limits, clock.clone(), commit)
    });
    ServeContext {
        store,
        metrics: telemetry::init_metrics(),
        brands: settings.brands.keys().cloned().collect(),
        policy: policy(&settings.alerting),
        readiness,
        access: access(settings, clock.clone()),
        zones: settings
            .brands
            .iter()
            .filter_map(|(name, brand)| Some((name.clone(), brand_zone(brand)?)))
            .collect(),
        explainer: models.explainer.clone(),
        public_url: settings.http.public_url.clone(),
        links,
        inference,
        learns_ahead: true,
        clock,
    }
}

/// Explains with the models of a lineup.
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
