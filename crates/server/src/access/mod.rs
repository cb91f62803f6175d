//! `Access`: who may ask for what, and how much. One layer before all protocols: a route that it does not know needs the right to
//! administer.

mod keyset;
mod limits;
mod routes;
mod tenant;
mod token;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, Method};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

pub use tenant::Tenant;
pub use token::TokenRules;

use crate::http::openai;
use crate::{Failure, Reason, exchange};
use limits::{Account, InFlight, Limits, Now, Refusal};
use routes::Right;
use tenant::Models;
use token::{Claims, Tokens};

/// The keys and tokens that clients may show; without any, everybody may do everything.
///
/// The file of keys is TOML: a table for each key, under the name of who has it. `sha256` is what `printf %s "$KEY" | sha256sum` prints.
/// A table without `sha256` has the limits of the tenant of this name that tokens tell, and `["*"]` those that all others of tokens share.
///
/// ```
/// let keys = r#"
///     [shop]
///     sha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
///     models = ["cat", "embed-*"]  # * stands for any letters
///     requests_per_second = 50
///     burst = 100                  # at once, after a pause
///     in_flight = 16
///     quota_requests = 1_000_000
///     quota_bytes = 10_000_000_000 # of tensors
///     quota_seconds = 86400
///
///     [operations]
///     sha256 = "fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9"
///     admin = true
/// "#;
/// assert!(sardonyx_server::access::Access::parse(keys).is_ok());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Access(Option<Arc<Gate>>);

#[derive(Debug)]
struct Gate {
    keys: Option<PathBuf>,
    rules: Option<TokenRules>,
    now: RwLock<(Times, Arc<Known>)>,
    /// By the names of tables: they stay when the files are read again.
    accounts: Mutex<BTreeMap<String, Arc<Account>>>,
    nobody: Account,
}

/// When each of the files was changed.
type Times = Vec<Option<SystemTime>>;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Who is known.
#[derive(Debug)]
struct Known {
    /// By the first bytes of the hash, which are compared in one step: the time tells nothing of the others.
    keys: HashMap<u64, ([u8; 32], Tenant)>,
    /// Those that tokens may tell.
    tenants: HashMap<String, Tenant>,
    tokens: Option<Tokens>,
    /// The account of tenants that no table names.
    others: Tenant,
}

/// The table of all tenants of tokens that have none of their own.
const OTHERS: &str = "*";

/// What a table of the file says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    sha256: Option<String>,
    /// Whether it may load models, register shared memory and change settings.
    #[serde(default)]
    admin: bool,
    models: Option<Vec<String>>,
    requests_per_second: Option<f64>,
    burst: Option<f64>,
    in_flight: Option<usize>,
    quota_requests: Option<u64>,
    quota_bytes: Option<u64>,
    quota_seconds: Option<u64>,
}

impl Entry {
    fn limits(&self) -> Result<Limits, String> {
        let positive = |number: &f64| number.is_finite() && *number > 0.0;
        let rate = match (self.requests_per_second, self.burst) {
            (None, None) => None,
            (None, Some(_)) => return Err("burst needs requests_per_second".into()),
            (Some(rate), burst) => Some((rate, burst.unwrap_or(rate.ceil()).max(1.0))),
        };
        if !rate.is_none_or(|(rate, burst)| positive(&rate) && positive(&burst)) {
            return Err("requests_per_second is a number above 0, and burst one from 1 on".into());
        }
        let window = self.quota_seconds.unwrap_or(86400);
        if window == 0 {
            return Err("quota_seconds is a number of seconds from 1 on".into());
        }
        let (requests, bytes) = (self.quota_requests, self.quota_bytes);
        Ok(Limits { rate, in_flight: self.in_flight, requests, bytes, window: Duration::from_secs(window) })
    }
}

impl Access {
    /// Reads a file of keys, or one of those that tokens are signed with, or both. They are read again when they change.
    ///
    /// # Errors
    /// A text with the file, and what is wrong with it.
    pub fn read(keys: Option<&Path>, tokens: Option<TokenRules>) -> Result<Access, String> {
        if keys.is_none() && tokens.is_none() {
            return Ok(Access::default());
        }
        let keys = keys.map(Path::to_path_buf);
        let times = times(keys.as_deref(), tokens.as_ref());
        let accounts = Mutex::default();
        let known = known(keys.as_deref(), tokens.as_ref(), &accounts)?;
        let now = RwLock::new((times, Arc::new(known)));
        let gate = Gate { keys, rules: tokens, now, accounts, nobody: Account::default() };
        Ok(Access(Some(Arc::new(gate))))
    }

    /// Reads the text of a file of keys.
    ///
    /// # Errors
    /// A text: no key, a hash that is none, an unknown word.
    pub fn parse(text: &str) -> Result<Access, String> {
        let accounts = Mutex::default();
        let now = RwLock::new((Vec::new(), Arc::new(Known::parse(text, None, &accounts)?)));
        let gate = Gate { keys: None, rules: None, now, accounts, nobody: Account::default() };
        Ok(Access(Some(Arc::new(gate))))
    }

    /// Whether clients must show a key or a token.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// `router`, behind this layer. With `elsewhere`, the server is administered at another address, and not here.
    pub(crate) fn before(&self, router: Router, elsewhere: bool) -> Router {
        match self.is_on() || elsewhere {
            false => router,
            true => {
                router.layer(middleware::from_fn_with_state(Door { access: self.clone(), elsewhere }, admit))
            }
        }
    }

    /// Reads the files again whenever they change, as long as somebody holds this. Files that cannot be used change nothing.
    pub(crate) fn watch(&self) {
        let Some(gate) = self.0.as_ref().map(Arc::downgrade) else { return };
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                let Some(gate) = gate.upgrade() else { return };
                let _ = tokio::task::spawn_blocking(move || gate.look()).await;
            }
        });
    }

    /// How many requests were refused, by the table of who asked and the reason. The table is empty for those that showed no key that is
    /// known, and `(token)` for those of tokens without a table.
    pub fn refused(&self) -> Vec<(String, &'static str, u64)> {
        let Some(gate) = &self.0 else { return Vec::new() };
        let accounts = gate.accounts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let of = |name: &str, account: &Account| {
            Refusal::ALL.map(|(refusal, reason)| (name.to_string(), reason, account.counted(refusal)))
        };
        let known = accounts.iter().flat_map(|(name, account)| of(name, account));
        known.chain(of("", &gate.nobody)).filter(|(.., count)| *count > 0).collect()
    }
}

impl Gate {
    fn known(&self) -> Arc<Known> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// Reads the files again if they have changed.
    fn look(&self) {
        let changed = times(self.keys.as_deref(), self.rules.as_ref());
        if self.now.read().unwrap_or_else(PoisonError::into_inner).0 == changed {
            return;
        }
        match known(self.keys.as_deref(), self.rules.as_ref(), &self.accounts) {
            Ok(known) => {
                tracing::info!("the keys were read again");
                *self.now.write().unwrap_or_else(PoisonError::into_inner) = (changed, Arc::new(known));
            }
            Err(error) => tracing::warn!(error, "the keys stay as they were"),
        }
    }

    /// Who shows these headers.
    fn shown(&self, headers: &HeaderMap) -> Result<Tenant, Failure> {
        let unknown = |text: &str| {
            self.nobody.count(Refusal::Unknown);
            Failure::new(Reason::Unauthenticated, text)
        };
        let shown = shown_key(headers).ok_or_else(|| {
            unknown("this needs a key: send it as 'Authorization: Bearer KEY' or as 'X-API-Key: KEY'")
        })?;
        let known = self.known();
        if let Some(tenant) = known.by_key(shown) {
            return Ok(tenant.clone());
        }
        let Some(tokens) = &known.tokens else { return Err(unknown("this key is not known")) };
        let claims = tokens.verify(shown, Now::get().since_1970).map_err(unknown)?;
        known.by_claims(claims).map_err(|text| unknown(&text))
    }
}

fn times(keys: Option<&Path>, tokens: Option<&TokenRules>) -> Times {
    let time = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    keys.into_iter().chain(tokens.map(|rules| rules.keys.as_path())).map(time).collect()
}

fn known(
    keys: Option<&Path>,
    rules: Option<&TokenRules>,
    accounts: &Mutex<BTreeMap<String, Arc<Account>>>,
) -> Result<Known, String> {
    let read = |rules: &TokenRules| {
        Tokens::read(rules).map_err(|error| format!("{}: {error}", rules.keys.display()))
    };
    let tokens = rules.map(read).transpose()?;
    let Some(file) = keys else { return Known::new(BTreeMap::new(), tokens, accounts) };
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Known::parse(&text, tokens, accounts).map_err(|error| format!("{}: {error}", file.display()))
}

impl Known {
    fn parse(
        text: &str,
        tokens: Option<Tokens>,
        accounts: &Mutex<BTreeMap<String, Arc<Account>>>,
    ) -> Result<Known, String> {
        let entries: BTreeMap<String, Entry> =
            toml::from_str(text).map_err(|error| error.message().to_string())?;
        if entries.is_empty() {
            return Err("there is no key; leave the file out to let everybody in".into());
        }
        Known::new(entries, tokens, accounts)
    }

    fn new(
        entries: BTreeMap<String, Entry>,
        tokens: Option<Tokens>,
        accounts: &Mutex<BTreeMap<String, Arc<Account>>>,
    ) -> Result<Known, String> {
        let mut accounts = accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut account = |name: &str| accounts.entry(name.to_string()).or_default().clone();
        let (mut keys, mut tenants) = (HashMap::new(), HashMap::new());
        for (name, entry) in entries {
            let wrong = |text: String| format!("key '{name}': {text}");
            if name.is_empty() || name.len() > 128 || name.contains(char::is_control) {
                return Err(wrong("a name has 1 to 128 letters".into()));
            }
            let limits = Arc::new(entry.limits().map_err(wrong)?);
            let mut tenant = Tenant::new(name.as_str().into(), limits, account(&name));
            tenant.models.extend(entry.models.map(Models::new).transpose().map_err(wrong)?);
            tenants.insert(name.clone(), tenant.clone());
            let Some(sha256) = entry.sha256 else {
                match entry.admin {
                    _ if tokens.is_none() => return Err(wrong("sha256 is missing".into())),
                    true => return Err(wrong("tokens say whether they are admin; a key has sha256".into())),
                    false => continue,
                }
            };
            if name == OTHERS {
                return Err(wrong("this table is for tenants of tokens, and has no sha256".into()));
            }
            tenant.admin = entry.admin;
            let sha256 =
                bytes_of_hex(&sha256).ok_or_else(|| wrong("sha256 is not 64 hexadecimal digits".into()))?;
            if keys.insert(prefix(&sha256), (sha256, tenant)).is_some() {
                return Err(wrong("another has this sha256 too".into()));
            }
        }
        let others = match tenants.get(OTHERS) {
            Some(tenant) => tenant.clone(),
            None if tokens.is_some() => Tenant::new("".into(), Arc::default(), account("(token)")),
            None => "".into(),
        };
        Ok(Known { keys, tenants, tokens, others })
    }

    fn by_key(&self, shown: &str) -> Option<&Tenant> {
        let hash: [u8; 32] = Sha256::digest(shown.as_bytes()).into();
        let (sha256, tenant) = self.keys.get(&prefix(&hash))?;
        bool::from(sha256.ct_eq(&hash)).then_some(tenant)
    }

    fn by_claims(&self, claims: Claims) -> Result<Tenant, String> {
        let known = self.tenants.get(&claims.tenant).unwrap_or(&self.others);
        let (limits, account) = (known.limits.clone(), known.account.clone());
        let mut tenant = Tenant::new(claims.tenant.as_str().into(), limits, account);
        tenant.admin = claims.admin;
        tenant.models.extend(known.models.iter().cloned());
        tenant.models.extend(claims.models.map(Models::new).transpose()?);
        Ok(tenant)
    }
}

fn prefix(hash: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// The layer of one address.
#[derive(Clone, Debug)]
struct Door {
    access: Access,
    elsewhere: bool,
}

/// Who was let in, and its place among the requests that are being answered. A stream has none: its requests have.
type Admitted = (Tenant, Option<InFlight>);

impl Door {
    /// Who asks; `None` for a route that is nobody's, and where everybody may ask.
    fn admitted(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Option<Admitted>, Failure> {
        let right = routes::right(method, path);
        if right == Right::Nobodys {
            return Ok(None);
        }
        let tenant = self.access.0.as_ref().map(|gate| gate.shown(headers)).transpose()?;
        if right == Right::Admin && self.elsewhere {
            tenant.iter().for_each(|tenant| tenant.account.count(Refusal::Forbidden));
            let text = "the server is not changed at this address, but at that of --admin-port";
            return Err(Failure::new(Reason::Forbidden, text));
        }
        let Some(tenant) = tenant else { return Ok(None) };
        if right >= Right::Memory && !tenant.admin {
            tenant.account.count(Refusal::Forbidden);
            let text = format!("the key of '{}' may not change the server", &*tenant);
            return Err(Failure::new(Reason::Forbidden, text));
        }
        if let Some(model) = routes::model(path) {
            tenant.allow(model)?;
        }
        let in_flight = match routes::is_stream(path) {
            true => tenant.ask().map(|()| None)?,
            false => Some(tenant.begin()?),
        };
        Ok(Some((tenant, in_flight)))
    }
}

async fn admit(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    match door.admitted(request.method(), request.uri().path(), request.headers()) {
        Ok(None) => next.run(request).await,
        Ok(Some((tenant, in_flight))) => {
            let in_flight = in_flight.filter(|_| tenant.limits.in_flight.is_some());
            exchange::note(|notes| notes.key = Some(tenant.to_string()));
            request.extensions_mut().insert(tenant);
            let response = next.run(request).await;
            match in_flight {
                None => response,
                Some(in_flight) => response.map(|body| Body::new(Held { body, _in_flight: in_flight })),
            }
        }
        Err(failure) if is_grpc(request.headers()) => tonic::Status::from(failure).into_http(),
        Err(failure) if openai::is_asked(request.uri().path()) => openai::refused(failure),
        Err(failure) => failure.into_response(),
    }
}

/// The body of an answer, whose request is in flight until it is sent.
struct Held {
    body: Body,
    _in_flight: InFlight,
}

impl hyper::body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn shown_key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    bearer.or_else(|| headers.get("x-api-key")?.to_str().ok())
}

pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
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
        let door = Door { access: Access::parse(KEYS).unwrap(), elsewhere: false };
        let admitted = door.admitted(&method.parse().unwrap(), path, &headers);
        admitted
            .map(|admitted| admitted.map_or("nobody".into(), |(tenant, _)| tenant.to_string()))
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
            ("POST", "/v2/models/cat/baseline"),
            ("GET", "/v2/status"),
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
            ("POST", "/v2/models/cat/feedback"),
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
            "/",
            "/status",
            "/grpc.health.v1.Health/Check",
            &format!("{calls}ServerReady"),
        ] {
            assert_eq!(asked("GET", path, None), Ok("nobody".into()), "{path}");
        }
    }

    #[tokio::test]
    async fn each_protocol_has_its_form_of_a_refusal() {
        use tower_service::Service as _;
        let mut router = Access::parse(KEYS).unwrap().before(Router::new(), false);
        let mut refused = async |path: &str| {
            let response = router.call(Request::post(path).body(Body::empty()).unwrap()).await.unwrap();
            let status = response.status().as_u16();
            let body = axum::body::to_bytes(response.into_body(), 1 << 10).await.unwrap();
            (status, serde_json::from_slice::<serde_json::Value>(&body).unwrap()["error"].clone())
        };
        let (plain, openai) = (refused("/v2/models/cat/infer").await, refused("/v1/embeddings").await);
        assert_eq!((plain.0, openai.0), (401, 401));
        assert!(plain.1.as_str().unwrap().contains("key"), "{plain:?}");
        assert_eq!(openai.1["message"], plain.1);
        assert_eq!(openai.1["code"], "invalid_api_key");
    }

    #[test]
    fn models_that_a_path_names() {
        let keys = KEYS.replacen("[operations]", "models = [\"cat\", \"dog-*\"]\n[operations]", 1);
        let door = Door { access: Access::parse(&keys).unwrap(), elsewhere: false };
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", HeaderValue::from_static("foo"));
        let asked = |path: &str| {
            door.admitted(&Method::GET, path, &headers).map(drop).map_err(|failure| failure.reason)
        };
        for path in [
            "/v2/models/cat",
            "/v2/models/dog-2/versions/1/infer",
            "/v1/models/cat:predict",
            "/v1/models/dog-x/versions/2:predict",
            "/predictions/cat",
            "/models/cat",
            "/v2/models/stats",
            "/v2/repository/index",
            "/v1/models",
        ] {
            assert_eq!(asked(path), Ok(()), "{path}");
        }
        for path in [
            "/v2/models/cow",
            "/v2/models/c%61t/config",
            "/v2/models/cow/infer",
            "/v1/models/cow:predict",
            "/predictions/cow/1",
            "/models/dog",
        ] {
            assert_eq!(asked(path), Err(Reason::Forbidden), "{path}");
        }
        assert_eq!(door.access.refused(), [("shop".into(), "model", 6)]);
    }

    #[test]
    fn another_address_changes_the_server() {
        let load = "/v2/repository/models/cat/load";
        let mut headers = HeaderMap::new();
        let open = Door { access: Access::default(), elsewhere: true };
        let failure = open.admitted(&Method::POST, load, &headers).unwrap_err();
        assert_eq!((failure.reason, failure.text.contains("--admin-port")), (Reason::Forbidden, true));
        // A client registers its memory where it asks.
        let memory = "/v2/systemsharedmemory/region/r/register";
        for path in ["/v2/models/cat/infer", memory] {
            assert!(open.admitted(&Method::POST, path, &headers).unwrap().is_none(), "{path}");
        }
        headers.insert("x-api-key", HeaderValue::from_static("bar"));
        let door = |elsewhere| Door { access: Access::parse(KEYS).unwrap(), elsewhere };
        assert!(door(true).admitted(&Method::POST, load, &headers).is_err());
        assert!(door(true).admitted(&Method::POST, memory, &headers).is_ok());
        assert!(door(false).admitted(&Method::POST, load, &headers).is_ok());
    }

    #[test]
    fn limits_of_a_key() {
        let keys = KEYS.replacen("[operations]", "requests_per_second = 0.001\nburst = 2\n[operations]", 1);
        let door = Door { access: Access::parse(&keys).unwrap(), elsewhere: false };
        let asked = |key: &'static str| {
            let headers =
                HeaderMap::from_iter([("x-api-key".parse().unwrap(), HeaderValue::from_static(key))]);
            door.admitted(&Method::POST, "/v2/models/cat/infer", &headers).map(drop)
        };
        assert!(asked("foo").is_ok() && asked("foo").is_ok());
        let failure = asked("foo").unwrap_err();
        assert_eq!(failure.text, "'shop': more requests came than 0.001 a second; send fewer");
        assert!(failure.retry_after.unwrap() > Duration::from_secs(900));
        assert!(asked("bar").is_ok(), "the limit is that of one key");
        assert_eq!(door.access.refused(), [("shop".into(), "rate", 1)]);
    }

    #[test]
    fn files_that_change() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.toml");
        let write = |text: &str, seconds: u64| {
            std::fs::write(&file, text).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            std::fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        };
        write(KEYS, 1000);
        let access = Access::read(Some(&file), None).unwrap();
        let gate = access.0.clone().unwrap();
        let knows = |key: &str| gate.known().by_key(key).is_some();
        assert!(knows("foo") && knows("bar"));
        write("no keys", 2000);
        gate.look();
        assert!(knows("foo"), "a file that cannot be used changes nothing");
        gate.known().by_key("foo").unwrap().account.count(Refusal::Rate);
        write(KEYS.split("[operations]").next().unwrap(), 3000);
        gate.look();
        assert!(knows("foo") && !knows("bar"));
        assert_eq!(access.refused(), [("shop".into(), "rate", 1)], "what was counted stays");
    }

    #[test]
    fn files_of_keys() {
        assert!(Access::parse("").unwrap_err().contains("no key"));
        assert!(Access::parse("[a]\nsha256 = \"12\"").unwrap_err().contains("64 hexadecimal digits"));
        let not_hex = format!("[a]\nsha256 = \"{}\"", "é".repeat(32));
        assert!(Access::parse(&not_hex).unwrap_err().contains("64 hexadecimal digits"));
        assert!(Access::parse("[a]\nkey = \"secret\"").is_err());
        let with =
            |line: &str| Access::parse(&KEYS.replacen("[operations]", &format!("{line}\n[operations]"), 1));
        for (line, text) in [
            ("burst = 3", "requests_per_second"),
            ("requests_per_second = 0", "above 0"),
            ("requests_per_second = nan", "above 0"),
            ("quota_seconds = 0", "quota_seconds"),
            ("models = [\"a/b\"]", "a/b"),
            ("rate = 1", "rate"),
        ] {
            assert!(with(line).unwrap_err().contains(text), "{line}");
        }
        assert!(
            with("requests_per_second = 10\nin_flight = 2\nquota_requests = 5\nquota_bytes = 1_000").is_ok()
        );
        let no_tokens = "[a]\nin_flight = 2";
        assert!(Access::parse(no_tokens).unwrap_err().contains("sha256 is missing"));
        let same = KEYS.replace(
            "FCDE2B2EDBA56BF408601FB721FE9B5C338D10EE429EA04FAE5511B68FBF8FB9",
            "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
        );
        assert!(Access::parse(&same).unwrap_err().contains("another"));
    }
}
