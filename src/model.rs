//! `Model`: an imported file, ready for any number of sessions.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::graph::ValueId;
use crate::onnx::{self, Imported};
use crate::ops::Graph;
use crate::{FileAccess, Limits, ModelSummary, Result, Tensor, UnsupportedNode, ValueInfo, passes};

/// An ONNX model: the contents of a file, checked. Cloning shares them.
///
/// ```
/// # let folder = std::env::temp_dir().join("sardonyx-doc-model");
/// # std::fs::create_dir_all(&folder)?;
/// # let path = folder.join("model.onnx");
/// # std::fs::write(&path, b"\x08\x08\x42\x02\x10\x15\x3a\x18\x0a\x0c\x0a\x01x\x12\x01y\x22\x04Relu\x5a\x03\x0a\x01x\x62\x03\x0a\x01y")?;
/// let model = sardonyx::Model::load(&path)?;
/// assert_eq!(model.inputs()[0].name, "x");
/// assert_eq!(model.opsets(), [(String::new(), 21)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Model {
    contents: Arc<LoadedModel>,
}

#[derive(Debug)]
struct LoadedModel {
    inputs: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
    imported: Imported,
    optimized: OnceLock<Arc<Graph>>,
}

/// Options of [`Model::load_with`] and [`Model::from_bytes_with`].
///
/// ```
/// use sardonyx::{Limits, LoadOptions};
/// let options = LoadOptions::new().limits(Limits::new().bytes(1 << 30));
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LoadOptions {
    limits: Limits,
    files: FileAccess,
}

impl LoadOptions {
    /// Options that serve most models.
    pub fn new() -> LoadOptions {
        LoadOptions::default()
    }

    /// How the model's files come into memory: they are mapped, or read.
    ///
    /// ```
    /// use sardonyx::{FileAccess, LoadOptions};
    /// let options = LoadOptions::new().files(FileAccess::Read);
    /// ```
    pub fn files(mut self, files: FileAccess) -> LoadOptions {
        self.files = files;
        self
    }

    /// What loading, and planning in the model's sessions, may cost.
    pub fn limits(mut self, limits: Limits) -> LoadOptions {
        self.limits = limits;
        self
    }
}

impl Model {
    /// Reads an `.onnx` file. Initializers in other files must lie in the same folder.
    ///
    /// The files are mapped into memory ([`FileAccess::Map`]): they must not be changed while the model, a session of it, or a tensor
    /// from it is in use. [`FileAccess::Read`] reads them instead, for files that others may change.
    ///
    /// A model with operators that Sardonyx does not have can be loaded too: see [`Model::unsupported`].
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) if the file cannot be read, [`Error::Decode`](crate::Error::Decode) if it is no
    /// ONNX file, [`Error::InvalidModel`](crate::Error::InvalidModel) if it contradicts itself,
    /// [`Error::ExternalData`](crate::Error::ExternalData) if an initializer's file is missing, too short, or elsewhere,
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) if the host lacks the memory of what it describes.
    ///
    /// ```
    /// let error = sardonyx::Model::load("no/such/file.onnx").unwrap_err();
    /// assert!(error.to_string().starts_with("no/such/file.onnx: "));
    /// ```
    pub fn load(path: impl AsRef<Path>) -> Result<Model> {
        Model::load_with(path, LoadOptions::default())
    }

    /// As [`Model::load`], with options.
    ///
    /// # Errors
    /// As [`Model::load`].
    ///
    /// ```
    /// use sardonyx::{LoadOptions, Model};
    /// assert!(Model::load_with("no/such/file.onnx", LoadOptions::new()).is_err());
    /// ```
    pub fn load_with(path: impl AsRef<Path>, options: LoadOptions) -> Result<Model> {
        let path = path.as_ref();
        let imported =
            onnx::load(path, options.files, &options.limits).map_err(|error| error.in_file(path))?;
        Ok(Model::new(imported))
    }

    /// Reads a model from memory. Its tensors share that memory. It cannot have external data, as it has no folder.
    ///
    /// # Errors
    /// As [`Model::load`].
    ///
    /// ```
    /// let error = sardonyx::Model::from_bytes(Vec::new()).unwrap_err();
    /// assert_eq!(error.to_string(), "not an ONNX model: it is empty");
    /// ```
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Model> {
        Model::from_bytes_with(bytes, LoadOptions::default())
    }

    /// As [`Model::from_bytes`], with options.
    ///
    /// # Errors
    /// As [`Model::load`].
    ///
    /// ```
    /// use sardonyx::{LoadOptions, Model};
    /// assert!(Model::from_bytes_with(Vec::new(), LoadOptions::new()).is_err());
    /// ```
    pub fn from_bytes_with(bytes: impl Into<Bytes>, options: LoadOptions) -> Result<Model> {
        Ok(Model::new(onnx::from_bytes(bytes.into(), &options.limits)?))
    }

    fn new(imported: Imported) -> Model {
        let infos =
            |ids: &[ValueId]| ids.iter().map(|&id| ValueInfo::of(&imported.graph, id)).collect::<Vec<_>>();
        let outputs = infos(&imported.graph.outputs).into_iter();
        let outputs = outputs.map(|info| ValueInfo { has_default: false, ..info }).collect();
        let inputs = infos(&imported.graph.listed_inputs());
        Model { contents: Arc::new(LoadedModel { inputs, outputs, imported, optimized: OnceLock::new() }) }
    }

    /// The inputs of a run, in the model's order. Up to IR version 3, inputs with an initializer are constants, and are not
    /// listed.
    pub fn inputs(&self) -> &[ValueInfo] {
        &self.contents.inputs
    }

    /// The outputs of a run, in the model's order.
    pub fn outputs(&self) -> &[ValueInfo] {
        &self.contents.outputs
    }

    /// The model's own key-value pairs: labels, preprocessing, licences.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.contents.imported.metadata
    }

    /// The program that wrote the file, and its version; empty if the file does not say.
    pub fn producer(&self) -> &str {
        &self.contents.imported.producer
    }

    /// The version of the file format.
    pub fn ir_version(&self) -> i64 {
        self.contents.imported.ir_version
    }

    /// The operator sets that the model uses: domain (empty for ONNX's own) and version.
    pub fn opsets(&self) -> &[(String, i64)] {
        &self.contents.imported.opsets
    }

    /// All nodes that Sardonyx cannot compute, including those in subgraphs. A session refuses the model unless the list is
    /// empty.
    pub fn unsupported(&self) -> &[UnsupportedNode] {
        &self.contents.imported.unsupported
    }

    /// For each input whose elements are places in a constant table (ids of tokens, for example): the number of its places. Each
    /// element must be below it.
    ///
    /// ```no_run
    /// # fn f(model: &sardonyx::Model) {
    /// if let Some(vocabulary) = model.index_bounds().get("input_ids") {
    ///     println!("ids are below {vocabulary}");
    /// }
    /// # }
    /// ```
    pub fn index_bounds(&self) -> BTreeMap<String, usize> {
        let graph = self.graph();
        graph.index_bounds().into_iter().map(|(id, bound)| (graph.value(id).name.clone(), bound)).collect()
    }

    /// The numbers of nodes and of constants.
    pub fn summary(&self) -> ModelSummary {
        ModelSummary::new(self.graph())
    }

    /// What the model may cost, with the share for its own tensors.
    pub(crate) fn limits(&self) -> &Limits {
        &self.contents.imported.limits
    }

    pub(crate) fn graph(&self) -> &Arc<Graph> {
        &self.contents.imported.graph
    }

    /// The graph in which the defaults that are given are inputs.
    pub(crate) fn graph_taking<T>(&self, given: &[(&str, T)]) -> Arc<Graph> {
        let graph = self.graph();
        let given: HashSet<&str> = given.iter().map(|(name, _)| *name).collect();
        let is_given = |id: &ValueId| given.contains(graph.value(*id).name.as_str());
        let replaced: Vec<ValueId> = graph.defaults.iter().map(|(_, id)| *id).filter(is_given).collect();
        if replaced.is_empty() { graph.clone() } else { Arc::new(graph.without_defaults(&replaced)) }
    }

    /// The graph after the passes, in which the defaults that are given are inputs.
    pub(crate) fn optimized_taking<T>(&self, given: &[(&str, T)]) -> Result<Arc<Graph>> {
        match self.graph_taking(given) {
            graph if Arc::ptr_eq(&graph, self.graph()) => self.optimized(),
            graph => Ok(Arc::new(passes::run(graph.as_ref().clone(), self.limits())?)),
        }
    }

    /// The graph after the passes, for devices. The passes run when it is first asked for.
    pub(crate) fn optimized(&self) -> Result<Arc<Graph>> {
        if let Some(graph) = self.contents.optimized.get() {
            return Ok(graph.clone());
        }
        let graph = Arc::new(passes::run(self.graph().as_ref().clone(), self.limits())?);
        // What the passes have read is read once more, to be uploaded, or never again.
        self.graph().values.iter().filter_map(|value| value.constant.as_ref()).for_each(Tensor::release);
        Ok(self.contents.optimized.get_or_init(|| graph).clone())
    }
}

impl ValueInfo {
    pub(crate) fn of(graph: &Graph, id: ValueId) -> ValueInfo {
        let value = graph.value(id);
        let (dtype, shape, has_default) = (value.dtype, value.shape.clone(), value.constant.is_some());
        ValueInfo { name: value.name.clone(), dtype, shape, container: value.container.clone(), has_default }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_go_between_threads() {
        fn shared<T: Send + Sync + Clone>() {}
        shared::<Model>();
    }
}
