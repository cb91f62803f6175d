//! `Access`: who may ask for what. One layer before all protocols: a route that it does not know needs the right to administer.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, Method};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{Failure, Reason};

/// The keys that clients may show, by the hashes of them; without any, everybody may do everything.
///
/// The file is TOML: a table for each key, under the name of who has it. `sha256` is what `printf %s "$KEY" | sha256sum` prints.
///
/// ```
/// let keys = r#"
///     [shop]
///     sha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
///
///     [operations]
///     sha256 = "fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9"
///     admin = true
/// "#;
/// assert!(sardonyx_server::access::Access::parse(keys).is_ok());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Access {
    keys: Arc<[Key]>,
}

#[derive(Debug)]
struct Key {
    name: Arc<str>,
    sha256: [u8; 32],
    admin: bool,
}

/// What a key of the file says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    sha256: String,
    /// Whether it may load models, register shared memory and change settings.
    #[serde(default)]
    admin: bool,
}

/// Who has asked: the name of the key, in the extensions of a request.
#[derive(Clone, Debug)]
pub(crate) struct Tenant(pub(crate) Arc<str>);

/// What a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    /// Nothing: whether the server lives and is ready.
    Nobodys,
    /// A key.
    Infer,
    /// A key that may administer.
    Admin,
}

/// The beginnings of paths whose requests change the server, unless their method is GET.
const CHANGES: [&str; 5] = [
    "/v2/repository/models/",
    "/v2/systemsharedmemory",
    "/v2/cudasharedmemory",
    "/v2/logging",
    "/v2/trace/setting",
];

/// The calls of gRPC that need no right to administer.
const CALLS: [&str; 11] = [
    "ServerMetadata",
    "ModelReady",
    "ModelMetadata",
    "ModelInfer",
    "ModelStreamInfer",
    "ModelConfig",
    "ModelStatistics",
    "RepositoryIndex",
    "SystemSharedMemoryStatus",
    "CudaSharedMemoryStatus",
    "ServerReflectionInfo",
];

impl Access {
    /// Reads a file of keys.
    ///
    /// # Errors
    /// A text with the file, and what is wrong with it.
    pub fn read(file: &Path) -> Result<Access, String> {
        let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        Access::parse(&text).map_err(|error| format!("{}: {error}", file.display()))
    }

    /// Reads the text of a file of keys.
    ///
    /// # Errors
    /// A text: no key, a hash that is none, an unknown word.
    pub fn parse(text: &str) -> Result<Access, String> {
        let entries: std::collections::BTreeMap<String, Entry> =
            toml::from_str(text).map_err(|error| error.message().to_string())?;
        if entries.is_empty() {
            return Err("there is no key; leave the file out to let everybody in".into());
        }
        let key = |(name, entry): (String, Entry)| {
            let sha256 = bytes_of_hex(&entry.sha256)
                .ok_or_else(|| format!("key '{name}': sha256 is not 64 hexadecimal digits"))?;
            Ok(Key { name: name.into(), sha256, admin: entry.admin })
        };
        Ok(Access { keys: entries.into_iter().map(key).collect::<Result<_, String>>()? })
    }

    /// `router`, behind this layer.
    pub(crate) fn before(&self, router: Router) -> Router {
        match self.keys.is_empty() {
            true => router,
            false => router.layer(middleware::from_fn_with_state(self.clone(), admit)),
        }
    }

    /// Who asks; `None` for a route that is nobody's.
    fn admitted(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<Option<Tenant>, Failure> {
        let right = right(method, path);
        if right == Right::Nobodys {
            return Ok(None);
        }
        let shown = shown_key(headers).ok_or_else(|| {
            let text = "this needs a key: send it as 'Authorization: Bearer KEY' or as 'X-API-Key: KEY'";
            Failure::new(Reason::Unauthenticated, text)
        })?;
        let hash = Sha256::digest(shown.as_bytes());
        // All keys are compared, and each wholly: the time tells nothing of them.
        let matching = |key: &&Key| bool::from(key.sha256.as_slice().ct_eq(hash.as_slice()));
        let found = self.keys.iter().fold(None, |found, key| if matching(&key) { Some(key) } else { found });
        let key = found.ok_or_else(|| Failure::new(Reason::Unauthenticated, "this key is not known"))?;
        if right == Right::Admin && !key.admin {
            let text = format!("the key of '{}' may not change the server", key.name);
            return Err(Failure::new(Reason::Forbidden, text));
        }
        Ok(Some(Tenant(key.name.clone())))
    }
}

async fn admit(State(access): State<Access>, mut request: Request, next: Next) -> Response {
    match access.admitted(request.method(), request.uri().path(), request.headers()) {
        Ok(tenant) => {
            if let Some(tenant) = tenant {
                request.extensions_mut().insert(tenant);
            }
            next.run(request).await
        }
        Err(failure) if is_grpc(request.headers()) => tonic::Status::from(failure).into_http(),
        Err(failure) => failure.into_response(),
    }
}

/// What a request needs. What is not named here needs the right to administer.
fn right(method: &Method, path: &str) -> Right {
    if let Some(call) = path.strip_prefix("/inference.GRPCInferenceService/") {
        return match call {
            "ServerLive" | "ServerReady" => Right::Nobodys,
            call if CALLS.contains(&call) => Right::Infer,
            _ => Right::Admin,
        };
    }
    if path.starts_with("/grpc.health.v1.Health/") || path.starts_with("/v2/health/") || path == "/ping" {
        return Right::Nobodys;
    }
    if path.starts_with("/grpc.reflection.") {
        return Right::Infer;
    }
    if path == "/models" || path.starts_with("/models/") {
        return if method == Method::GET { Right::Infer } else { Right::Admin };
    }
    let changes = CHANGES.iter().any(|start| path.starts_with(start)) || path.ends_with("/trace/setting");
    match path.starts_with("/v1/")
        || path.starts_with("/v2/")
        || path == "/v2"
        || path.starts_with("/predictions/")
    {
        true if changes && method != Method::GET => Right::Admin,
        true => Right::Infer,
        false => Right::Admin,
    }
}

fn shown_key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    bearer.or_else(|| headers.get("x-api-key")?.to_str().ok())
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn bytes_of_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let pairs = text.as_bytes().as_chunks::<2>().0;
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test that cannot go on has failed.
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    /// The keys `foo` and `bar`, hashed by `sha256sum`.
    const KEYS: &str = r#"
        [shop]
        sha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
        [operations]
        sha256 = "FCDE2B2EDBA56BF408601FB721FE9B5C338D10EE429EA04FAE5511B68FBF8FB9"
        admin = true
    "#;

    fn asked(method: &str, path: &str, key: Option<(&'static str, &'static str)>) -> Result<String, Reason> {
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = key {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let admitted = Access::parse(KEYS).unwrap().admitted(&method.parse().unwrap(), path, &headers);
        admitted
            .map(|tenant| tenant.map_or("nobody".into(), |tenant| tenant.0.to_string()))
            .map_err(|failure| failure.reason)
    }

    #[test]
    fn keys_open_what_they_may() {
        let (shop, operations) = (Some(("authorization", "Bearer foo")), Some(("x-api-key", "bar")));
        let infer = "/v2/models/cat/infer";
        assert_eq!(asked("POST", infer, shop), Ok("shop".into()));
        assert_eq!(asked("POST", infer, operations), Ok("operations".into()));
        assert_eq!(asked("POST", infer, None), Err(Reason::Unauthenticated));
        assert_eq!(asked("POST", infer, Some(("x-api-key", "fo"))), Err(Reason::Unauthenticated));
        assert_eq!(asked("POST", infer, Some(("authorization", "Basic foo"))), Err(Reason::Unauthenticated));
        let calls = "/inference.GRPCInferenceService/";
        for (method, path) in [
            ("POST", "/v2/repository/models/cat/load"),
            ("POST", "/v2/repository/models/cat/unload"),
            ("POST", "/v2/systemsharedmemory/region/r/register"),
            ("POST", "/v2/logging"),
            ("POST", "/models"),
            ("POST", "/v2/models/cat/trace/setting"),
            ("POST", &format!("{calls}RepositoryModelLoad")),
            ("POST", &format!("{calls}SystemSharedMemoryRegister")),
            ("POST", &format!("{calls}LogSettings")),
            ("POST", &format!("{calls}SomethingNew")),
            ("GET", "/something/new"),
        ] {
            assert_eq!(asked(method, path, shop), Err(Reason::Forbidden), "{path}");
            assert_eq!(asked(method, path, operations), Ok("operations".into()), "{path}");
            assert_eq!(asked(method, path, None), Err(Reason::Unauthenticated), "{path}");
        }
        for (method, path) in [
            ("POST", "/v2/repository/index"),
            ("GET", "/v2/logging"),
            ("GET", "/v2"),
            ("GET", "/models"),
            ("POST", "/predictions/cat"),
            ("POST", "/v1/models/cat:predict"),
            ("POST", &format!("{calls}ModelInfer")),
            ("POST", &format!("{calls}RepositoryIndex")),
        ] {
            assert_eq!(asked(method, path, shop), Ok("shop".into()), "{path}");
        }
        for path in [
            "/v2/health/live",
            "/v2/health/ready",
            "/grpc.health.v1.Health/Check",
            &format!("{calls}ServerReady"),
        ] {
            assert_eq!(asked("GET", path, None), Ok("nobody".into()), "{path}");
        }
    }

    #[test]
    fn files_of_keys() {
        assert!(Access::parse("").unwrap_err().contains("no key"));
        assert!(Access::parse("[a]\nsha256 = \"12\"").unwrap_err().contains("64 hexadecimal digits"));
        let not_hex = format!("[a]\nsha256 = \"{}\"", "é".repeat(32));
        assert!(Access::parse(&not_hex).unwrap_err().contains("64 hexadecimal digits"));
        assert!(Access::parse("[a]\nkey = \"secret\"").is_err());
    }
}
