//! Connections: how many there are, how long they may say nothing, and how they end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tower_service::Service;

use crate::exchange::Peer;
use crate::tls::Tls;

/// Limits of the connections to one address.
#[derive(Clone, Debug, PartialEq)]
pub struct Connections {
    /// The connections at most; further ones wait to be accepted.
    pub count: usize,
    /// How long a client may take to send the header of an HTTP/1 request.
    pub header_time: Duration,
    /// The streams of an HTTP/2 connection at most.
    pub streams: u32,
    /// The streams that a client may have reset before they were accepted, until its connection is closed (CVE-2023-44487).
    pub resets: usize,
    /// How often a silent HTTP/2 connection is asked whether it is alive; it ends if there is no answer in the same time.
    pub ping: Duration,
}

impl Default for Connections {
    fn default() -> Connections {
        Connections {
            count: 4096,
            header_time: Duration::from_secs(10),
            streams: 1024,
            resets: 100,
            ping: Duration::from_secs(60),
        }
    }
}

/// The bytes that a client may send on a stream before the server has taken them.
const STREAM_WINDOW: u32 = 4 << 20;

/// The bytes that clients may send before the server has taken them: on a connection at least and at most, and on all those that have
/// more than the least.
///
/// h2 0.4.20 ends a connection whose small frames of data, as requests of gRPC have one each, wait beyond half of the connection's window,
/// each as 256 bytes: the least window is enough for a frame of each stream.
const LEAST_WINDOW: usize = 1 << 20;
const LARGEST_WINDOW: usize = 32 << 20;
const ALL_WINDOWS: usize = 1 << 30;

/// The windows of the connections to one address. A connection gets a part of what is left, so that few have large windows, and many
/// have small ones.
#[derive(Clone, Debug)]
struct Windows(Arc<AtomicUsize>);

/// The window of one connection, given back at its end.
#[derive(Debug)]
struct Window(Windows, usize);

impl Windows {
    fn new() -> Windows {
        Windows(Arc::new(AtomicUsize::new(ALL_WINDOWS)))
    }

    fn one(&self) -> Window {
        let take = |left: usize| (left / 32).clamp(LEAST_WINDOW, LARGEST_WINDOW);
        let mut window = 0;
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            window = take(left);
            Some(left - (window - LEAST_WINDOW))
        });
        Window(self.clone(), window)
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.0.0.fetch_add(self.1 - LEAST_WINDOW, Ordering::Relaxed);
    }
}

/// The bytes of the header of an HTTP/1 request at most, and of a body that are read at once.
const BUFFER: usize = 128 << 10;

/// The pause after the system had no resources to accept a connection.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves `router` on `listener` until `stop` is true. Then no connection is accepted, and those that there are end with the
/// requests that they have begun.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Connections,
    tls: Option<Arc<Tls>>,
    mut stop: watch::Receiver<bool>,
) {
    let windows = Windows::new();
    let graceful = GracefulShutdown::new();
    let free = Arc::new(Semaphore::new(limits.count.min(Semaphore::MAX_PERMITS)));
    let stopped = async move { drop(stop.wait_for(|&stop| stop).await) };
    tokio::pin!(stopped);
    loop {
        let next = async { (free.clone().acquire_owned().await, listener.accept().await) };
        let (permit, stream, client) = tokio::select! {
            () = &mut stopped => break,
            (Ok(permit), accepted) = next => match accepted {
                Ok((stream, client)) => (permit, stream, client),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
            else => break,
        };
        let window = windows.one();
        let (builder, watcher, router) =
            (builder(&limits, &window), graceful.watcher(), OfClient(router.clone(), client));
        let (acceptor, patience) = (tls.as_ref().map(|tls| tls.acceptor()), limits.header_time);
        tokio::spawn(async move {
            // Small answers leave at once.
            let _ = stream.set_nodelay(true);
            match acceptor {
                None => converse(builder, watcher, stream, router).await,
                Some(acceptor) => match tokio::time::timeout(patience, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => converse(builder, watcher, stream, router).await,
                    Ok(Err(error)) => {
                        tracing::debug!(%error, "a client does not speak TLS as the server does")
                    }
                    Err(_) => tracing::debug!("a client took too long to begin"),
                },
            }
            drop((permit, window));
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

async fn converse(
    builder: Builder<TokioExecutor>,
    watcher: Watcher,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: OfClient,
) {
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = watcher.watch(connection.into_owned()).await {
        tracing::debug!(error, "a connection ended");
    }
}

/// The routes, as one client asks them.
#[derive(Clone)]
struct OfClient(Router, SocketAddr);

impl<B> Service<Request<B>> for OfClient
where
    Router: Service<Request<B>>,
{
    type Response = <Router as Service<Request<B>>>::Response;
    type Error = <Router as Service<Request<B>>>::Error;
    type Future = <Router as Service<Request<B>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request.extensions_mut().insert(Peer(self.1));
        self.0.call(request)
    }
}

fn builder(limits: &Connections, window: &Window) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.header_time).max_buf_size(BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_pending_accept_reset_streams(limits.resets)
        .keep_alive_interval(limits.ping)
        .keep_alive_timeout(limits.ping)
        // Tensors are larger than the 64 KiB that HTTP/2 begins with, as a window does that adapts itself.
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(u32::try_from(window.1).unwrap_or(u32::MAX >> 1));
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_many_connections() {
        let windows = Windows::new();
        let open: Vec<Window> = (0..4096).map(|_| windows.one()).collect();
        assert_eq!((open[0].1, open[4095].1), (LARGEST_WINDOW, LEAST_WINDOW));
        assert!(open.windows(2).all(|pair| pair[0].1 >= pair[1].1));
        let all: usize = open.iter().map(|window| window.1).sum();
        assert!(all <= ALL_WINDOWS + 4096 * LEAST_WINDOW, "{all}");
        drop(open);
        assert_eq!(windows.0.load(Ordering::Relaxed), ALL_WINDOWS);
        assert_eq!(windows.one().1, LARGEST_WINDOW);
    }
}
