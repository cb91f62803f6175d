//! Connections: how many there are, how long they may say nothing, and how they end.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, Version};
use axum::middleware::{self, Next};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::Sleep;
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
    /// How long, at the end of the server, the next request of an HTTP/1 connection is still answered. A client that sends one just when
    /// its connection is closed does not hear of it.
    pub linger: Duration,
}

impl Default for Connections {
    fn default() -> Connections {
        Connections {
            count: 4096,
            header_time: Duration::from_secs(10),
            streams: 1024,
            resets: 100,
            ping: Duration::from_secs(60),
            linger: Duration::from_millis(100),
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
/// requests that they have begun, or begin soon.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Connections,
    tls: Option<Arc<Tls>>,
    mut stop: watch::Receiver<bool>,
) {
    let windows = Windows::new();
    let router = last_answers_say_so(router, stop.clone());
    let graceful = GracefulShutdown::new();
    let count = limits.count.min(u32::MAX as usize).min(Semaphore::MAX_PERMITS);
    let free = Arc::new(Semaphore::new(count));
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
                None => converse(builder, watcher, Beginning::new(stream, patience), router).await,
                Some(acceptor) => match tokio::time::timeout(patience, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        converse(builder, watcher, Beginning::new(stream, patience), router).await;
                    }
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
    // All permits are there once the last connection has ended.
    let ended = free.acquire_many(count as u32);
    let _ = tokio::time::timeout(limits.linger, ended).await;
    graceful.shutdown().await;
}

/// Lets answers over HTTP/1 close their connection once `stop` is true.
fn last_answers_say_so(router: Router, stop: watch::Receiver<bool>) -> Router {
    router.layer(middleware::from_fn(move |request: axum::extract::Request, next: Next| {
        let stop = stop.clone();
        async move {
            // HTTP/2 has no such header.
            let is_1 = request.version() <= Version::HTTP_11;
            let mut response = next.run(request).await;
            if is_1 && *stop.borrow() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
    }))
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

/// A connection that must say soon whether it speaks HTTP/2: the server waits for that without a limit of its own.
struct Beginning<S> {
    stream: S,
    /// The bytes of HTTP/2's first words that have come, and how long the others may take.
    waits: Option<(usize, Pin<Box<Sleep>>)>,
}

/// What a connection of HTTP/2 begins with (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl<S> Beginning<S> {
    fn new(stream: S, patience: Duration) -> Beginning<S> {
        Beginning { stream, waits: Some((0, Box::pin(tokio::time::sleep(patience)))) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Beginning<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        let Some((known, sleep)) = &mut this.waits else { return read };
        if read.is_pending() {
            ready!(sleep.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let new = &buffer.filled()[before..];
        // What begins otherwise is HTTP/1, whose header has a time of its own.
        match PREFACE[*known..].strip_prefix(new).is_some_and(|rest| !rest.is_empty()) {
            true => *known += new.len(),
            false => this.waits = None,
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Beginning<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
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
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
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
#[allow(clippy::unwrap_used)] // A test that cannot go on has failed.
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn ask(stream: &mut TcpStream) -> String {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"here") {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "the connection was closed");
        }
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn the_last_request_of_a_connection_is_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", axum::routing::get(|| async { "here" }));
        let limits = Connections { linger: Duration::from_secs(600), ..Connections::default() };
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(serve(listener, router, limits, None, stopped));
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert!(!ask(&mut stream).await.contains("connection: close"));
        stop.send(true).unwrap();
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(ask(&mut stream).await.contains("connection: close"));
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        server.await.unwrap();
    }

    /// What a client that has sent `bytes` hears of the server, which has a patience of 20 ms.
    async fn heard(bytes: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(async || "found");
        let limits = Connections { header_time: Duration::from_millis(20), ..Connections::default() };
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(serve(listener, router, limits, None, stopped));
        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        client.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer).await;
        stop.send_replace(true);
        server.await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn silent_clients_are_let_go() {
        // The server closes each of these, or reading would not end.
        for bytes in
            [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM", b"GET / HTT", b"GET / HTTP/1.1\r\nHost: x\r\n"]
        {
            assert!(!heard(bytes).await.contains("found"), "{bytes:?}");
        }
        let whole = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        assert!(heard(whole).await.ends_with("found"));
    }

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
