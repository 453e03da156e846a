//! What a browser asks when it opens the page (crates/serve/src/assets/app.js), over a socket.

use std::sync::Arc;

use anyhow::ensure;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use monitor::pipeline::policy;
use monitor_config::Alerting;
use monitor_core::clock::SystemClock;
use monitor_serve::{ServeContext, serve};
use monitor_store::PostgresStore;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Connections of a browser to one host.
const CONNECTIONS: usize = 6;
/// Brands whose charts are in sight or near, in a window 1,000 pixels high.
const BRANDS_NEAR: usize = 6;

/// A daemon's server, and the brands that it shows.
pub struct Page {
    url: String,
    brands: Vec<String>,
    until: DateTime<Utc>,
    client: reqwest::Client,
}

impl Page {
    /// Serves the page until the process ends.
    pub async fn start(
        store: PostgresStore,
        brands: Vec<String>,
        until: DateTime<Utc>,
        learns_ahead: bool,
    ) -> anyhow::Result<Self> {
        // Another benchmark of this process may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let clock = Arc::new(SystemClock::new());
        let policy = policy(&Alerting::default());
        let context = ServeContext::new(Arc::new(store), clock, brands.clone(), policy);
        let context = ServeContext { learns_ahead, ..context };
        tokio::spawn(serve(listener, context, CancellationToken::new()));
        Ok(Self { url, brands, until, client: reqwest::Client::new() })
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many brands it shows.
    pub fn brands(&self) -> usize {
        self.brands.len()
    }

    /// Everything until the charts of a week in sight can be drawn; scripts and styles left out.
    pub async fn open(&self) -> anyhow::Result<()> {
        self.get(&["/".into()]).await?;
        self.get(&["/v1/brands".into(), "/v1/incidents?limit=200".into()]).await?;
        let iso = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let (from, to) = (iso(self.until - TimeDelta::hours(171)), iso(self.until));
        let shares = |brand: &String| {
            let brand = brand.replace(' ', "%20");
            format!("/v1/brands/{brand}/shares?from={from}&to={to}&step=hour")
        };
        let voices = format!("/v1/voice?from={from}&to={to}");
        let near = self.brands.iter().take(BRANDS_NEAR).map(shares);
        self.get(&near.chain([voices]).collect::<Vec<_>>()).await
    }

    async fn get(&self, paths: &[String]) -> anyhow::Result<()> {
        let answers = paths.iter().map(async |path| {
            let answer = self.client.get(format!("{}{path}", self.url)).send().await?;
            let status = answer.status();
            let body = answer.text().await?;
            ensure!(status.is_success(), "{path}: {status}: {body}");
            Ok(())
        });
        stream::iter(answers).buffer_unordered(CONNECTIONS).try_collect().await
    }
}
