//! `Server`: the addresses, the repository and the devices together, and how they end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::repository::Repository;
use crate::serving::Devices;
use crate::shared_memory::SharedMemory;
use crate::tls::Tls;
use crate::{Options, Service, grpc, http, listen, metrics};

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
}

impl Server {
    /// Opens the devices and the addresses, and begins to load models. Clients that ask meanwhile hear that the server is not ready.
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
        let repository =
            Repository::open(&options, devices.clone()).map_err(|failure| failure.to_string())?;
        let memory = SharedMemory::new(options.shared_memory.clone());
        let service = Service::new(
            repository.clone(),
            devices,
            memory,
            options.settings.clone(),
            options.strict_readiness,
        );
        let (stop, stopped) = watch::channel(false);
        let mut listeners = JoinSet::new();
        let mut addresses = Addresses::default();
        let http = options.access.before(http::router(&service, options.limits.clone()));
        let grpc = options.access.before(grpc::router(&service, options.limits.decompressed_bytes)?);
        for (wanted, bound, tls, router) in [
            (options.http, &mut addresses.http, options.http_tls, http),
            (options.grpc, &mut addresses.grpc, options.grpc_tls, grpc),
            (options.metrics, &mut addresses.metrics, None, metrics::router(&service)),
        ] {
            let Some(wanted) = wanted else { continue };
            let open = async {
                let listener = TcpListener::bind(wanted).await?;
                Ok::<_, std::io::Error>((listener.local_addr()?, listener))
            };
            let (address, listener) = open.await.map_err(|error| format!("{wanted}: {error}"))?;
            *bound = Some(address);
            let tls = tls.map(Tls::open).transpose()?.inspect(Tls::watch);
            let connections = options.connections.clone();
            listeners.spawn(listen::serve(listener, router, connections, tls, stopped.clone()));
        }
        let server = Server {
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
        all && drained
    }
}

/// Runs a server until the process is told to end (SIGTERM, or Ctrl-C), and then until its requests are answered. `ready` is called
/// once all models are loaded. A second signal ends the process at once.
///
/// # Errors
/// Those of [`Server::start`]; and if requests were not answered before the exit timeout.
pub fn run(options: Options, ready: impl FnOnce(&Server)) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
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
