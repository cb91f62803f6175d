//! What the fuzzer feeds; no part of the API.

use bytes::Bytes;

use crate::http::Limits;
use crate::http::v2::request::decode;
use crate::shared_memory::SharedMemory;

/// Reads a body of `POST /v2/models/{model}/infer`, of which `json_bytes` are JSON. Returns the bytes of its tensors.
///
/// # Errors
/// What the client hears.
pub fn read_request(body: &[u8], json_bytes: Option<usize>) -> Result<usize, String> {
    let body = Bytes::copy_from_slice(body);
    let read = decode(&body, json_bytes, &Limits::default(), &SharedMemory::new(Vec::new()));
    let (request, _) = read.map_err(|failure| failure.text)?;
    Ok(request.inputs.iter().map(|(_, tensor)| tensor.bytes().len()).sum())
}
