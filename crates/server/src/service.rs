//! `Service`: what every protocol calls.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

use crate::config::{Config, Port};
use crate::exchange::Told;
use crate::proto::model_metadata_response::TensorMetadata;
use crate::proto::{ModelMetadataResponse, ModelStatistics, ServerMetadataResponse};
use crate::repository::{IndexEntry, Overrides, Repository};
use crate::serving::{Devices, Served};
use crate::settings::Settings;
use crate::shared_memory::SharedMemory;
use crate::traffic::Traffic;
use crate::watching::{self, Truth, Watching};
use crate::{Failure, Reason, Request, Response, datatype, exchange};

/// The models of a server, and what clients may ask of them. Every protocol is a translation to these calls.
#[derive(Debug)]
pub struct Service {
    repository: Arc<Repository>,
    devices: Arc<Devices>,
    memory: SharedMemory,
    settings: Settings,
    /// Whether readiness waits for all models that were named at the start.
    strict: bool,
    traffic: Traffic,
    draining: AtomicBool,
    /// Whether streams end.
    ending: watch::Sender<bool>,
    told: OnceLock<Told>,
    /// The milliseconds after which a run hangs.
    hangs: AtomicU64,
}

/// The extensions of the Open Inference Protocol that the server has.
const EXTENSIONS: [&str; 11] = [
    "classification",
    "sequence",
    "model_repository",
    "schedule_policy",
    "model_configuration",
    "system_shared_memory",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
];

/// A run that takes longer than this hangs, unless the options say otherwise: a compute dispatch does not, and compiling the kernels of a
/// large model takes minutes at most.
pub(crate) const HANGS: Duration = Duration::from_secs(300);

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
        let traffic = Traffic::default();
        Arc::new(Service {
            repository,
            devices,
            memory,
            settings,
            strict,
            traffic,
            draining,
            ending,
            told: OnceLock::new(),
            hangs: AtomicU64::new(HANGS.as_millis() as u64),
        })
    }

    /// Answers a request. If the future is dropped before the request's turn, it is never run.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn infer(&self, mut request: Request) -> Result<Response, Failure> {
        let asked = (request.model.clone(), request.version.clone());
        if request.id.is_empty()
            && self.repository.find(&asked.0, &asked.1).is_ok_and(|served| served.keeps_predictions())
        {
            // Here, so that a shadow's prediction has the same id.
            request.id = watching::new_id();
        }
        let outcome = self.answer(request).await;
        outcome.inspect_err(|failure| self.watching().failed(&asked.0, &asked.1, failure))
    }

    async fn answer(&self, request: Request) -> Result<Response, Failure> {
        exchange::infers(&request.model, &request.version);
        let tenant = request.tenant.clone();
        if let Some(tenant) = &tenant {
            tenant.allow(&request.model)?;
            tenant.spend(&request.inputs)?;
        }
        let response = self.traffic.infer(self.repository.clone(), request).await?;
        exchange::note(|notes| notes.version = response.version.clone());
        tenant.iter().for_each(|tenant| tenant.receive(&response.outputs));
        Ok(response)
    }

    /// Whether the process works: false once a run hangs.
    pub fn is_live(&self) -> bool {
        let hangs = Duration::from_millis(self.hangs.load(Ordering::Relaxed));
        // A device's runs are also those of models that are loaded or unloaded.
        self.devices.longest_run() < hangs
            && self.repository.served().iter().all(|served| served.longest_run() < hangs)
    }

    /// Sets the time after which a run hangs.
    pub fn set_hang_time(&self, time: Duration) {
        self.hangs.store(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
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
        let all = self.versions(name, version)?;
        let shown = |served: &Arc<Served>| served.statistics().shown(&served.config().name, served.version());
        Ok(all.iter().map(shown).collect())
    }

    /// The models of the repository, or those that answer requests.
    pub fn index(&self, ready_only: bool) -> Vec<IndexEntry> {
        self.repository.index(ready_only)
    }

    /// The states of a model's versions: of all, or of one by its number or its label.
    ///
    /// # Errors
    /// [`Reason::NotFound`].
    pub fn states(&self, name: &str, version: &str) -> Result<Vec<IndexEntry>, Failure> {
        // A label stands for a number.
        let number = match self.repository.find(name, version) {
            Ok(served) if !version.is_empty() => Some(served.version().to_string()),
            _ => Some(version.to_string()).filter(|version| !version.is_empty()),
        };
        let mut entries = self.repository.index(false);
        entries.retain(|entry| {
            entry.name == name && number.as_ref().is_none_or(|number| *number == entry.version)
        });
        if entries.is_empty() {
            let text =
                format!("Could not find any versions of model {name:.200}; GET /v1/models lists the models");
            return Err(Failure::new(Reason::NotFound, text));
        }
        entries.retain(|entry| !entry.version.is_empty());
        Ok(entries)
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

    /// What is watched of all models, and the last errors.
    pub fn watching(&self) -> &Watching {
        self.repository.watching()
    }

    /// Compares the prediction of a request with what would have been right. Returns the rows that each version has counted, which is
    /// all that have kept the prediction, if `version` is empty; none, if there was feedback on the request before.
    ///
    /// # Errors
    /// [`Reason::NotFound`] if no version has kept the prediction, [`Reason::Invalid`] if the model keeps none, or for a truth that does
    /// not fit.
    pub fn feedback(
        &self,
        name: &str,
        version: &str,
        tenant: Option<&str>,
        truth: &Truth,
    ) -> Result<Vec<(u64, usize)>, Failure> {
        let served = self.versions(name, version)?;
        let watched = served.iter().filter_map(|served| Some((served.version(), served.watched()?)));
        watching::judge(name, watched, tenant.map(Arc::from).as_ref(), truth)
    }

    /// Forgets the baseline of a model's version, and learns another from the next rows, of which there are as many as its configuration
    /// says if `rows` does not.
    ///
    /// # Errors
    /// [`Reason::NotFound`], or [`Reason::Invalid`] if the model's drift is not watched.
    pub fn learn_baseline(&self, name: &str, version: &str, rows: Option<usize>) -> Result<usize, Failure> {
        let served = self.repository.find(name, version)?;
        served.watched().ok_or_else(|| watching::no_drift(name))?.learn_baseline(rows)
    }

    /// What the inputs and outputs of a model's version are compared with, as JSON.
    ///
    /// # Errors
    /// [`Reason::NotFound`] too while it is learned, or [`Reason::Invalid`] if the model's drift is not watched.
    pub fn baseline(&self, name: &str, version: &str) -> Result<serde_json::Value, Failure> {
        let served = self.repository.find(name, version)?;
        served.watched().ok_or_else(|| watching::no_drift(name))?.baseline()
    }

    /// What chooses the variant that answers.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Notes to whom requests are told.
    pub(crate) fn tells(&self, told: Told) {
        // A server says it once, at its start.
        let _ = self.told.set(told);
    }

    /// To whom requests are told.
    pub(crate) fn told(&self) -> Told {
        self.told.get().cloned().unwrap_or_default()
    }

    /// Memory that clients share with the server.
    pub fn memory(&self) -> &SharedMemory {
        &self.memory
    }

    /// The settings that clients may read and change.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The versions that are meant: one, all of a model if `version` is empty, all of all models if `name` is too.
    pub(crate) fn versions(&self, name: &str, version: &str) -> Result<Vec<Arc<Served>>, Failure> {
        Ok(match (name, version) {
            ("", "") => self.served(),
            ("", _) => return Err(Failure::invalid("a version is asked for, and no model; name one")),
            (name, "") => {
                self.repository.find(name, "")?;
                self.served().into_iter().filter(|served| served.config().name == name).collect()
            }
            (name, version) => vec![self.repository.find(name, version)?],
        })
    }

    fn refuse_draining(&self) -> Result<(), Failure> {
        match self.is_draining() {
            true => Err(Failure::new(Reason::Unavailable, "the server ends")),
            false => Ok(()),
        }
    }
}
