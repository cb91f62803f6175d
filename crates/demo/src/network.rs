//! A model with one input and one output, on a device.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use sardonyx::{Device, Model, Session, SessionOptions, Tensor};

pub struct Network {
    pub model: Model,
    /// The file's name, without `.onnx`.
    pub name: String,
    session: Session,
    input: String,
}

impl Network {
    pub fn load(device: &Device, path: &Path) -> Result<Network, Box<dyn Error>> {
        let model = Model::load(path)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let input = model.inputs().first().ok_or_else(|| format!("{name} has no input"))?.name.clone();
        let session = Session::new(device, &model, SessionOptions::default())?;
        Ok(Network { model, name, session, input })
    }

    pub fn is_on_gpu(&self) -> bool {
        !self.session.device().is_reference()
    }

    /// The output for `x`, and the time of the run. The first run of a shape plans; the first of all also compiles and uploads.
    pub fn run(&self, x: &Tensor) -> Result<(Tensor, Duration), Box<dyn Error>> {
        let start = Instant::now();
        let outputs = self.session.run(&[(&self.input, x)])?;
        let spent = start.elapsed();
        let (_, output) = outputs.into_iter().next().ok_or_else(|| format!("{} has no output", self.name))?;
        Ok((output, spent))
    }

    /// Where the nodes run for `x`, and how much memory that takes.
    pub fn placement(&self, x: &Tensor) -> Result<String, Box<dyn Error>> {
        if !self.is_on_gpu() {
            return Ok("all nodes on the CPU reference".into());
        }
        let plan = self.session.plan(&[(&self.input, x)])?;
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        Ok(format!(
            "{} nodes on the GPU in {} dispatches, none on the CPU; {:.1} MB of weights, {:.1} MB for all values (without reuse: {:.1})",
            plan.nodes - plan.planned_nodes,
            plan.dispatches,
            megabytes(plan.weight_bytes),
            megabytes(plan.arena_bytes),
            megabytes(plan.without_reuse_bytes)
        ))
    }
}

/// How long a network takes.
pub struct Latency {
    /// The first run, with planning, compilation and the upload of weights.
    pub first: Duration,
    /// A later run of the same shape, if there was one.
    pub steady: Option<Duration>,
}

impl std::fmt::Display for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        write!(f, "first run {:.0} ms with compilation", milliseconds(self.first))?;
        self.steady.map_or(Ok(()), |steady| write!(f, ", then {:.1} ms", milliseconds(steady)))
    }
}
