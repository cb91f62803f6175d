//! The protocol over HTTP/1.1, with binary tensors, on connections that are kept.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{HeaderMap, Method, Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use sardonyx::{Tensor, shown};
use sardonyx_server::datatype;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Failure;
use super::client::{self, Answer, Message, Metadata, Trouble};
use super::credentials::{Connector, Credentials};

/// The header that says where the JSON ends and the tensors begin.
const JSON_BYTES: &str = "inference-header-content-length";

/// The connections to a server.
pub(super) struct Http {
    connector: Connector,
    headers: HeaderMap,
    /// What the paths begin with, without a slash at the end.
    pub(super) prefix: String,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Http")
            .field("authority", &self.connector.authority())
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// What a server sent back.
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Http {
    /// The connections to a URL of `http` or `https`, none of which is open yet.
    pub(super) fn new(url: &str, credentials: &Credentials) -> Result<Http, Failure> {
        let wrong =
            |why: &str| Failure::from(format!("{}: {why}; write it as http://localhost:8000", shown(url)));
        let full = if url.contains("://") { url.to_string() } else { format!("http://{url}") };
        let uri: Uri = full.parse().map_err(|_| wrong("is no URL"))?;
        let (secure, port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err(wrong("is no URL of http")),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("names no host"))?;
        let connector = credentials.connector(url, host, uri.port_u16().unwrap_or(port), secure)?;
        let prefix = uri.path().trim_end_matches('/').to_string();
        Ok(Http { connector, headers: credentials.headers.clone(), prefix, idle: Mutex::default() })
    }

    /// What a model takes and gives.
    pub(super) async fn metadata(&self, path: &str) -> Result<Metadata, Trouble> {
        let body = self.get(&format!("{}{path}", self.prefix)).await?;
        serde_json::from_slice(&body).map_err(|error| {
            Trouble::new("answer", "metadata", format!("it is not in the protocol's form: {error}"))
        })
    }

    /// A model's configuration.
    pub(super) async fn config(&self, path: &str) -> Result<Value, Trouble> {
        let body = self.get(&format!("{}{path}/config", self.prefix)).await?;
        serde_json::from_slice(&body).map_err(|error| {
            Trouble::new("answer", "configuration", format!("it is not in the protocol's form: {error}"))
        })
    }

    /// Lets the server load a model, with a configuration in place of its own.
    pub(super) async fn load(&self, model: &str, config: Option<String>) -> Result<(), Trouble> {
        let path = format!("{}/v2/repository/models/{}/load", self.prefix, escaped(model));
        let parameters = config.map_or(json!({}), |config| json!({ "config": config }));
        let body = json!({ "parameters": parameters }).to_string();
        checked(self.exchange(Method::POST, &path, None, body.into()).await?).map(drop)
    }

    /// The body at `path`.
    pub(super) async fn get(&self, path: &str) -> Result<Bytes, Trouble> {
        Ok(checked(self.exchange(Method::GET, path, None, Bytes::new()).await?)?.body)
    }

    pub(super) async fn infer(&self, model: &str, body: Bytes, json_bytes: usize) -> Result<Answer, Trouble> {
        let path = format!("{}{model}/infer", self.prefix);
        let reply = checked(self.exchange(Method::POST, &path, Some(json_bytes), body).await?)?;
        let json_bytes = reply.headers.get(JSON_BYTES).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Answer::Http { body: reply.body, json_bytes })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        json_bytes: Option<usize>,
        body: Bytes,
    ) -> Result<Reply, Trouble> {
        let mut request =
            Request::builder().method(method).uri(path).header(header::HOST, self.connector.authority());
        if let Some(json_bytes) = json_bytes {
            request = request
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .header(JSON_BYTES, json_bytes.to_string());
        }
        let mut request = request.body(Full::new(body)).map_err(|error| broken(&error))?;
        request.headers_mut().extend(self.headers.clone());
        let mut connection = self.connection().await?;
        let reply = connection.send_request(request).await.map_err(|error| broken(&error))?;
        let (parts, body) = reply.into_parts();
        let body = body.collect().await.map_err(|error| broken(&error))?.to_bytes();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok(Reply { status: parts.status, headers: parts.headers, body })
    }

    /// A connection that waits for a request.
    async fn connection(&self) -> Result<SendRequest<Full<Bytes>>, Trouble> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        while let Some(mut connection) = idle() {
            if connection.ready().await.is_ok() {
                return Ok(connection);
            }
        }
        let stream = self.connector.connect().await.map_err(|error| broken(&error))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        // The requests on it say what became of it.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// What became of a connection: the innermost reason, and its kind.
fn broken(error: &(dyn std::error::Error + 'static)) -> Trouble {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let code = innermost.downcast_ref::<std::io::Error>().map(|error| format!("{:?}", error.kind()));
    Trouble::new("connection", code.unwrap_or_else(|| "Broken".into()), innermost.to_string())
}

/// An answer that is no error.
fn checked(reply: Reply) -> Result<Reply, Trouble> {
    if reply.status.is_success() {
        return Ok(reply);
    }
    let json: Option<Value> = serde_json::from_slice(&reply.body).ok();
    let text = json.as_ref().and_then(|json| json["error"].as_str().map(str::to_string));
    let text = text.unwrap_or_else(|| String::from_utf8_lossy(&reply.body).chars().take(200).collect());
    let passes = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&reply.status);
    Err(Trouble {
        is_askers_fault: reply.status.is_client_error() && !passes,
        ..Trouble::new("status", reply.status.as_str(), text)
    })
}

/// A part of a path: what has a meaning in one is escaped.
pub(super) fn escaped(part: &str) -> String {
    let mut text = String::new();
    for byte in part.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' => text.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => text.push(byte.into()),
            _ => text += &format!("%{byte:02X}"),
        }
    }
    text
}

/// A request with binary tensors that asks for binary outputs.
pub(super) fn message(inputs: &[(String, Tensor)]) -> Result<Message, Failure> {
    let (mut listed, mut data) = (Vec::new(), Vec::new());
    for (name, tensor) in inputs {
        let bytes = client::raw(tensor)?;
        listed.push(json!({
            "name": name,
            "datatype": datatype::name(tensor.dtype()),
            "shape": tensor.shape(),
            "parameters": { "binary_data_size": bytes.len() },
        }));
        data.push(bytes);
    }
    let header = json!({ "inputs": listed, "parameters": { "binary_data_output": true } }).to_string();
    let json_bytes = header.len();
    let body = [header.as_bytes()].into_iter().chain(data.iter().map(|bytes| bytes.as_ref()));
    Ok(Message::Http { body: body.collect::<Vec<_>>().concat().into(), json_bytes })
}

#[derive(Deserialize)]
struct Outputs {
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    #[serde(default)]
    parameters: Value,
}

/// The outputs of an answer with binary tensors.
pub(super) fn outputs(body: &Bytes, json_bytes: Option<usize>) -> Result<Vec<(String, Tensor)>, String> {
    let json_bytes = json_bytes.unwrap_or(body.len());
    let json = body.get(..json_bytes).ok_or("it ends within its JSON")?;
    let listed: Outputs =
        serde_json::from_slice(json).map_err(|error| format!("it is not in the protocol's form: {error}"))?;
    let mut rest = body.slice(json_bytes..);
    let mut outputs = Vec::new();
    for Output { name, datatype, shape, parameters } in listed.outputs {
        let of = |why: &str| format!("output '{}' {why}", shown(&name));
        let size = parameters["binary_data_size"].as_u64().and_then(|size| usize::try_from(size).ok());
        let size = size.ok_or_else(|| of("is no binary tensor, which were asked for"))?;
        if size > rest.len() {
            return Err(of("is cut short"));
        }
        let tensor = client::tensor(&name, &datatype, &shape, rest.split_to(size))?;
        outputs.push((name, tensor));
    }
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let at = |url: &str| {
            let http = Http::new(url, &Credentials::default()).map_err(|error| error.to_string())?;
            Ok::<_, String>((http.connector.authority().to_string(), http.prefix))
        };
        assert_eq!(at("http://localhost:8000"), Ok(("localhost:8000".into(), String::new())));
        assert_eq!(at("localhost:8000/a/"), Ok(("localhost:8000".into(), "/a".into())));
        assert_eq!(at("http://[::1]:9/"), Ok(("[::1]:9".into(), String::new())));
        assert_eq!(at("http://host"), Ok(("host:80".into(), String::new())));
        assert!(at("ftp://host").unwrap_err().contains("no URL of http"));
        assert!(at("https://host").unwrap_err().contains("--ca"));
        for wrong in ["", "http://", "a b"] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
        assert_eq!(escaped("a/b ?#%ö"), "a%2Fb%20%3F%23%25%C3%B6");
    }

    #[test]
    fn answers_that_are_cut_short() {
        let json = br#"{"outputs":[{"name":"y","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}]}"#;
        let whole = Bytes::from([&json[..], &1.5f32.to_le_bytes()].concat());
        let read = outputs(&whole, Some(json.len())).unwrap();
        assert_eq!((read[0].0.as_str(), read[0].1.to_f64().unwrap()), ("y", vec![1.5]));
        assert!(
            outputs(&whole.slice(..whole.len() - 1), Some(json.len())).unwrap_err().contains("cut short")
        );
        assert!(outputs(&whole, Some(whole.len() + 1)).is_err());
        let listed =
            Bytes::from_static(br#"{"outputs":[{"name":"y","datatype":"FP32","shape":[1],"data":[1.5]}]}"#);
        assert!(outputs(&listed, None).unwrap_err().contains("no binary tensor"));
    }
}
