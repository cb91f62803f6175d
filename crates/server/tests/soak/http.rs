//! A client of HTTP/1.1 whose bytes leave when a test says so.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::time::Duration;

use sardonyx::Tensor;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::models::Question;

pub struct Connection(BufReader<TcpStream>);

pub struct Answer {
    pub status: u16,
    json_bytes: Option<usize>,
    body: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection(BufReader::new(stream)))
    }

    /// Sends bytes in pieces of `size`, with pauses between them.
    pub async fn send(&mut self, bytes: &[u8], size: usize, pause: Duration) -> Result<()> {
        for (i, piece) in bytes.chunks(size).enumerate() {
            if i > 0 {
                tokio::time::sleep(pause).await;
            }
            self.0.get_mut().write_all(piece).await?;
        }
        Ok(())
    }

    /// Reads an answer in pieces of `size`, with pauses between them.
    pub async fn receive(&mut self, size: usize, pause: Duration) -> Result<Answer> {
        let (mut status, mut length, mut json_bytes) = (None, 0, None);
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end();
            let number = |text: &str| text.trim().parse::<usize>().map_err(|_| bad(line));
            match (status, line.split_once(':')) {
                (None, _) => {
                    let code = line.split(' ').nth(1).and_then(|code| code.parse().ok());
                    status = Some(code.ok_or_else(|| bad(line))?);
                }
                (_, Some((name, value))) if name.eq_ignore_ascii_case("content-length") => {
                    length = number(value)?
                }
                (_, Some((name, value))) if name.eq_ignore_ascii_case("inference-header-content-length") => {
                    json_bytes = Some(number(value)?);
                }
                _ if line.is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        for piece in body.chunks_mut(size) {
            self.0.read_exact(piece).await?;
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
        Ok(Answer { status: status.unwrap_or_default(), json_bytes, body })
    }

    /// Sends a request and reads its answer, without pauses.
    pub async fn ask(&mut self, request: &[u8]) -> Result<Answer> {
        self.send(request, usize::MAX, Duration::ZERO).await?;
        self.receive(usize::MAX, Duration::ZERO).await
    }

    /// Ends the connection by a reset.
    pub fn reset(self) {
        let _ = self.0.get_ref().set_zero_linger();
    }
}

fn bad(line: &str) -> Error {
    Error::new(ErrorKind::InvalidData, line.to_owned())
}

/// A request with its tensors as JSON or behind it; the answer comes in the same form.
pub fn request(question: &Question, binary: bool) -> Vec<u8> {
    let mut data: Vec<u8> = Vec::new();
    let input = |(name, tensor): &(&str, Tensor)| {
        let mut input = json!({ "name": name, "datatype": "FP32", "shape": tensor.shape() });
        match binary {
            true => {
                input["parameters"] = json!({ "binary_data_size": tensor.bytes().len() });
                data.extend_from_slice(tensor.bytes());
            }
            false => input["data"] = json!(tensor.to_vec::<f32>().unwrap()),
        }
        input
    };
    let inputs: Vec<Value> = question.inputs.iter().map(input).collect();
    let json = json!({ "inputs": inputs, "parameters": { "binary_data_output": binary } }).to_string();
    post(&format!("/v2/models/{}/infer", question.model), json.as_bytes(), &data)
}

/// A request to `path` with JSON, and bytes behind it.
pub fn post(path: &str, json: &[u8], data: &[u8]) -> Vec<u8> {
    let (json_bytes, length) = (json.len(), json.len() + data.len());
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ninference-header-content-length: {json_bytes}\r\ncontent-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), json, data].concat()
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The version that has answered, and the first output; otherwise what is wrong.
    pub fn output(&self) -> std::result::Result<(String, Vec<f32>), String> {
        let (json, data) =
            self.body.split_at(self.json_bytes.unwrap_or(self.body.len()).min(self.body.len()));
        let json: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let output = &json["outputs"][0];
        let numbers = match output["data"].as_array() {
            Some(numbers) => numbers.iter().filter_map(Value::as_f64).map(|x| x as f32).collect(),
            None => {
                let size = output["parameters"]["binary_data_size"].as_u64().unwrap_or(0) as usize;
                super::clients::numbers(data.get(..size).ok_or("the answer is cut short")?)
            }
        };
        Ok((json["model_version"].as_str().unwrap_or_default().to_owned(), numbers))
    }
}
