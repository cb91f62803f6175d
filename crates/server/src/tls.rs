//! TLS: certificates from files, which are read again when they change, and clients that must show one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// The files of an address that is served by TLS, in PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, and those between it and the root.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// The roots of clients' certificates; with them, a client must show one (mutual TLS).
    pub clients: Option<PathBuf>,
}

/// What connections are accepted with now.
#[derive(Debug)]
pub(crate) struct Tls {
    files: TlsFiles,
    now: RwLock<(Times, Arc<ServerConfig>)>,
}

/// When each of the files was changed.
type Times = Vec<Option<SystemTime>>;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// A text with the file that cannot be read or used.
    pub(crate) fn open(files: TlsFiles) -> Result<Arc<Tls>, String> {
        let now = (times(&files), config(&files)?);
        Ok(Arc::new(Tls { files, now: RwLock::new(now) }))
    }

    /// What the next connection is accepted with.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.now.read().unwrap_or_else(PoisonError::into_inner).1.clone().into()
    }

    /// Reads the files again whenever they change, as long as somebody holds this. Files that cannot be used change nothing.
    pub(crate) fn watch(self: &Arc<Tls>) {
        let tls = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                let Some(tls) = tls.upgrade() else { return };
                let look = move || tls.look();
                let _ = tokio::task::spawn_blocking(look).await;
            }
        });
    }

    /// Reads the files again if they have changed.
    fn look(&self) {
        let changed = times(&self.files);
        if self.now.read().unwrap_or_else(PoisonError::into_inner).0 == changed {
            return;
        }
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        match config(&self.files) {
            Ok(config) => {
                tracing::info!(certificate = %self.files.certificate.display(), "the certificate was read again");
                *now = (changed, config);
            }
            // A key is often written after its certificate: the next look may find both.
            Err(error) => tracing::warn!(error, "the certificate stays as it was"),
        }
    }
}

fn times(files: &TlsFiles) -> Times {
    let time = |path: &PathBuf| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    [&files.certificate, &files.key].into_iter().chain(&files.clients).map(time).collect()
}

fn config(files: &TlsFiles) -> Result<Arc<ServerConfig>, String> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| in_file(&files.key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match &files.clients {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(path)? {
                roots.add(root).map_err(|error| in_file(path, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| in_file(path, &error))?)
        }
    };
    let mut config =
        builder.with_single_cert(chain, key).map_err(|error| in_file(&files.certificate, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| in_file(path, &error))?;
    match certificates.is_empty() {
        true => Err(format!("{}: it has no certificate in PEM form", path.display())),
        false => Ok(certificates),
    }
}

fn in_file(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test that cannot go on has failed.
mod tests {
    use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::ClientConfig;
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::TlsConnector;

    use super::*;

    /// Writes `NAME.pem` and `NAME.key`, signed by `issuer`.
    fn certificate(folder: &Path, name: &str, issuer: &CertifiedIssuer<'_, KeyPair>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_string()]).unwrap();
        let certificate = params.signed_by(&key, issuer).unwrap();
        fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn issuer() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// The certificate that a client sees, or why there is no connection.
    async fn seen(tls: &Arc<Tls>, root: &str, own: Option<(&Path, &Path)>) -> Result<Vec<u8>, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = tls.acceptor();
        let accepted = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            acceptor.accept(stream).await.map(drop).map_err(|error| error.to_string())
        });
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(root.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let key = PrivateKeyDer::from_pem_file(key).unwrap();
                builder.with_client_auth_cert(certificates(chain).unwrap(), key).unwrap()
            }
        };
        let stream = TcpStream::connect(address).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let connected = connected.map_err(|error| error.to_string())?;
        accepted.await.unwrap()?;
        Ok(connected.get_ref().1.peer_certificates().unwrap()[0].to_vec())
    }

    #[tokio::test]
    async fn a_new_certificate_takes_the_old_one_s_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let issuer = issuer();
        certificate(folder.path(), "server", &issuer);
        let files = TlsFiles { certificate: path("server.pem"), key: path("server.key"), clients: None };
        let tls = Tls::open(files).unwrap();
        let first = seen(&tls, &issuer.pem(), None).await.unwrap();
        let later = SystemTime::now() + Duration::from_secs(2);
        let touch = |name: &str| fs::File::open(path(name)).unwrap().set_modified(later).unwrap();
        fs::write(path("server.pem"), "half of it").unwrap();
        touch("server.pem");
        tls.look();
        assert_eq!(
            seen(&tls, &issuer.pem(), None).await.unwrap(),
            first,
            "what cannot be used changes nothing"
        );
        certificate(folder.path(), "server", &issuer);
        touch("server.key");
        tls.look();
        assert_ne!(seen(&tls, &issuer.pem(), None).await.unwrap(), first);
    }

    #[tokio::test]
    async fn clients_show_a_certificate_of_the_right_root() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (issuer, stranger) = (issuer(), self::issuer());
        certificate(folder.path(), "server", &issuer);
        certificate(folder.path(), "client", &issuer);
        certificate(folder.path(), "other", &stranger);
        fs::write(path("root.pem"), issuer.pem()).unwrap();
        let clients = Some(path("root.pem"));
        let tls = Tls::open(TlsFiles { certificate: path("server.pem"), key: path("server.key"), clients })
            .unwrap();
        let (client, other) =
            ([path("client.pem"), path("client.key")], [path("other.pem"), path("other.key")]);
        assert!(seen(&tls, &issuer.pem(), Some((&client[0], &client[1]))).await.is_ok());
        assert!(seen(&tls, &issuer.pem(), None).await.is_err());
        assert!(seen(&tls, &issuer.pem(), Some((&other[0], &other[1]))).await.is_err());
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("server.pem"), "no certificate").unwrap();
        let files = TlsFiles { certificate: path("server.pem"), key: path("server.key"), clients: None };
        assert!(
            Tls::open(files.clone()).unwrap_err().ends_with("server.pem: it has no certificate in PEM form")
        );
        certificate(folder.path(), "server", &issuer());
        fs::remove_file(path("server.key")).unwrap();
        assert!(Tls::open(files).unwrap_err().contains("server.key: "));
    }
}
