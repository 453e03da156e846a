//! The demo's own receiver of webhooks.

use std::io;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use tokio::net::TcpListener;

/// Receives webhooks and keeps their bodies.
pub(super) struct WebhookReceiver {
    pub(super) url: String,
    bodies: Arc<Mutex<Vec<Bytes>>>,
}

impl WebhookReceiver {
    pub(super) async fn start() -> io::Result<Self> {
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let keep = bodies.clone();
        let take = axum::routing::post(async move |body: Bytes| {
            keep.lock().expect("no holder of this lock panics").push(body);
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let app = axum::Router::new().route("/hook", take);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(Self { url, bodies })
    }

    pub(super) fn bodies(&self) -> Vec<Bytes> {
        self.bodies.lock().expect("no holder of this lock panics").clone()
    }
}
