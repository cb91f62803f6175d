//! `Ensemble`: other models that answer a request together. Each step is a request to a model, which waits in the model's queue as
//! all others do; it begins as soon as its inputs are made.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::FuturesUnordered;
use sardonyx::Tensor;
use tokio::sync::watch;

use super::held::Value;
use super::{Models, Served, Unanswered, Work};
use crate::config::{Config, Step};
use crate::{Failure, Reason, Request, WantedOutput};

#[derive(Debug)]
pub(super) struct Ensemble {
    models: Weak<dyn Models>,
    name: String,
    steps: Vec<Step>,
    outputs: Vec<String>,
    closed: AtomicBool,
    /// The number of requests in flight.
    running: watch::Sender<usize>,
}

/// One of the requests that are counted, until it is dropped.
struct Counted<'a>(&'a watch::Sender<usize>);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Ensemble {
    /// The ensemble of these steps.
    ///
    /// # Errors
    /// [`Reason::Invalid`] if one of its models is an ensemble that runs it.
    pub(super) fn new(
        models: Weak<dyn Models>,
        config: &Config,
        steps: Vec<Step>,
    ) -> Result<Ensemble, Failure> {
        let (closed, running) = (AtomicBool::new(false), watch::Sender::new(0));
        let outputs = config.outputs.iter().map(|port| port.name.clone()).collect();
        let ensemble = Ensemble { models, name: config.name.clone(), steps, outputs, closed, running };
        match ensemble.ready() {
            Err(failure) if failure.reason == Reason::Invalid => Err(failure),
            _ => Ok(ensemble),
        }
    }

    /// Whether all models that the ensemble runs serve, and fit it.
    ///
    /// # Errors
    /// [`Reason::Unavailable`], or [`Reason::Invalid`] if the ensemble runs itself.
    pub(super) fn ready(&self) -> Result<(), Failure> {
        self.check(&mut vec![self.name.clone()], &mut HashSet::new())
    }

    /// `path` are the ensembles that run this one, itself the last; `checked` are those that are ready.
    fn check(&self, path: &mut Vec<String>, checked: &mut HashSet<(String, u64)>) -> Result<(), Failure> {
        let models = self.models()?;
        for step in &self.steps {
            if path.contains(&step.model) {
                let text =
                    format!("ensemble '{}' would run itself: '{}' runs '{}'", path[0], self.name, step.model);
                return Err(Failure::invalid(text));
            }
            let served =
                models.find(&step.model, &version(step)).map_err(|failure| self.lacks(step, &failure))?;
            fits(step, served.config()).map_err(|text| self.lacks(step, &Failure::invalid(text)))?;
            if let Work::Ensemble(inner) = &served.work
                && checked.insert((step.model.clone(), served.version()))
            {
                path.push(step.model.clone());
                inner.check(path, checked)?;
                path.pop();
            }
        }
        Ok(())
    }

    /// The versions that answer the steps now.
    pub(super) fn models_now(&self) -> Result<Vec<Arc<Served>>, Failure> {
        let models = self.models()?;
        self.steps.iter().map(|step| models.find(&step.model, &version(step))).collect()
    }

    fn models(&self) -> Result<Arc<dyn Models>, Failure> {
        self.models.upgrade().ok_or_else(|| Failure::new(Reason::Unavailable, "the server ends"))
    }

    /// The failure of a step that cannot begin.
    fn lacks(&self, step: &Step, failure: &Failure) -> Failure {
        let text = format!("ensemble '{}' needs model '{}': {failure}", self.name, step.model);
        Failure { retry_after: failure.retry_after, ..Failure::new(Reason::Unavailable, text) }
    }

    /// The tensors of the ensemble that are on the host, once all steps have run that make what the request wants. If a step fails, the
    /// others are given up.
    pub(super) async fn run(&self, request: Request) -> Result<Vec<(String, Tensor)>, Unanswered> {
        self.running.send_modify(|count| *count += 1);
        let _counted = Counted(&self.running);
        if self.closed.load(Ordering::SeqCst) {
            return Err(Unanswered::Closed(Box::new(request)));
        }
        self.ready()?;
        let models = self.models()?;
        let mut waiting = self.needed(&request.outputs);
        let wanted: Vec<String> = match &request.outputs[..] {
            [] => self.outputs.clone(),
            wanted => wanted.iter().map(|wanted| wanted.name.clone()).collect(),
        };
        let mut request = request;
        let given = std::mem::take(&mut request.inputs).into_iter();
        let mut made: BTreeMap<String, Value> =
            given.map(|(name, tensor)| (name, Value::Host(tensor))).collect();
        let mut running = FuturesUnordered::new();
        loop {
            let mut later = Vec::new();
            for step in waiting {
                match self.request(step, &request, &made) {
                    Some(mut request) => {
                        request.keep = self.kept(models.as_ref(), step, &wanted);
                        running.push(self.begin(models.clone(), step, request));
                    }
                    None => later.push(step),
                }
            }
            waiting = later;
            match running.next().await {
                Some(outputs) => made.extend(outputs?),
                None if waiting.is_empty() => {
                    let on_host = |(name, value)| match value {
                        Value::Host(tensor) => Some((name, tensor)),
                        Value::Held(_) => None,
                    };
                    return Ok(made.into_iter().filter_map(on_host).collect());
                }
                None => return Err(self.stuck(waiting[0]).into()),
            }
        }
    }

    /// The steps that make the wanted outputs: all, if none is named.
    fn needed(&self, wanted: &[WantedOutput]) -> Vec<&Step> {
        if wanted.is_empty() {
            return self.steps.iter().collect();
        }
        let mut tensors: HashSet<&str> = wanted.iter().map(|wanted| wanted.name.as_str()).collect();
        let mut needed = Vec::new();
        // A step comes after those that make its inputs.
        for step in self.steps.iter().rev() {
            if step.outputs.values().any(|tensor| tensors.contains(tensor.as_str())) {
                tensors.extend(step.inputs.values().map(String::as_str));
                needed.push(step);
            }
        }
        needed.reverse();
        needed
    }

    /// The outputs of a step's model that stay on its device: those that nobody but further models on devices takes.
    fn kept(&self, models: &dyn Models, step: &Step, wanted: &[String]) -> Vec<String> {
        let holds =
            |step: &Step| models.find(&step.model, &version(step)).is_ok_and(|served| served.takes_held());
        if !holds(step) {
            return Vec::new();
        }
        let takes = |step: &Step, tensor: &String| step.inputs.values().any(|taken| taken == tensor);
        let stays = |tensor: &String| {
            !wanted.contains(tensor) && self.steps.iter().all(|step| !takes(step, tensor) || holds(step))
        };
        step.outputs.iter().filter(|(_, tensor)| stays(tensor)).map(|(name, _)| name.clone()).collect()
    }

    /// The request of a step; `None` if an input of it is not made yet.
    fn request(&self, step: &Step, of: &Request, made: &BTreeMap<String, Value>) -> Option<Request> {
        let is_made =
            |tensor: &String| self.steps.iter().any(|step| step.outputs.values().any(|of| of == tensor));
        let (mut inputs, mut held) = (Vec::with_capacity(step.inputs.len()), Vec::new());
        for (name, tensor) in &step.inputs {
            match made.get(tensor) {
                Some(Value::Host(made)) => inputs.push((name.clone(), made.clone())),
                Some(Value::Held(made)) => held.push((name.clone(), made.clone())),
                None if is_made(tensor) => return None,
                // An optional input of the ensemble that the request leaves out.
                None => {}
            }
        }
        let output = |name: &String| WantedOutput { name: name.clone(), classes: 0 };
        Some(Request {
            model: step.model.clone(),
            version: version(step),
            inputs,
            held,
            outputs: step.outputs.keys().map(output).collect(),
            ..of.clone()
        })
    }

    /// The ensemble's tensors that a step makes.
    fn begin<'a>(
        &'a self,
        models: Arc<dyn Models>,
        step: &'a Step,
        request: Request,
    ) -> BoxFuture<'a, Result<Vec<(String, Value)>, Failure>> {
        let run = async move {
            let response =
                super::infer(models.as_ref(), request).await.map_err(|failure| match failure.reason {
                    Reason::NotFound => self.lacks(step, &failure),
                    _ => Failure { text: format!("ensemble '{}': {}", self.name, failure.text), ..failure },
                })?;
            let on_host = response.outputs.into_iter().map(|(name, tensor)| (name, Value::Host(tensor)));
            let held = response.held.into_iter().map(|(name, held)| (name, Value::Held(held)));
            let tensor = |(name, value)| Some((step.outputs.get(&name)?.clone(), value));
            Ok(on_host.chain(held).filter_map(tensor).collect())
        };
        run.boxed()
    }

    fn stuck(&self, step: &Step) -> Failure {
        let text = format!("ensemble '{}': an input of model '{}' was not made", self.name, step.model);
        Failure::new(Reason::Internal, text)
    }

    /// Takes no requests any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Waits until all requests are answered.
    pub(super) async fn drained(&self) {
        // The sender is here, so there is no error.
        let _ = self.running.subscribe().wait_for(|&count| count == 0).await;
    }
}

/// The version that a step asks for.
fn version(step: &Step) -> String {
    step.version.map_or(String::new(), |version| version.to_string())
}

/// Compares the names of a step with the inputs and outputs of its model.
fn fits(step: &Step, config: &Config) -> Result<(), String> {
    let unknown = |name: &&String| config.inputs.iter().all(|port| port.name != **name);
    if let Some(name) = step.inputs.keys().find(unknown) {
        return Err(format!("the input_map gives '{name}', and the model has no such input"));
    }
    let unknown = |name: &&String| config.outputs.iter().all(|port| port.name != **name);
    if let Some(name) = step.outputs.keys().find(unknown) {
        return Err(format!("the output_map takes '{name}', and the model has no such output"));
    }
    let missing = config.inputs.iter().find(|port| !port.optional && !step.inputs.contains_key(&port.name));
    match missing {
        Some(port) => Err(format!("the input_map does not give the model's input '{}'", port.name)),
        None => Ok(()),
    }
}
