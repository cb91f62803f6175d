//! Connections: how many there are, how long they may say nothing, and how they end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

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

/// The bytes that a client may send on a stream, and on a connection, before the server has taken them.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 32 << 20;

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
    let builder = builder(&limits);
    let graceful = GracefulShutdown::new();
    let free = Arc::new(Semaphore::new(limits.count.min(Semaphore::MAX_PERMITS)));
    let stopped = async move { drop(stop.wait_for(|&stop| stop).await) };
    tokio::pin!(stopped);
    loop {
        let next = async { (free.clone().acquire_owned().await, listener.accept().await) };
        let (permit, stream) = tokio::select! {
            () = &mut stopped => break,
            (Ok(permit), accepted) = next => match accepted {
                Ok((stream, _)) => (permit, stream),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
            else => break,
        };
        let (builder, watcher, router) = (builder.clone(), graceful.watcher(), router.clone());
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
            drop(permit);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

async fn converse(
    builder: Builder<TokioExecutor>,
    watcher: Watcher,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
) {
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = watcher.watch(connection.into_owned()).await {
        tracing::debug!(error, "a connection ended");
    }
}

fn builder(limits: &Connections) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.header_time);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_pending_accept_reset_streams(limits.resets)
        .keep_alive_interval(limits.ping)
        .keep_alive_timeout(limits.ping)
        // Tensors are larger than the 64 KiB that HTTP/2 begins with. A window that adapts itself begins there too, and h2 0.4.20 ends a
        // connection whose small frames of data, as requests of gRPC have one each, wait beyond half of the connection's window: 200
        // requests at once did.
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    builder
}
