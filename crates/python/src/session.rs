//! Sessions.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pythonize::pythonize;
use sardonyx::{
    Counters, Input, IntegerBits, Interrupt, Known, LoadOptions, Session, SessionOptions, Stage, Tensor,
    Tolerances, ValueInfo, Verification,
};

use crate::arrays::{self, Fed};
use crate::binding::{PyBinding, kept};
use crate::device::PyDevice;
use crate::error::detached;
use crate::model::{PyModel, PyValueInfo, infos, stage};
use crate::run::Run;
use crate::waiting::{awaited, worked};

/// A model made ready on a device. Several threads may run it at once.
#[pyclass(name = "Session", module = "sardonyx._native", frozen, subclass)]
pub(crate) struct PySession {
    session: Arc<Session>,
    model: PyModel,
    device: PyDevice,
    /// Ends work of the session early.
    interrupt: Interrupt,
    /// The shapes of inputs, as hashes, of which a run took no longer than [`QUICK`].
    quick: Mutex<HashSet<u64>>,
    /// The number of each input.
    numbers: HashMap<String, usize>,
}

/// What a measured session took, as the command line's `bench` says it.
#[derive(serde::Serialize)]
struct Measured {
    latency_ms: Latency,
    runs_per_second: f64,
    wall_ms: Vec<f64>,
    during_runs: Counters,
}

#[derive(serde::Serialize)]
struct Latency {
    min: f64,
    median: f64,
    p90: f64,
    p99: f64,
}

#[derive(serde::Serialize)]
struct Verified<'a> {
    #[serde(flatten)]
    found: &'a Verification,
    /// Where to look, in a sentence.
    look_at: Option<String>,
}

type Named<T> = Vec<(String, T)>;

/// Inputs as the library takes them.
fn inputs(feeds: &Named<Fed>) -> Vec<(&str, Input<'_>)> {
    feeds.iter().map(|(name, fed)| (name.as_str(), fed.input())).collect()
}

fn tensors(named: &Named<Tensor>) -> Vec<(&str, &Tensor)> {
    named.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect()
}

fn knowns(named: &Named<Known>) -> Vec<(&str, Known)> {
    named.iter().map(|(name, known)| (name.as_str(), known.clone())).collect()
}

impl PySession {
    fn here(&self) -> sardonyx::Result<&Session> {
        self.device.here()?;
        Ok(&self.session)
    }

    /// What `of` makes of each input.
    fn named<T>(
        &self,
        inputs: &Bound<'_, PyAny>,
        of: impl Fn(&Bound<'_, PyAny>, Option<&ValueInfo>) -> PyResult<T>,
    ) -> PyResult<Named<T>> {
        let mapping = match inputs.cast::<PyDict>() {
            Ok(inputs) => inputs.clone(),
            Err(_) => inputs.py().get_type::<PyDict>().call1((inputs,))?.cast_into()?,
        };
        let mut all = Vec::with_capacity(mapping.len());
        for (name, value) in mapping {
            let name: String = name.extract()?;
            let declared = self.numbers.get(&name).map(|&number| &self.session.inputs()[number]);
            let value = of(&value, declared)?;
            all.push((name, value));
        }
        Ok(all)
    }
}

/// Runs up to this length are waited for without looking for signals, which takes a thread.
const QUICK: Duration = Duration::from_millis(20);

/// The number of shapes that are remembered.
const REMEMBERED: usize = 1024;

/// The shapes of inputs.
fn shapes(feeds: &Named<Fed>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (name, fed) in feeds {
        (name, fed.shape()).hash(&mut hasher);
    }
    hasher.finish()
}

impl PySession {
    /// What `run` makes, which learns whether the last run of inputs of these shapes was quick. The first one plans and compiles.
    fn timed<T>(&self, feeds: &Named<Fed>, run: impl FnOnce(bool) -> PyResult<T>) -> PyResult<T> {
        let quick = || self.quick.lock().unwrap_or_else(PoisonError::into_inner);
        let (shapes, start) = (shapes(feeds), Instant::now());
        let was_quick = quick().contains(&shapes);
        let made = run(was_quick)?;
        let is_quick = start.elapsed() < QUICK;
        if is_quick != was_quick {
            let mut quick = quick();
            match is_quick {
                true if quick.len() < REMEMBERED => drop(quick.insert(shapes)),
                _ => drop(quick.remove(&shapes)),
            }
        }
        Ok(made)
    }

    /// What a run makes, which ends early where the program is interrupted.
    fn ended<T: Send>(
        &self,
        py: Python<'_>,
        feeds: &Named<Fed>,
        run: impl Send + FnOnce() -> sardonyx::Result<T>,
    ) -> PyResult<T> {
        self.timed(feeds, |is_quick| match is_quick {
            true => detached(py, run),
            false => worked(py, &self.interrupt, run),
        })
    }
}

#[pymethods]
impl PySession {
    #[new]
    #[pyo3(signature = (model, device = None, *, plan_cache = 16, fusion = true, integers = "enough"))]
    fn new(
        py: Python<'_>,
        model: &Bound<'_, PyAny>,
        device: Option<&Bound<'_, PyAny>>,
        plan_cache: usize,
        fusion: bool,
        integers: &str,
    ) -> PyResult<PySession> {
        let bits = match integers {
            "enough" => IntegerBits::Enough,
            "32" => IntegerBits::Only32,
            "64" => IntegerBits::Always64,
            other => {
                let text = format!("integers is enough, 32 or 64, and not {other}");
                return Err(PyValueError::new_err(text));
            }
        };
        let (model, device) = (PyModel::of(model, LoadOptions::new())?, PyDevice::of(py, device)?);
        let options = SessionOptions::new().plan_cache(plan_cache).fusion(fusion).integers(bits);
        let interrupt = Interrupt::new();
        let session = worked(py, &interrupt, || {
            Session::new(&device.here()?.clone().interrupted_by(&interrupt), &model.0, options)
        })?;
        let names = session.inputs().iter().enumerate();
        let numbers = names.map(|(number, info)| (info.name.clone(), number)).collect();
        let quick = Mutex::default();
        Ok(PySession { session: Arc::new(session), model, device, interrupt, quick, numbers })
    }

    #[getter]
    fn inputs(&self) -> Vec<PyValueInfo> {
        infos(self.session.inputs())
    }

    #[getter]
    fn outputs(&self) -> Vec<PyValueInfo> {
        infos(self.session.outputs())
    }

    #[getter]
    fn device(&self) -> PyDevice {
        self.device.clone()
    }

    #[getter]
    fn model(&self) -> PyModel {
        self.model.clone()
    }

    /// Runs the model and waits. `outputs` names the values to compute: outputs, or values inside the model.
    #[pyo3(signature = (inputs, outputs = None))]
    fn run<'py>(
        &self,
        py: Python<'py>,
        inputs: &Bound<'py, PyAny>,
        outputs: Option<Vec<String>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let feeds = self.named(inputs, Fed::of)?;
        // A run of all outputs needs no plan of its own.
        let chosen = outputs.as_ref().filter(|names| {
            let all: HashSet<&str> = self.session.outputs().iter().map(|info| info.name.as_str()).collect();
            names.iter().map(String::as_str).collect::<HashSet<_>>() != all
        });
        let chosen: Option<Vec<&str>> = chosen.map(|names| names.iter().map(String::as_str).collect());
        let run = || match &chosen {
            None => self.here()?.run_values(&self::inputs(&feeds)),
            Some(names) => self.here()?.run_values_for(names, &self::inputs(&feeds)),
        };
        let made = match &chosen {
            // A run on a GPU goes on there without this thread.
            None if !self.session.device().is_reference() => {
                self.timed(&feeds, |is_quick| match is_quick {
                    true => detached(py, run),
                    false => {
                        awaited(py, async { self.here()?.run_values_async(&self::inputs(&feeds)).await })
                    }
                })?
            }
            _ => self.ended(py, &feeds, run)?,
        };
        arrays::outputs(py, made, outputs.as_deref())
    }

    /// Runs the model and leaves its outputs on the device, as `DeviceArray`s.
    fn run_to_device<'py>(&self, py: Python<'py>, inputs: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        // What the reference hands through would be the program's own array.
        let feeds = self.named(inputs, Fed::of)?;
        let feeds: Named<Fed> = match self.session.device().is_reference() {
            true => detached(py, || feeds.into_iter().map(|(name, fed)| Ok((name, kept(fed)?))).collect())?,
            false => feeds,
        };
        let made = self.ended(py, &feeds, || self.here()?.run_to_device(&self::inputs(&feeds)))?;
        arrays::placed(py, made)
    }

    /// A run for `Session.run_async` to poll.
    fn _start(&self, py: Python<'_>, inputs: &Bound<'_, PyAny>) -> PyResult<Run> {
        let feeds = self.named(inputs, Fed::of)?;
        let session = detached(py, || self.here().map(|_| self.session.clone()))?;
        Ok(Run::new(async move { session.run_values_async(&self::inputs(&feeds)).await }))
    }

    /// What a run dispatches, and the memory that it takes.
    fn plan<'py>(&self, py: Python<'py>, inputs: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let named = self.named(inputs, arrays::known)?;
        let summary = worked(py, &self.interrupt, || self.here()?.plan(&knowns(&named)))?;
        Ok(pythonize(py, &summary)?)
    }

    /// Makes everything ready for runs on inputs of these shapes.
    fn prepare(&self, py: Python<'_>, inputs: &Bound<'_, PyAny>) -> PyResult<()> {
        let named = self.named(inputs, arrays::known)?;
        worked(py, &self.interrupt, || self.here()?.prepare(&knowns(&named)))
    }

    /// Runs once, and measures each kernel on the device. A shape stands for zeros.
    fn profile<'py>(&self, py: Python<'py>, inputs: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let named = self.named(inputs, arrays::on_host)?;
        let times = worked(py, &self.interrupt, || self.here()?.profile(&tensors(&named)))?;
        Ok(pythonize(py, &times)?)
    }

    /// The text of a stage: `model`, `graph` or `passes`; with inputs `program`, `memory` or `wgsl`.
    #[pyo3(signature = (stage, inputs = None))]
    fn explain(&self, py: Python<'_>, stage: &str, inputs: Option<&Bound<'_, PyAny>>) -> PyResult<String> {
        let stage = self::stage(stage)?;
        if let Stage::Model | Stage::Graph | Stage::Passes = stage {
            return detached(py, || self.model.0.explain(stage));
        }
        let named = match inputs {
            Some(inputs) => self.named(inputs, arrays::on_host)?,
            None => Vec::new(),
        };
        worked(py, &self.interrupt, || self.here()?.explain(stage, &tensors(&named)))
    }

    /// Why a node, as `explain("passes")` names it, is or is not fused, a view, or in place.
    fn why<'py>(
        &self,
        py: Python<'py>,
        node: &str,
        inputs: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let named = self.named(inputs, arrays::on_host)?;
        let explanation = worked(py, &self.interrupt, || self.here()?.why(node, &tensors(&named)))?;
        Ok(pythonize(py, &explanation)?)
    }

    /// Compares every node with the CPU reference.
    #[pyo3(signature = (inputs, *, tolerance = 1e-3, output_tolerance = None))]
    fn verify<'py>(
        &self,
        py: Python<'py>,
        inputs: &Bound<'py, PyAny>,
        tolerance: f64,
        output_tolerance: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let named = self.named(inputs, arrays::on_host)?;
        let tolerances = Tolerances::new().node(tolerance).output(output_tolerance.unwrap_or(tolerance));
        let found = worked(py, &self.interrupt, || {
            sardonyx::verify(self.here()?.device(), &self.model.0, &tensors(&named), tolerances)
        })?;
        let look_at = found.divergence.as_ref().map(|divergence| divergence.to_string());
        Ok(pythonize(py, &Verified { found: &found, look_at })?)
    }

    /// The time of runs after a warm-up, in milliseconds.
    #[pyo3(signature = (inputs, *, runs = 20, warmup = 3))]
    fn bench<'py>(
        &self,
        py: Python<'py>,
        inputs: &Bound<'py, PyAny>,
        runs: usize,
        warmup: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        if runs == 0 {
            return Err(PyValueError::new_err("bench measures at least one run"));
        }
        let feeds = self.named(inputs, Fed::of)?;
        let measured = worked(py, &self.interrupt, || {
            let (session, inputs) = (self.here()?, self::inputs(&feeds));
            (0..warmup).try_for_each(|_| session.run_values(&inputs).map(drop))?;
            let before = session.device().counters();
            let mut wall_ms = Vec::new();
            for _ in 0..runs {
                let start = Instant::now();
                session.run_values(&inputs)?;
                wall_ms.push(start.elapsed().as_secs_f64() * 1e3);
            }
            let during_runs = session.device().counters() - before;
            let mut sorted = wall_ms.clone();
            sorted.sort_by(f64::total_cmp);
            // The smallest value that is at least as large as this part of the values.
            let rank = |part: f64| sorted[((part * runs as f64).ceil() as usize).saturating_sub(1)];
            let latency_ms = Latency { min: rank(0.0), median: rank(0.5), p90: rank(0.9), p99: rank(0.99) };
            let runs_per_second = runs as f64 * 1e3 / wall_ms.iter().sum::<f64>();
            Ok(Measured { latency_ms, runs_per_second, wall_ms, during_runs })
        })?;
        Ok(pythonize(py, &measured)?)
    }

    /// The bytes that the session holds on its device.
    fn memory<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(pythonize(py, &self.session.memory())?)
    }

    /// Frees the memory of runs that are not in flight.
    fn trim(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, || {
            self.here()?.trim();
            Ok(())
        })
    }

    /// Runs on inputs and outputs that stay where they are. `inputs` are the first values.
    fn bind(&self, py: Python<'_>, inputs: &Bound<'_, PyAny>) -> PyResult<PyBinding> {
        let feeds = self.named(inputs, Fed::of)?;
        let binding = worked(py, &self.interrupt, || {
            let mut binder = self.here()?.bind();
            for (name, fed) in feeds {
                binder = binder.input(&name, kept(fed)?.input());
            }
            binder.build()
        })?;
        let inputs = self.session.inputs().to_vec();
        Ok(PyBinding { binding: binding.into(), device: self.device.clone(), inputs })
    }
}
