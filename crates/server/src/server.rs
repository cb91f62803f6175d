//! `Server`: the addresses, the repository and the devices together, and how they end.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::{self, Next};
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower_service::Service as _;

use crate::access::is_grpc;
use crate::access_log::AccessLog;
use crate::exchange::Told;
use crate::repository::Repository;
use crate::serving::Devices;
use crate::shared_memory::SharedMemory;
use crate::tls::Tls;
use crate::traces::Traces;
use crate::{Options, Service, exchange, grpc, http, lambda, listen, metrics};

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    service: Arc<Service>,
    addresses: Addresses,
    stop: watch::Sender<bool>,
    listeners: JoinSet<()>,
    drain_delay: Duration,
    exit_timeout: Duration,
}

/// Where a server listens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Addresses {
    /// HTTP.
    pub http: Option<SocketAddr>,
    /// gRPC.
    pub grpc: Option<SocketAddr>,
    /// Metrics.
    pub metrics: Option<SocketAddr>,
    /// The address of the server's administration, if it is one of its own.
    pub admin: Option<SocketAddr>,
}

impl Server {
    /// Opens the devices and the addresses, and loads models. Clients of HTTP that ask meanwhile hear that the server is not ready; those
    /// of gRPC cannot connect.
    ///
    /// # Errors
    /// A text: no device, an address that is taken, a repository that is no folder, or, if the options say so, a model that cannot be
    /// loaded.
    pub async fn start(options: Options) -> Result<Server, String> {
        let (device_options, frames) = (options.devices.clone(), options.frames);
        let devices = tokio::task::spawn_blocking(move || Devices::open(device_options, frames))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        if let Some(bytes) = options.device_memory_bytes {
            devices.limit_memory(bytes);
        }
        let repository =
            Repository::open(&options, devices.clone()).map_err(|failure| failure.to_string())?;
        let memory = SharedMemory::new(options.shared_memory.clone());
        let service = Service::new(
            repository.clone(),
            devices,
            memory,
            options.settings.clone().with_traces(options.traces.settings()?),
            options.strict_readiness,
        );
        let (stop, stopped) = watch::channel(false);
        let mut listeners = JoinSet::new();
        let mut addresses = Addresses::default();
        service.set_hang_time(options.hang_time);
        let log = options.access_log.as_deref().map(AccessLog::open).transpose()?;
        let told = Told { log, traces: Traces::start(&options.traces, service.settings()) };
        service.tells(told.clone());
        let access = &options.access;
        access.watch();
        let http = http::router(&service, options.limits.clone());
        let grpc = grpc::router(&service, &options.limits)?;
        let metrics = metrics::router(&service, access, &options.limits.in_all);
        let admin = either(http.clone().merge(metrics.clone()), grpc.clone());
        let metrics = if options.metrics_need_key { access.before(metrics, false) } else { metrics };
        let elsewhere = options.admin.is_some();
        let noted = |router, elsewhere| exchange::before(access.before(router, elsewhere), &told);
        let lambda = options.lambda.map(|api| (api, noted(http.clone(), elsewhere)));
        // A balancer for gRPC cannot send a request on to another replica once it has sent it to this one, so that the port of gRPC
        // takes no connection before the models are loaded. One for HTTP can, and readiness is asked there.
        let mut later = None;
        for (wanted, bound, tls, router, is_late) in [
            (options.http, &mut addresses.http, options.http_tls.clone(), noted(http, elsewhere), false),
            (options.grpc, &mut addresses.grpc, options.grpc_tls, noted(grpc, elsewhere), true),
            (options.metrics, &mut addresses.metrics, None, metrics, false),
            (options.admin, &mut addresses.admin, options.http_tls, noted(admin, false), false),
        ] {
            let Some(wanted) = wanted else { continue };
            let refused = move |error| format!("{wanted}: {error}");
            let socket = bind(wanted).map_err(refused)?;
            *bound = Some(socket.local_addr().map_err(refused)?);
            let tls = tls.map(Tls::open).transpose()?.inspect(Tls::watch);
            let (connections, stopped) = (options.connections.clone(), stopped.clone());
            let listen = move |listeners: &mut JoinSet<()>| {
                let listener = socket.listen(BACKLOG).map_err(refused)?;
                listeners.spawn(listen::serve(listener, router, connections, tls, stopped));
                Ok::<_, String>(())
            };
            match is_late {
                true => later = Some(listen),
                false => listen(&mut listeners)?,
            }
        }
        let mut server = Server {
            service,
            addresses,
            stop,
            listeners,
            drain_delay: options.drain_delay,
            exit_timeout: options.exit_timeout,
        };
        if let Err(failure) = repository.load_first().await
            && options.exit_on_error
        {
            let text = format!("{failure} (--exit-on-error false serves the others)");
            server.stop_now().await;
            return Err(text);
        }
        if let Some(listen) = later {
            listen(&mut server.listeners)?;
        }
        if let Some((api, router)) = lambda {
            server.listeners.spawn(lambda::serve(api, router, stopped));
        }
        Ok(server)
    }

    /// Where the server listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// What the server answers from.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Ends the server: it says that it is not ready, answers requests for the drain delay, then takes no connections, and waits
    /// for requests that it has begun. Returns whether all were answered before the exit timeout.
    pub async fn shut_down(self) -> bool {
        self.service.drain();
        tokio::time::sleep(self.drain_delay).await;
        self.stop_now().await
    }

    async fn stop_now(mut self) -> bool {
        let _ = self.stop.send(true);
        self.service.end_streams();
        let deadline = tokio::time::Instant::now() + self.exit_timeout;
        let ended = async { while self.listeners.join_next().await.is_some() {} };
        let all = tokio::time::timeout_at(deadline, ended).await.is_ok();
        let served = self.service.served();
        served.iter().for_each(|served| served.close());
        // A driver must not be unloaded while a thread gives back what it holds.
        let drained = async {
            for served in &served {
                served.drained().await;
            }
        };
        let drained = tokio::time::timeout_at(deadline, drained).await.is_ok();
        let (service, left) =
            (self.service.clone(), deadline.saturating_duration_since(tokio::time::Instant::now()));
        let _ = tokio::task::spawn_blocking(move || service.devices().close(left)).await;
        let Told { log, traces } = self.service.told();
        if let Some(traces) = traces {
            traces.flush().await;
        }
        if let Some(log) = log {
            let _ = tokio::task::spawn_blocking(move || log.flush()).await;
        }
        all && drained
    }
}

/// A socket that has the address, and takes no connections yet.
fn bind(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A server that starts again has its address at once.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// The connections that wait to be accepted, as many as tokio lets wait.
const BACKLOG: u32 = 1024;

/// The routes of HTTP and of gRPC at one address.
fn either(http: axum::Router, grpc: axum::Router) -> axum::Router {
    http.layer(middleware::from_fn(move |request: Request, next: Next| {
        let mut grpc = grpc.clone();
        async move {
            match is_grpc(request.headers()) {
                true => grpc.call(request).await.unwrap_or_else(|never| match never {}),
                false => next.run(request).await,
            }
        }
    }))
}

/// Runs a server until the process is told to end (SIGTERM, or Ctrl-C), and then until its requests are answered. `ready` is called
/// once all models are loaded. A second signal ends the process at once.
///
/// # Errors
/// Those of [`Server::start`]; and if requests were not answered before the exit timeout.
pub fn run(options: Options, ready: impl FnOnce(&Server)) -> Result<(), String> {
    let runtime = runtime()?;
    let outcome = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let server = tokio::select! {
            started = Server::start(options) => started?,
            () = signals.next() => return Ok(()),
        };
        ready(&server);
        signals.next().await;
        tracing::info!("the server ends");
        tokio::select! {
            true = server.shut_down() => Ok(()),
            () = signals.next() => Err("a second signal ended the server before its requests were answered".to_string()),
            else => Err("requests were not answered before the exit timeout".to_string()),
        }
    });
    runtime.shutdown_background();
    outcome
}

/// tokio's variable of the environment for the threads of its reactor.
const REACTOR_THREADS: &str = "TOKIO_WORKER_THREADS";

/// The runtime of a server.
fn runtime() -> Result<Runtime, String> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = reactor_threads(std::env::var_os(REACTOR_THREADS), cores)?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(threads).enable_all().build().map_err(|error| error.to_string())
}

/// The threads of the reactor: as many as the environment says, or half as many as there are cores. A request that goes from one thread to
/// another costs two switches, and models run beside the reactor.
fn reactor_threads(given: Option<OsString>, cores: usize) -> Result<usize, String> {
    let Some(given) = given else { return Ok((cores / 2).max(1)) };
    let number =
        given.to_str().and_then(|text| text.trim().parse().ok()).filter(|&number: &usize| number > 0);
    number.ok_or_else(|| format!("{REACTOR_THREADS} is {given:?}; it is a number of threads, from 1 on"))
}

/// The signals that end a process.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Signals, String> {
        Ok(Signals {
            #[cfg(unix)]
            terminate: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
                .map_err(|error| error.to_string())?,
        })
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = self.terminate.recv() => {}
        }
        #[cfg(not(unix))]
        drop(tokio::signal::ctrl_c().await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_the_reactor() {
        let threads = |given: Option<&str>, cores| reactor_threads(given.map(OsString::from), cores);
        let by_cores: Vec<_> = [1, 2, 3, 16].map(|cores| threads(None, cores).unwrap()).into();
        assert_eq!(by_cores, [1, 1, 1, 8]);
        assert_eq!(threads(Some("3"), 16), Ok(3));
        for wrong in ["", "0", "-1", "many"] {
            assert!(threads(Some(wrong), 16).unwrap_err().starts_with("TOKIO_WORKER_THREADS is "), "{wrong}");
        }
        if std::env::var_os(REACTOR_THREADS).is_none() {
            let cores = std::thread::available_parallelism().unwrap().get();
            assert_eq!(runtime().unwrap().metrics().num_workers(), (cores / 2).max(1));
        }
    }
}
