//! Accepts connections, of which there are a limited number.
//!
//! **Invariant.** At most [`CONNECTIONS_MAX`] connections are open, and at most
//! [`CONNECTIONS_OF_ONE_MAX`] from one address that is not this machine (where a reverse proxy may
//! stand for many). One on which nothing moves for [`IDLE_MAX`] is closed.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Open connections, at most.
const CONNECTIONS_MAX: usize = 512;
/// Open connections of one other machine, at most.
const CONNECTIONS_OF_ONE_MAX: usize = 64;
/// A connection is closed after this time without a byte in either direction.
const IDLE_MAX: Duration = Duration::from_secs(60);

type Counts = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// The address of whoever has connected.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Accepts connections as long as there are not too many.
pub struct Limited {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    counts: Counts,
}

impl Limited {
    /// Limits the connections of `listener`.
    pub fn new(listener: TcpListener) -> Self {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Self { listener, permits, counts: Counts::default() }
    }
}

impl Listener for Limited {
    type Io = Held;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Held, SocketAddr) {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        loop {
            let (stream, from) = Listener::accept(&mut self.listener).await;
            // Too many of one address: its stream is dropped, which closes it.
            if let Some(counted) = Counted::of(&self.counts, from.ip()) {
                let idle = Box::pin(tokio::time::sleep(IDLE_MAX));
                return (Held { stream, idle, _permit: permit, _counted: counted }, from);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, Limited>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Limited>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// One connection counted for its address, until it is dropped.
struct Counted {
    counts: Counts,
    from: IpAddr,
}

impl Counted {
    fn of(counts: &Counts, from: IpAddr) -> Option<Self> {
        let mut open = counts.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = open.entry(from).or_default();
        if *of_one >= CONNECTIONS_OF_ONE_MAX && !from.is_loopback() {
            return None;
        }
        *of_one += 1;
        Some(Self { counts: Arc::clone(counts), from })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_one) = open.get_mut(&self.from) {
            *of_one -= 1;
            if *of_one == 0 {
                open.remove(&self.from);
            }
        }
    }
}

/// A connection that counts until it is dropped.
pub struct Held {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
    _counted: Counted,
}

impl Held {
    /// Starts the idle time again after progress; an error if it is over without any.
    fn watch<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.idle.as_mut().reset(Instant::now() + IDLE_MAX);
            return polled;
        }
        match self.idle.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Held {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, into);
        self.watch(polled, context)
    }
}

impl AsyncWrite for Held {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(polled, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.watch(polled, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_connections_of_each_address() {
        let counts = Counts::default();
        let [other, local] = [[10, 0, 0, 1], [127, 0, 0, 1]].map(IpAddr::from);
        let held: Vec<_> = (0..CONNECTIONS_OF_ONE_MAX)
            .map(|_| Counted::of(&counts, other).expect("within the limit"))
            .collect();
        assert!(Counted::of(&counts, other).is_none(), "one too many");
        let many: Vec<_> = (0..100).map(|_| Counted::of(&counts, local)).collect();
        assert!(many.iter().all(Option::is_some), "a proxy on this machine stands for many");
        drop(held);
        assert!(Counted::of(&counts, other).is_some(), "others have closed");
        drop(many);
        assert!(counts.lock().expect("not poisoned").is_empty());
    }
}
