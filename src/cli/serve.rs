use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use monitor_config::Settings;
use monitor_core::clock::SystemClock;
use monitor_serve::{Inference, serve_inference};

use super::signals::stop_on_signals;
use super::telemetry;
use crate::pipeline::{Lineup, LineupScorer, access, inference_limits, open_models};

/// Score texts of other programs over HTTP, without Kafka and Postgres; until SIGTERM
///
/// Answers POST /predict, POST /, POST /models/NAME, POST /score, /v2/..., GET /info and GET
/// /openapi.json (see docs/api.md), /healthz and /metrics on http.listen, to callers with a token of
/// http.tokens if there is any. `monitor run` answers the same requests beside its stream.
///
///   monitor serve --model lstm
///   curl 127.0.0.1:8080/score -d "we love you"
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A model's name (its promoted version) or name@version, for all languages [default: the models
    /// of the settings]
    #[arg(long, short, value_name = "NAME")]
    model: Option<String>,
}

pub fn run(args: Args, mut settings: Settings, commit: Option<&'static str>) -> anyhow::Result<()> {
    let _traces = telemetry::start(&settings)?;
    if let Some(name) = args.model {
        settings.model.name = name;
        settings.model.by_language.clear();
    }
    let models = open_models(&settings.model)?;
    let lineup = watch::Sender::new(Lineup::spawn(models));
    let scorer = Arc::new(LineupScorer::new(&settings.model));
    scorer.open(lineup.subscribe());
    let limits = inference_limits(&settings.serve);
    let clock = Arc::new(SystemClock::new());
    let inference = Inference::new(scorer, limits, clock.clone(), commit);
    let access = access(&settings, clock);
    let metrics = monitor_telemetry::init_metrics();
    metrics.build(env!("CARGO_PKG_VERSION"), commit);
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let listen = &settings.http.listen;
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen on http.listen = {listen:?}"))?;
        tracing::info!(address = %listener.local_addr()?, "answering HTTP");
        let shutdown = CancellationToken::new();
        stop_on_signals(shutdown.clone())?;
        Ok(serve_inference(listener, inference, &access, metrics, shutdown).await?)
    })
}
