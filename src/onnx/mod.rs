//! ONNX files: decoding, limits, external data, and the import from protobuf to [`Graph`].
//!
//! Only this room knows protobuf. Bytes come from strangers: the result is a graph, or an error that names the place, and
//! sizes are checked before memory is allocated.

mod attributes;
mod datum;
mod external;
mod function;
mod import;
mod messages;
mod order;
/// The messages of `proto/onnx.proto`.
#[allow(missing_docs, dead_code, clippy::all)]
pub mod proto;
mod sparse;
mod tensor;
mod types;

#[cfg(any(test, feature = "internals"))]
pub mod builder;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::budget::{Budget, Limits};
use crate::ops::Graph;
use crate::{Error, Result, Tensor, UnsupportedNode};
pub use external::FileAccess;
use external::{External, FileBytes};
use import::Importer;
use proto::{ModelProto, TensorProto};

/// The contents of a model file.
#[derive(Debug)]
pub(crate) struct Imported {
    pub(crate) graph: Arc<Graph>,
    pub(crate) unsupported: Vec<UnsupportedNode>,
    pub(crate) ir_version: i64,
    pub(crate) producer: String,
    pub(crate) opsets: Vec<(String, i64)>,
    pub(crate) metadata: BTreeMap<String, String>,
    /// What the model may cost, with the share for its own tensors.
    pub(crate) limits: Limits,
}

/// Imports the file at `path`. Where it is mapped into memory, it stays mapped as long as a tensor needs it.
pub(crate) fn load(path: &Path, access: FileAccess, limits: &Limits) -> Result<Imported> {
    let FileBytes { bytes, file } = access.bytes(path)?;
    import(bytes, External::beside(path, access, file)?, limits)
}

/// Imports a model from memory. It cannot have external data.
pub(crate) fn from_bytes(bytes: Bytes, limits: &Limits) -> Result<Imported> {
    import(bytes, External::none(), limits)
}

fn import(bytes: Bytes, external: External, limits: &Limits) -> Result<Imported> {
    let file = bytes.len();
    if bytes.is_empty() {
        return Err(Error::undecodable("it is empty"));
    }
    messages::check(&bytes, limits)?;
    let model = ModelProto::decode(bytes).map_err(undecodable)?;
    let Some(main) = &model.graph else {
        return Err(Error::undecodable("it holds no graph"));
    };
    let mut importer = Importer::new(&model, external, Budget::new(&limits.beyond(file)))?;
    let graph = importer.main(main)?;
    // Many constants may lie in the same bytes.
    let held = file.saturating_add(importer.external.bytes());
    let own = graph.constant_bytes().min(held);
    // The narrowest have two bits.
    let elements = graph.constant_elements().min(held.saturating_mul(4));
    Ok(Imported {
        unsupported: importer.unsupported(),
        graph: Arc::new(graph),
        ir_version: model.ir_version,
        producer: format!("{} {}", model.producer_name, model.producer_version).trim().to_string(),
        opsets: opsets(&model),
        limits: limits.beyond(own).beyond_elements(elements),
        metadata: model.metadata_props.into_iter().map(|entry| (entry.key, entry.value)).collect(),
    })
}

/// The imports, in the file's order; some exporters repeat them.
fn opsets(model: &ModelProto) -> Vec<(String, i64)> {
    let mut seen = HashSet::new();
    let new = model.opset_import.iter().filter(|set| seen.insert(set.domain.as_str()));
    new.map(|set| (set.domain.clone(), set.version)).collect()
}

fn undecodable(error: prost::DecodeError) -> Error {
    Error::undecodable(format!("{error}; the file is damaged, cut short, or something else"))
}

/// A tensor that is alone in a file, like those of ONNX's conformance suite.
pub(crate) fn decode_tensor(bytes: &[u8]) -> Result<Tensor> {
    messages::check_tensor(bytes)?;
    let proto = TensorProto::decode(Bytes::copy_from_slice(bytes)).map_err(undecodable)?;
    tensor::alone(&proto)
}

/// The file of one tensor.
pub(crate) fn encode_tensor(tensor: &Tensor, name: &str) -> Vec<u8> {
    tensor::export(tensor, name).encode_to_vec()
}

impl Tensor {
    /// Reads the bytes of a protobuf-encoded `TensorProto`, like the test data beside a published model.
    ///
    /// # Errors
    /// [`Error::Decode`] if the bytes are no `TensorProto`, [`Error::InvalidModel`] if data and shape do not agree,
    /// [`Error::OutOfMemory`] if the host does not have memory for it.
    ///
    /// ```
    /// use sardonyx::Tensor;
    /// let t = Tensor::from_slice(&[2], &[1.0f32, 2.0])?;
    /// assert_eq!(Tensor::from_onnx(&t.to_onnx("t"))?, t);
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn from_onnx(bytes: &[u8]) -> Result<Tensor> {
        decode_tensor(bytes)
    }

    /// The tensor as a protobuf-encoded `TensorProto` called `name`.
    ///
    /// ```
    /// let t = sardonyx::Tensor::from_slice(&[1], &[7u8])?;
    /// assert!(t.to_onnx("seven").windows(5).any(|w| w == b"seven"));
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn to_onnx(&self, name: &str) -> Vec<u8> {
        encode_tensor(self, name)
    }
}
