//! A TCP proxy that slows, stalls and cuts the connections of a test.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What becomes of what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    Good,
    /// A few hundred bytes at a time, each late.
    Slow,
    /// Connections stay open and new ones are accepted, but nothing goes through, in either direction.
    Stalled,
    /// Connections end, in the middle of what they carried, and new ones end at once.
    Cut,
}

const SLOW_WAIT: Duration = Duration::from_millis(20);
const SLOW_BYTES: usize = 700;

/// Listens until it is dropped.
pub struct Proxy {
    port: u16,
    line: watch::Sender<Line>,
    target: watch::Sender<Option<SocketAddr>>,
    // Aborted when dropped.
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Without a target: connections end at once.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (line, target) = (watch::Sender::new(Line::Good), watch::Sender::new(None));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, line.subscribe(), target.subscribe()));
        Self { port, line, target, _tasks: tasks }
    }

    /// In front of a port of this machine.
    pub async fn before(port: u16) -> Self {
        let proxy = Self::start().await;
        proxy.lead_to(port);
        proxy
    }

    pub fn lead_to(&self, port: u16) {
        self.target.send_replace(Some((Ipv4Addr::LOCALHOST, port).into()));
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

async fn accept(
    listener: TcpListener,
    line: watch::Receiver<Line>,
    target: watch::Receiver<Option<SocketAddr>>,
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let target = *target.borrow();
        if let Some(target) = target.filter(|_| *line.borrow() != Line::Cut) {
            connections.spawn(carry(client, target, line.clone()));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(client: TcpStream, target: SocketAddr, line: watch::Receiver<Line>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // When one direction ends, both connections do.
    tokio::select! {
        _ = pump(from_client, to_server, line.clone()) => {}
        _ = pump(from_server, to_client, line.clone()) => {}
    }
}

async fn pump(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut line: watch::Receiver<Line>,
) -> std::io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let slow = *line.borrow() == Line::Slow;
        let at_once = if slow { SLOW_BYTES } else { buffer.len() };
        let read = tokio::select! {
            read = from.read(&mut buffer[..at_once]) => read?,
            () = cut(&mut line) => return Ok(()),
        };
        if read == 0 {
            return Ok(());
        }
        if slow {
            tokio::time::sleep(SLOW_WAIT).await;
        }
        let flows = line.wait_for(|line| *line != Line::Stalled).await;
        let now = *flows.map_err(std::io::Error::other)?;
        if now == Line::Cut {
            // The first half of it arrives.
            to.write_all(&buffer[..read / 2]).await?;
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
    }
}

async fn cut(line: &mut watch::Receiver<Line>) {
    let _ = line.wait_for(|line| *line == Line::Cut).await;
}
