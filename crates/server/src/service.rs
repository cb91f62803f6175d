//! `Service`: what every protocol calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::config::{Config, Port};
use crate::proto::model_metadata_response::TensorMetadata;
use crate::proto::{ModelMetadataResponse, ModelStatistics, ServerMetadataResponse};
use crate::repository::{IndexEntry, Overrides, Repository};
use crate::serving::{self, Devices, Served};
use crate::settings::Settings;
use crate::shared_memory::SharedMemory;
use crate::{Failure, Reason, Request, Response, datatype};

/// The models of a server, and what clients may ask of them. Every protocol is a translation to these calls.
#[derive(Debug)]
pub struct Service {
    repository: Arc<Repository>,
    devices: Arc<Devices>,
    memory: SharedMemory,
    settings: Settings,
    /// Whether readiness waits for all models that were named at the start.
    strict: bool,
    draining: AtomicBool,
    /// Whether streams end.
    ending: watch::Sender<bool>,
}

/// The extensions of the Open Inference Protocol that the server has.
const EXTENSIONS: [&str; 10] = [
    "classification",
    "sequence",
    "model_repository",
    "schedule_policy",
    "model_configuration",
    "system_shared_memory",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "logging",
];

/// A run that takes longer than this hangs: a compute dispatch does not, and compiling the kernels of a large model takes minutes at
/// most.
const HANGS: Duration = Duration::from_secs(300);

impl Service {
    /// The service of a repository. With `strict`, the server is ready only when every model that it was told to load is.
    pub fn new(
        repository: Arc<Repository>,
        devices: Arc<Devices>,
        memory: SharedMemory,
        settings: Settings,
        strict: bool,
    ) -> Arc<Service> {
        let (draining, ending) = (AtomicBool::new(false), watch::Sender::new(false));
        Arc::new(Service { repository, devices, memory, settings, strict, draining, ending })
    }

    /// Answers a request. If the future is dropped before the request's turn, it is never run.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn infer(&self, request: Request) -> Result<Response, Failure> {
        serving::infer(self.repository.as_ref(), request).await
    }

    /// Whether the process works: false once a run hangs.
    pub fn is_live(&self) -> bool {
        self.repository.served().iter().all(|served| served.longest_run() < HANGS)
    }

    /// Whether requests find what they ask for: false while the server ends, while a lost device is made anew, and, if the server is
    /// strict, until all models are loaded.
    pub fn is_ready(&self) -> bool {
        !self.is_draining() && self.devices.are_ready() && (!self.strict || self.repository.is_ready())
    }

    /// Whether this model answers requests now; false for one that there is not, and for an ensemble of which a model does not.
    pub fn model_ready(&self, name: &str, version: &str) -> bool {
        let ready = |served: Arc<Served>| served.ready().is_ok();
        !self.is_draining()
            && self.devices.are_ready()
            && self.repository.find(name, version).is_ok_and(ready)
    }

    /// Whether the repository has, or had, a model of this name.
    pub fn knows(&self, name: &str) -> bool {
        self.repository.index(false).iter().any(|entry| entry.name == name)
    }

    /// Lets readiness be false from now on: the server ends.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Ends streams, which would go on as long as their clients like: what a client has sent is answered, and no more is read.
    pub fn end_streams(&self) {
        self.ending.send_replace(true);
    }

    /// Waits until streams are to end.
    pub async fn ends(&self) {
        // The sender is here, so there is no error.
        let _ = self.ending.subscribe().wait_for(|&ending| ending).await;
    }

    /// Whether the server ends.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The server's name, version and extensions.
    pub fn server_metadata(&self) -> ServerMetadataResponse {
        ServerMetadataResponse {
            name: "sardonyx".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            extensions: EXTENSIONS.map(String::from).into(),
        }
    }

    /// The names, dtypes and shapes of a model's inputs and outputs.
    ///
    /// # Errors
    /// [`Reason::NotFound`] or [`Reason::Unavailable`].
    pub fn metadata(&self, name: &str, version: &str) -> Result<ModelMetadataResponse, Failure> {
        let served = self.repository.find(name, version)?;
        let config = served.config();
        let batch = (config.max_batch > 0).then_some(-1);
        let tensor = |port: &Port| TensorMetadata {
            name: port.name.clone(),
            datatype: datatype::name(port.dtype).unwrap_or_default().into(),
            shape: batch
                .into_iter()
                .chain(port.dims.iter().map(|dim| dim.map_or(-1, |dim| dim as i64)))
                .collect(),
        };
        let versions = match version {
            "" => self.repository.versions(name),
            _ => vec![served.version()],
        };
        Ok(ModelMetadataResponse {
            name: config.name.clone(),
            versions: versions.iter().map(u64::to_string).collect(),
            platform: config.shown.platform.clone(),
            inputs: config.inputs.iter().map(tensor).collect(),
            outputs: config.outputs.iter().map(tensor).collect(),
        })
    }

    /// How a model is served.
    ///
    /// # Errors
    /// [`Reason::NotFound`] or [`Reason::Unavailable`].
    pub fn config(&self, name: &str, version: &str) -> Result<Arc<Config>, Failure> {
        Ok(self.repository.find(name, version)?.config().clone())
    }

    /// What a model has done: one version of it, all of its versions if `version` is empty, all models if `name` is too.
    ///
    /// # Errors
    /// [`Reason::NotFound`] or [`Reason::Unavailable`].
    pub fn statistics(&self, name: &str, version: &str) -> Result<Vec<ModelStatistics>, Failure> {
        let all = match (name, version) {
            ("", "") => self.served(),
            ("", _) => return Err(Failure::invalid("a version is asked for, and no model; name one")),
            (name, "") => {
                self.repository.find(name, "")?;
                self.served().into_iter().filter(|served| served.config().name == name).collect()
            }
            (name, version) => vec![self.repository.find(name, version)?],
        };
        let shown = |served: &Arc<Served>| served.statistics().shown(&served.config().name, served.version());
        Ok(all.iter().map(shown).collect())
    }

    /// The models of the repository, or those that answer requests.
    pub fn index(&self, ready_only: bool) -> Vec<IndexEntry> {
        self.repository.index(ready_only)
    }

    /// Loads a model, or loads it anew.
    ///
    /// # Errors
    /// What the model fails with; a version that was served before still is.
    pub async fn load(&self, name: &str, overrides: Overrides) -> Result<(), Failure> {
        self.refuse_draining()?;
        self.repository.load(name, overrides).await
    }

    /// Unloads a model, once its requests are answered. `dependents` asks to unload the models of an ensemble with it.
    ///
    /// # Errors
    /// [`Reason::NotFound`] if there is no such model; [`Reason::Unimplemented`] with `dependents`: others may need those models.
    pub async fn unload(&self, name: &str, dependents: bool) -> Result<(), Failure> {
        if dependents {
            let text = "unload_dependents is not served: unload the models of the ensemble one by one";
            return Err(Failure::new(Reason::Unimplemented, text));
        }
        self.repository.unload(name).await
    }

    /// The versions that answer requests.
    pub fn served(&self) -> Vec<Arc<Served>> {
        self.repository.served()
    }

    /// The devices.
    pub fn devices(&self) -> &Devices {
        &self.devices
    }

    /// Memory that clients share with the server.
    pub fn memory(&self) -> &SharedMemory {
        &self.memory
    }

    /// The settings that clients may read and change.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn refuse_draining(&self) -> Result<(), Failure> {
        match self.is_draining() {
            true => Err(Failure::new(Reason::Unavailable, "the server ends")),
            false => Ok(()),
        }
    }
}
