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
        let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        Ok(format!(
            "{} nodes on the GPU in {} dispatches, none on the CPU; {} of weights, {} for all values ({} without reuse)",
            plan.nodes - plan.planned_nodes,
            plan.dispatches,
            mebibytes(plan.weight_bytes),
            mebibytes(plan.arena_bytes),
            mebibytes(plan.without_reuse_bytes)
        ))
    }
}

/// How long a network takes.
pub struct Latency {
    /// The first run: on a GPU with planning, compilation and the upload of weights.
    pub first: Duration,
    /// A later run of the same shape, which there is on a GPU only: the reference prepares nothing.
    pub steady: Option<Duration>,
}

impl std::fmt::Display for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self.steady {
            None => f.write_str(&milliseconds(self.first)),
            Some(steady) => write!(
                f,
                "first run {} with compilation, then {}",
                milliseconds(self.first),
                milliseconds(steady)
            ),
        }
    }
}

/// A time in three digits, as `12.3 ms`, or in more where milliseconds are thousands.
fn milliseconds(time: Duration) -> String {
    let time = time.as_secs_f64() * 1e3;
    let decimals = match time {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{time:.decimals$} ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        let first = Duration::from_micros(1_192_345);
        let steady = Some(Duration::from_micros(28_210));
        let text = Latency { first, steady }.to_string();
        assert_eq!(text, "first run 1192 ms with compilation, then 28.2 ms");
        assert_eq!(Latency { first, steady: None }.to_string(), "1192 ms");
    }
}
