//! `Options`: all that can be set of a server, and the flags and the file that say it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use sardonyx::{DeviceOptions, Select};
use serde::{Deserialize, Serialize};

use crate::access::{Access, TokenRules};
use crate::budget::Budget;
use crate::http::Limits;
use crate::listen::Connections;
use crate::service::HANGS;
use crate::settings::Settings;
use crate::tls::TlsFiles;
use crate::traces::TraceConfig;
use crate::watching::PayloadLog;

/// What a server is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folders of models, and with the feature `object-store`, URLs such as `s3://BUCKET/PREFIX`.
    pub repositories: Vec<PathBuf>,
    /// The folder in which models of object stores are kept; `None` for one of the user's caches.
    pub repository_cache: Option<PathBuf>,
    /// The bytes of models that are kept there at most, for each repository.
    pub repository_cache_bytes: u64,
    /// When models are loaded.
    pub control: ControlMode,
    /// The models that are loaded at the start with [`ControlMode::Explicit`]; `*` stands for all.
    pub load: Vec<String>,
    /// How often the repositories are looked at with [`ControlMode::Poll`].
    pub poll: Duration,
    /// Whether the server ends if a model cannot be loaded at the start.
    pub exit_on_error: bool,
    /// Whether the server is ready only when all models are.
    pub strict_readiness: bool,
    /// Where HTTP is served; `None` for nowhere. Port 0 stands for any that is free.
    pub http: Option<SocketAddr>,
    /// Where gRPC is served.
    pub grpc: Option<SocketAddr>,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
    /// The runtime API of AWS Lambda, as host and port, whose invocations are answered as requests of HTTP.
    pub lambda: Option<String>,
    /// The devices; at least one.
    pub devices: Vec<DeviceOptions>,
    /// The runs that are in flight on a device at most.
    pub frames: usize,
    /// The bytes that all models together may take on each device; `None` for as many as there are.
    pub device_memory_bytes: Option<u64>,
    /// Bytes of answers that are kept for models with `response_cache`; 0 for none.
    pub response_cache_bytes: usize,
    /// Prefixes of the keys of shared memory that clients may register; none for no shared memory.
    pub shared_memory: Vec<String>,
    /// The files for HTTP by TLS.
    pub http_tls: Option<TlsFiles>,
    /// The files for gRPC by TLS.
    pub grpc_tls: Option<TlsFiles>,
    /// The keys and tokens that clients may show.
    pub access: Access,
    /// Where the server is administered; `None` for everywhere. It has all routes and the metrics, by HTTP's TLS. Requests that change the
    /// server are refused elsewhere then.
    pub admin: Option<SocketAddr>,
    /// Whether metrics are told only to clients that show a key.
    pub metrics_need_key: bool,
    /// The file that gets a line for each request; `-` for the standard output.
    pub access_log: Option<PathBuf>,
    /// Where payloads of the models whose configurations say so are logged.
    pub payload_log: Option<PayloadLog>,
    /// Where traces go, and which inferences are recorded at first.
    pub traces: TraceConfig,
    /// What clients may change of the log.
    pub settings: Settings,
    /// How much of a request the server takes in.
    pub limits: Limits,
    /// Limits of connections.
    pub connections: Connections,
    /// How long a run may take; one that takes longer hangs, and the server is not live any more.
    pub hang_time: Duration,
    /// How long the server answers requests after it was told to end, while it says that it is not ready.
    pub drain_delay: Duration,
    /// How long requests may take after that.
    pub exit_timeout: Duration,
}

/// When models are loaded and unloaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ControlMode {
    /// All at the start.
    #[default]
    None,
    /// All at the start, and whenever the repository changes.
    Poll,
    /// When a client says so.
    Explicit,
}

/// The flags of a server. Those that Triton's server has too carry its names and meanings. The keys of the file are the names of the
/// flags, and a flag overrides the file.
#[derive(Clone, Debug, Default, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Flags {
    /// A folder of models: NAME/VERSION/model.onnx, and NAME/config.pbtxt where the model needs one; or where an object store has them, as
    /// s3://BUCKET/PREFIX
    #[arg(long, visible_alias = "model-store", value_name = "FOLDER")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    model_repository: Vec<PathBuf>,
    /// The folder in which models of object stores are kept [default: sardonyx/repositories among the user's caches]
    #[arg(long, value_name = "FOLDER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    repository_cache: Option<PathBuf>,
    /// Bytes of models that are kept there at most, for each repository [default: 68719476736]
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    repository_cache_bytes: Option<u64>,
    /// When models are loaded: at the start, whenever the repository changes, or when a client says so
    #[arg(long, value_name = "MODE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    model_control_mode: Option<ControlMode>,
    /// A model to load at the start, with --model-control-mode explicit; * for all
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    load_model: Vec<String>,
    /// Seconds between two looks at the repository, with --model-control-mode poll [default: 15]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    repository_poll_secs: Option<u64>,
    /// End if a model cannot be loaded at the start [default: true]
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_on_error: Option<bool>,
    /// Be ready only when all models are [default: true]
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    strict_readiness: Option<bool>,
    /// Serve HTTP [default: true]
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    allow_http: Option<bool>,
    /// [default: 0.0.0.0]
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    http_address: Option<IpAddr>,
    /// [default: 8000; 0 for any that is free]
    #[arg(long, value_name = "PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    http_port: Option<u16>,
    /// Serve gRPC [default: true]
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    allow_grpc: Option<bool>,
    /// [default: 0.0.0.0]
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_address: Option<IpAddr>,
    /// [default: 8001]
    #[arg(long, value_name = "PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_port: Option<u16>,
    /// Serve metrics [default: true]
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    allow_metrics: Option<bool>,
    /// [default: that of HTTP]
    #[arg(long, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics_address: Option<IpAddr>,
    /// [default: 8002]
    #[arg(long, value_name = "PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics_port: Option<u16>,
    /// Answer the invocations of AWS Lambda, from function URLs and HTTP APIs, and open no port [default: false]
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    lambda: Option<bool>,
    /// A device: auto, gpu, cpu (the reference), an index or PCI address from `sardonyx devices`, or a part of an adapter's name [default: auto]
    #[arg(long, value_name = "NAME")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    device: Vec<String>,
    /// Runs in flight on a device at most [default: 2]
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    device_frames: Option<usize>,
    /// Bytes that all models together may take on each device; what needs more is refused [default: as many as there are]
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    device_memory_bytes: Option<u64>,
    /// Bytes of answers that are kept for equal requests to models with response_cache [default: 0, none]
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    response_cache_bytes: Option<usize>,
    /// Let clients register system shared memory whose key begins so, such as /app_
    #[arg(long, value_name = "PREFIX")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shared_memory_keys: Vec<String>,
    /// The certificate of HTTP in PEM form, with those between it and the root: HTTP is served by TLS
    #[arg(long, value_name = "FILE", requires = "http_server_key")]
    #[serde(skip_serializing_if = "Option::is_none")]
    http_server_cert: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE", requires = "http_server_cert")]
    #[serde(skip_serializing_if = "Option::is_none")]
    http_server_key: Option<PathBuf>,
    /// The roots of clients' certificates: clients of HTTP must show one
    #[arg(long, value_name = "FILE", requires = "http_server_cert")]
    #[serde(skip_serializing_if = "Option::is_none")]
    http_root_cert: Option<PathBuf>,
    /// The certificate of gRPC in PEM form, with those between it and the root: gRPC is served by TLS
    #[arg(long, value_name = "FILE", requires = "grpc_server_key")]
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_server_cert: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE", requires = "grpc_server_cert")]
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_server_key: Option<PathBuf>,
    /// The roots of clients' certificates: clients of gRPC must show one
    #[arg(long, value_name = "FILE", requires = "grpc_server_cert")]
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_root_cert: Option<PathBuf>,
    /// Answer only clients that show a key of this TOML file, which has a table for each: sha256, admin, models, and limits
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    api_keys: Option<PathBuf>,
    /// Answer only clients that show a key, or a JSON Web Token that a key of this file has signed: a set of JSON Web Keys, or public keys
    /// in PEM form
    #[arg(long, value_name = "FILE", requires = "jwt_audience")]
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt_keys: Option<PathBuf>,
    /// What 'aud' of a token must have
    #[arg(long, value_name = "TEXT", requires = "jwt_keys")]
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt_audience: Option<String>,
    /// What 'iss' of a token must be
    #[arg(long, value_name = "TEXT", requires = "jwt_keys")]
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt_issuer: Option<String>,
    /// Seconds by which the clocks of a token's issuer and of this server may differ [default: 60]
    #[arg(long, value_name = "SECONDS", requires = "jwt_keys")]
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt_leeway_secs: Option<u32>,
    /// Take requests that change the server at this port alone, which has all routes and the metrics; 0 for any that is free
    #[arg(long, value_name = "PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_port: Option<u16>,
    /// [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS", requires = "admin_port")]
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_address: Option<IpAddr>,
    /// Tell metrics only to clients that show a key [default: false]
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics_need_key: Option<bool>,
    /// Append a line of JSON for each request to this file, without its payload; - for the standard output
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    access_log: Option<PathBuf>,
    /// Log a share of the requests to models with the parameter payload_log, and the answers, as lines of JSON in this folder
    #[arg(long, value_name = "FOLDER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_log: Option<PathBuf>,
    /// Bytes of the payload log at most: the oldest lines are removed [default: 1073741824]
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_log_bytes: Option<u64>,
    /// Hours after which payloads are removed [default: 168]
    #[arg(long, value_name = "HOURS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_log_hours: Option<u64>,
    /// Record inferences: level=TIMESTAMPS, rate=N for one of N, count=N, and where they go: opentelemetry,url=http://HOST:4318/v1/traces or
    /// triton,file=FILE
    #[arg(long, value_name = "SETTING=VALUE")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    trace_config: Vec<String>,
    /// Bytes of a request at most, sent or decompressed [default: 268435456]
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_request_bytes: Option<usize>,
    /// Bytes of requests that the server holds at once, of all clients together [default: 4294967296]
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_held_bytes: Option<usize>,
    /// Connections to an address at most [default: 4096]
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_connections: Option<usize>,
    /// Seconds after which a run hangs, and the server says that it is not live [default: 300]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    hang_secs: Option<u64>,
    /// Seconds for which requests are still answered after SIGTERM, while the server says that it is not ready [default: 0]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    drain_delay_secs: Option<u64>,
    /// Seconds that requests may take after that [default: 30]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_timeout_secs: Option<u64>,
}

impl Options {
    /// What a server does with these repositories where nothing is said: Triton's ports on all addresses, one device.
    pub fn new(repositories: Vec<PathBuf>) -> Options {
        let everywhere = |port| Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port));
        Options {
            repositories,
            repository_cache: None,
            repository_cache_bytes: 64 << 30,
            control: ControlMode::None,
            load: Vec::new(),
            poll: Duration::from_secs(15),
            exit_on_error: true,
            strict_readiness: true,
            http: everywhere(8000),
            grpc: everywhere(8001),
            metrics: everywhere(8002),
            lambda: None,
            devices: vec![device("auto")],
            frames: 2,
            device_memory_bytes: None,
            response_cache_bytes: 0,
            shared_memory: Vec::new(),
            http_tls: None,
            grpc_tls: None,
            access: Access::default(),
            admin: None,
            metrics_need_key: false,
            access_log: None,
            traces: TraceConfig::default(),
            payload_log: None,
            settings: Settings::default(),
            limits: Limits::default(),
            connections: Connections::default(),
            hang_time: HANGS,
            drain_delay: Duration::ZERO,
            exit_timeout: Duration::from_secs(30),
        }
    }

    /// What the flags say, and where they say nothing, the TOML file.
    ///
    /// # Errors
    /// A text that names the file, the flag or the key.
    pub fn read(flags: &Flags, file: Option<&Path>) -> Result<Options, String> {
        let Some(file) = file else { return flags.clone().resolved() };
        let shown = file.display();
        let text = std::fs::read_to_string(file).map_err(|error| format!("{shown}: {error}"))?;
        let mut table: toml::Table = text.parse().map_err(|error| format!("{shown}: {error}"))?;
        let from_file: Result<Flags, _> = table.clone().try_into();
        from_file.map_err(|error| format!("{shown}: {error}"))?;
        table.extend(toml::Table::try_from(flags).map_err(|error| error.to_string())?);
        let merged: Flags = table.try_into().map_err(|error| format!("{shown}: {error}"))?;
        merged.resolved()
    }
}

impl Flags {
    /// The flags with one more repository.
    pub fn with_repository(mut self, folder: Option<PathBuf>) -> Flags {
        self.model_repository.extend(folder);
        self
    }

    fn resolved(self) -> Result<Options, String> {
        if self.model_repository.is_empty() {
            return Err("there is no model repository; name the folder of the models".into());
        }
        let mut options = Options::new(self.model_repository);
        options.repository_cache = self.repository_cache;
        options.repository_cache_bytes =
            self.repository_cache_bytes.unwrap_or(options.repository_cache_bytes);
        options.control = self.model_control_mode.unwrap_or_default();
        if options.control != ControlMode::Explicit && !self.load_model.is_empty() {
            return Err(
                "--load-model needs --model-control-mode explicit; all models are loaded otherwise".into()
            );
        }
        options.load = self.load_model;
        let metrics_address = self.metrics_address.or(self.http_address);
        for (address, allowed, ip, port) in [
            (&mut options.http, self.allow_http, self.http_address, self.http_port),
            (&mut options.grpc, self.allow_grpc, self.grpc_address, self.grpc_port),
            (&mut options.metrics, self.allow_metrics, metrics_address, self.metrics_port),
        ] {
            *address = address
                .filter(|_| allowed.unwrap_or(true))
                .map(|default| SocketAddr::new(ip.unwrap_or(default.ip()), port.unwrap_or(default.port())));
        }
        if self.lambda.unwrap_or_default() {
            let api = std::env::var("AWS_LAMBDA_RUNTIME_API")
                .map_err(|_| "--lambda needs the variable AWS_LAMBDA_RUNTIME_API, which AWS Lambda sets")?;
            (options.http, options.grpc, options.metrics, options.lambda) = (None, None, None, Some(api));
        }
        if !self.device.is_empty() {
            options.devices = self.device.iter().map(|name| device(name)).collect();
        }
        let limits = &mut options.limits;
        (limits.body_bytes, limits.decompressed_bytes) = match self.max_request_bytes {
            Some(bytes) => (bytes, bytes),
            None => (limits.body_bytes, limits.decompressed_bytes),
        };
        if let Some(bytes) = self.max_held_bytes {
            limits.in_all = Budget::new(bytes);
        }
        if let Some(count) = self.max_connections {
            options.connections.count = count.max(1);
        }
        for (time, seconds) in [
            (&mut options.poll, self.repository_poll_secs),
            (&mut options.hang_time, self.hang_secs),
            (&mut options.drain_delay, self.drain_delay_secs),
            (&mut options.exit_timeout, self.exit_timeout_secs),
        ] {
            *time = seconds.map_or(*time, Duration::from_secs);
        }
        options.poll = options.poll.max(Duration::from_secs(1));
        options.exit_on_error = self.exit_on_error.unwrap_or(options.exit_on_error);
        options.strict_readiness = self.strict_readiness.unwrap_or(options.strict_readiness);
        options.frames = self.device_frames.unwrap_or(options.frames);
        options.device_memory_bytes = self.device_memory_bytes;
        options.response_cache_bytes = self.response_cache_bytes.unwrap_or_default();
        options.access_log = self.access_log;
        options.traces = TraceConfig::parse(&self.trace_config)?;
        options.payload_log = self.payload_log.map(|folder| PayloadLog {
            folder,
            bytes: self.payload_log_bytes.unwrap_or(1 << 30),
            age: Duration::from_secs(self.payload_log_hours.unwrap_or(168).saturating_mul(3600)),
        });
        options.shared_memory = self.shared_memory_keys;
        options.http_tls = tls("http", self.http_server_cert, self.http_server_key, self.http_root_cert)?;
        options.grpc_tls = tls("grpc", self.grpc_server_cert, self.grpc_server_key, self.grpc_root_cert)?;
        let tokens = match (self.jwt_keys, self.jwt_audience) {
            (Some(keys), Some(audience)) => Some(TokenRules {
                keys,
                audience,
                issuer: self.jwt_issuer,
                leeway: Duration::from_secs(self.jwt_leeway_secs.unwrap_or(60).into()),
            }),
            (None, None) => None,
            _ => return Err("tokens need both jwt-keys and jwt-audience".into()),
        };
        options.access = Access::read(self.api_keys.as_deref(), tokens)?;
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        options.admin =
            self.admin_port.map(|port| SocketAddr::new(self.admin_address.unwrap_or(loopback), port));
        options.metrics_need_key = self.metrics_need_key.unwrap_or_default();
        if options.metrics_need_key && !options.access.is_on() {
            return Err("metrics-need-key needs keys: api-keys or jwt-keys".into());
        }
        Ok(options)
    }
}

fn device(name: &str) -> DeviceOptions {
    let select: Select = name.parse().unwrap_or_else(|never: std::convert::Infallible| match never {});
    DeviceOptions::new().select(select).timed(|adapter| !adapter.software)
}

fn tls(
    name: &str,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    clients: Option<PathBuf>,
) -> Result<Option<TlsFiles>, String> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some(TlsFiles { certificate, key, clients })),
        (None, None) if clients.is_none() => Ok(None),
        _ => Err(format!("TLS needs both {name}-server-cert and {name}-server-key")),
    }
}
