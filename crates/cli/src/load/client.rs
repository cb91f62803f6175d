//! What is asked of a server, and what it answers, over either protocol.

use std::fmt::{self, Display};
use std::time::Duration;

use bytes::Bytes;
use sardonyx::{DType, Tensor, shown};
use sardonyx_server::datatype;
use sardonyx_server::proto::{ModelInferRequest, ModelInferResponse};
use serde::Deserialize;
use serde_json::Value;

use super::credentials::Credentials;
use super::grpc::Grpc;
use super::http::Http;
use super::{Args, Failure};

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Trouble {
    /// `status`: the server answered with an error; `timeout`, `connection`; `answer`: it cannot be read.
    pub(super) kind: &'static str,
    /// The status of HTTP or gRPC, or what more there is to know of the kind.
    pub(super) code: String,
    pub(super) text: String,
    /// Whether the request is wrong, and will be so again.
    pub(super) is_askers_fault: bool,
}

impl Trouble {
    pub(super) fn new(kind: &'static str, code: impl Into<String>, text: impl Into<String>) -> Trouble {
        Trouble { kind, code: code.into(), text: text.into(), is_askers_fault: false }
    }
}

impl Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} {}: {}", self.kind, shown(&self.code), shown(&self.text))
    }
}

/// What a model takes and gives.
#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    #[serde(default)]
    pub(super) versions: Vec<String>,
    pub(super) inputs: Vec<Port>,
    #[serde(default)]
    pub(super) outputs: Vec<Port>,
}

/// An input or an output.
#[derive(Debug, Deserialize)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) datatype: String,
    /// The dimensions; -1 is one of any size.
    pub(super) shape: Vec<i64>,
}

impl Port {
    pub(super) fn dtype(&self) -> Result<DType, Failure> {
        datatype::parse(&self.datatype).ok_or_else(|| {
            format!("'{}' has the datatype {}, which is unknown", shown(&self.name), shown(&self.datatype))
                .into()
        })
    }

    /// Whether its first dimension counts rows.
    pub(super) fn has_rows(&self) -> bool {
        self.shape.first() == Some(&-1)
    }
}

/// A request as its protocol sends it.
#[derive(Debug)]
pub(super) enum Message {
    Http { body: Bytes, json_bytes: usize },
    Grpc(ModelInferRequest),
}

/// An answer as its protocol brings it.
#[derive(Debug)]
pub(super) enum Answer {
    Http { body: Bytes, json_bytes: Option<usize> },
    Grpc(ModelInferResponse),
}

impl Answer {
    /// The outputs by name; otherwise why they cannot be read.
    pub(super) fn outputs(self) -> Result<Vec<(String, Tensor)>, String> {
        match self {
            Answer::Http { body, json_bytes } => super::http::outputs(&body, json_bytes),
            Answer::Grpc(response) => super::grpc::outputs(response),
        }
    }
}

/// The connections to a server.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) address: String,
    model: String,
    protocol: Protocol,
}

#[derive(Debug)]
enum Protocol {
    Http { http: Http, path: String },
    Grpc(Grpc),
}

impl Client {
    pub(super) fn new(args: &Args) -> Result<Client, Failure> {
        let model = args.model.clone();
        if let Some(address) = &args.grpc {
            let credentials = Credentials::read(args, "h2")?;
            let grpc = Grpc::new(address, &args.model, &args.version, &credentials, args.most_at_once())?;
            return Ok(Client { address: address.clone(), model, protocol: Protocol::Grpc(grpc) });
        }
        let address = args.url.clone().unwrap_or_else(|| "http://localhost:8000".into());
        let http = Http::new(&address, &Credentials::read(args, "http/1.1")?)?;
        let mut path = format!("/v2/models/{}", super::http::escaped(&args.model));
        if !args.version.is_empty() {
            path += &format!("/versions/{}", super::http::escaped(&args.version));
        }
        Ok(Client { address, model, protocol: Protocol::Http { http, path } })
    }

    /// The protocol's name.
    pub(super) fn protocol(&self) -> &'static str {
        match self.protocol {
            Protocol::Http { .. } => "http",
            Protocol::Grpc(_) => "grpc",
        }
    }

    /// A failure of this server.
    pub(super) fn refused(&self, reason: &str) -> Failure {
        Failure::of_server(format!("{}: {reason}", shown(&self.address)))
    }

    /// What the model takes and gives.
    pub(super) async fn metadata(&self, timeout: Duration) -> Result<Metadata, Failure> {
        let asked = async {
            match &self.protocol {
                Protocol::Http { http, path } => http.metadata(path).await,
                Protocol::Grpc(grpc) => grpc.metadata().await,
            }
        };
        let late = |_| self.refused("the server does not answer; --timeout waits longer");
        let metadata = tokio::time::timeout(timeout, asked).await.map_err(late)?.map_err(|trouble| {
            let about = match trouble.kind {
                "status" => format!("model '{}': ", shown(&self.model)),
                _ => String::new(),
            };
            self.refused(&format!("{about}{trouble}"))
        })?;
        match metadata.inputs.is_empty() {
            true => Err(self.refused(&format!("model '{}' has no inputs", shown(&self.model)))),
            false => Ok(metadata),
        }
    }

    /// The model's configuration as JSON.
    pub(super) async fn config(&self) -> Result<Value, Trouble> {
        match &self.protocol {
            Protocol::Http { http, path } => http.config(path).await,
            Protocol::Grpc(grpc) => grpc.config().await,
        }
    }

    /// Lets the server load the model, with a configuration in place of its own.
    pub(super) async fn load(&self, config: Option<String>) -> Result<(), Trouble> {
        match &self.protocol {
            Protocol::Http { http, .. } => http.load(&self.model, config).await,
            Protocol::Grpc(grpc) => grpc.load(config).await,
        }
    }

    /// A request with these inputs.
    pub(super) fn message(&self, inputs: &[(String, Tensor)]) -> Result<Message, Failure> {
        match &self.protocol {
            Protocol::Http { .. } => super::http::message(inputs),
            Protocol::Grpc(grpc) => grpc.message(inputs),
        }
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn ask(&self, message: &Message) -> Result<Answer, Trouble> {
        match (&self.protocol, message) {
            (Protocol::Http { http, path }, Message::Http { body, json_bytes }) => {
                http.infer(path, body.clone(), *json_bytes).await
            }
            (Protocol::Grpc(grpc), Message::Grpc(request)) => grpc.infer(request.clone()).await,
            _ => Err(Trouble::new("connection", "", "the request is of another protocol")),
        }
    }
}

/// The bytes of a tensor: packed, little-endian, each string after its length in four bytes.
pub(super) fn raw(tensor: &Tensor) -> Result<Bytes, Failure> {
    let Some(strings) = tensor.strings() else { return Ok(Bytes::copy_from_slice(tensor.bytes())) };
    let mut bytes = Vec::new();
    for string in strings {
        let length = u32::try_from(string.len()).map_err(|_| "a string has more than 4294967295 bytes")?;
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(string.as_bytes());
    }
    Ok(bytes.into())
}

/// The tensor of an output.
pub(super) fn tensor(name: &str, datatype: &str, shape: &[i64], bytes: Bytes) -> Result<Tensor, String> {
    let of = |why: &dyn Display| format!("output '{}': {why}", shown(name));
    let dtype = datatype::parse(datatype)
        .ok_or_else(|| of(&format_args!("the datatype {} is unknown", shown(datatype))))?;
    let sizes = shape.iter().map(|&size| usize::try_from(size));
    let shape: Vec<usize> = sizes.collect::<Result<_, _>>().map_err(|_| of(&"its shape is none"))?;
    match dtype {
        DType::String => {
            Tensor::from_strings(&shape, strings(&bytes).ok_or_else(|| of(&"its strings cannot be read"))?)
        }
        _ => Tensor::from_raw(dtype, &shape, bytes),
    }
    .map_err(|error| of(&error))
}

fn strings(mut bytes: &[u8]) -> Option<Vec<String>> {
    let mut strings = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (string, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        strings.push(std::str::from_utf8(string).ok()?.to_owned());
        bytes = rest;
    }
    Some(strings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_have_their_lengths_before_them() {
        // As tritonclient's `serialize_byte_tensor` writes them.
        let sent = b"\x02\0\0\0ab\0\0\0\0\x02\0\0\0\xc3\xb6";
        let texts = ["ab", "", "ö"].map(String::from).to_vec();
        let tensor = Tensor::from_strings(&[3], texts).unwrap();
        assert_eq!(raw(&tensor).unwrap(), &sent[..]);
        let back = super::tensor("y", "BYTES", &[3], Bytes::from_static(sent)).unwrap();
        assert_eq!(back.strings(), tensor.strings());
        for cut in [1, 5, sent.len() - 1] {
            assert!(
                super::tensor("y", "BYTES", &[3], Bytes::copy_from_slice(&sent[..cut])).is_err(),
                "{cut}"
            );
        }
        assert!(super::tensor("y", "FP32", &[2], Bytes::from_static(&[0; 7])).unwrap_err().contains("'y'"));
        assert!(super::tensor("y", "FP32", &[-1], Bytes::new()).is_err());
    }
}
