//! How a server knows who asks, and how the client knows the server: headers, keys, and certificates.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sardonyx::shown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::codegen::{Service, http::Uri};

use super::{Args, Failure};

/// The variable of the environment that may hold the key.
const API_KEY: &str = "SARDONYX_API_KEY";

/// What every request carries, and what its connection is made with.
#[derive(Clone, Default)]
pub(super) struct Credentials {
    pub(super) headers: HeaderMap,
    tls: Option<Arc<ClientConfig>>,
}

/// A connection that may be one of TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Credentials {
    /// Reads the key, the headers and the certificates that the command line names. `protocol` is that of TLS (ALPN).
    pub(super) fn read(args: &Args, protocol: &str) -> Result<Credentials, Failure> {
        let mut headers = HeaderMap::new();
        for header in &args.header {
            let wrong = || Failure::from(format!("--header {}: write it as NAME: VALUE", shown(header)));
            let (name, value) = header.split_once(':').ok_or_else(wrong)?;
            let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
            headers.append(name, value.trim().parse().map_err(|_| wrong())?);
        }
        if let Some(key) = args.api_key.clone().or_else(|| std::env::var(API_KEY).ok()) {
            // The key is in no message.
            let mut value: HeaderValue = format!("Bearer {key}")
                .parse()
                .map_err(|_| "--api-key: a key has no control characters, and none beyond ASCII")?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let tls = match &args.ca {
            None => None,
            Some(roots) => {
                let own = args.client_cert.as_deref().zip(args.client_key.as_deref());
                Some(Arc::new(config(roots, own, protocol)?))
            }
        };
        Ok(Credentials { headers, tls })
    }

    /// The same connections without headers, which are for the server of the models only.
    pub(super) fn without_headers(self) -> Credentials {
        Credentials { headers: HeaderMap::new(), ..self }
    }

    /// What makes the connections to `host:port` of a URL; `secure` asks for TLS.
    ///
    /// # Errors
    /// If TLS is asked for without roots, or roots are given without TLS.
    pub(super) fn connector(
        &self,
        url: &str,
        host: &str,
        port: u16,
        secure: bool,
    ) -> Result<Connector, Failure> {
        let tls = match (&self.tls, secure) {
            (None, false) => None,
            (Some(config), true) => {
                let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
                let name = name.map_err(|_| format!("{}: the host is no name", shown(url)))?;
                Some((config.clone(), name))
            }
            (None, true) => {
                let text = "TLS needs the roots of the server's certificate: --ca FILE, such as /etc/ssl/certs/ca-certificates.crt";
                return Err(format!("{}: {text}", shown(url)).into());
            }
            (Some(_), false) => {
                return Err(
                    format!("{}: --ca is for TLS; write the address with https://", shown(url)).into()
                );
            }
        };
        Ok(Connector { authority: format!("{host}:{port}"), tls })
    }
}

/// Makes connections to one address.
#[derive(Clone)]
pub(super) struct Connector {
    authority: String,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Connector {
    /// The host and the port.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    pub(super) async fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(&self.authority).await?;
        let _ = stream.set_nodelay(true);
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some((config, name)) => {
                let connector = TlsConnector::from(config.clone());
                Ok(Box::new(connector.connect(name.clone(), stream).await?))
            }
        }
    }
}

/// As gRPC's channel wants it.
impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect().await.map(TokioIo::new) })
    }
}

fn config(roots: &Path, own: Option<(&Path, &Path)>, protocol: &str) -> Result<ClientConfig, Failure> {
    let in_file =
        |path: &Path, error: &dyn std::fmt::Display| Failure::from(format!("{}: {error}", path.display()));
    let certificates = |path: &Path| {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        match read {
            Ok(read) if read.is_empty() => Err(in_file(path, &"it has no certificate in PEM form")),
            Ok(read) => Ok(read),
            Err(error) => Err(in_file(path, &error)),
        }
    };
    let mut store = RootCertStore::empty();
    for root in certificates(roots)? {
        store.add(root).map_err(|error| in_file(roots, &error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(store);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| in_file(key, &error))?;
            let config = builder.with_client_auth_cert(certificates(chain)?, private);
            config.map_err(|error| in_file(chain, &error))?
        }
    };
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Ok(config)
}
