//! The runs of a model before it is ready, so that no request waits for kernels to be compiled.

use sardonyx::{DType, Tensor};

use super::held::Value;
use super::place::{Computes, Unrun};
use super::sequences::Sequences;
use crate::config::{Config, WarmupInput, WarmupValues};
use crate::{Failure, Reason};

/// Runs the warm-ups of the configuration. A model without any, whose inputs have known sizes, is run with zeros: one row, and a
/// full batch.
pub(super) fn run(
    config: &Config,
    sequences: Option<&Sequences>,
    place: &dyn Computes,
) -> Result<(), Failure> {
    let kept = |rows| sequences.map_or(Ok(Vec::new()), |sequences| sequences.zeros(rows));
    for warmup in &config.warmups {
        let inputs =
            warmup.inputs.iter().map(|input| Ok((input.name.clone(), tensor(config, warmup.rows, input)?)));
        let mut inputs = inputs.collect::<Result<Vec<_>, Failure>>()?;
        for (name, zeros) in kept(warmup.rows.max(1))? {
            if inputs.iter().all(|(given, _)| *given != name) {
                inputs.push((name, zeros));
            }
        }
        for _ in 0..warmup.count.max(1) {
            place.run(&on_host(&inputs), &[]).map_err(|Unrun { failure, .. }| {
                let text = format!("model '{}', warm-up '{}': {}", config.name, warmup.name, failure.text);
                Failure { text, ..failure }
            })?;
        }
    }
    if !config.warmups.is_empty() {
        return Ok(());
    }
    let sizes = if config.max_batch > 1 { vec![1, config.max_batch] } else { vec![1] };
    for rows in sizes {
        let Some(mut inputs) = zeros(config, rows) else { break };
        inputs.extend(kept(rows)?);
        if let Err(Unrun { failure, .. }) = place.run(&on_host(&inputs), &[]) {
            // Zeros may be no valid input. Only a device without memory, or without a driver, is a reason not to serve.
            if failure.reason == Reason::Unavailable {
                return Err(failure);
            }
            tracing::info!(model = config.name, rows, %failure, "a run with zeros failed");
        }
    }
    Ok(())
}

fn on_host(inputs: &[(String, Tensor)]) -> Vec<(String, Value)> {
    inputs.iter().map(|(name, tensor)| (name.clone(), Value::Host(tensor.clone()))).collect()
}

/// Inputs of zeros; `None` if a size is open.
fn zeros(config: &Config, rows: usize) -> Option<Vec<(String, Tensor)>> {
    let input = |port: &crate::config::Port| {
        let dims = port.dims.iter().copied().collect::<Option<Vec<_>>>()?;
        let shape = with_rows(config, rows, &dims);
        Some((port.name.clone(), blank(port.dtype, &shape).ok()?))
    };
    config.inputs.iter().filter(|port| !port.optional).map(input).collect()
}

fn with_rows(config: &Config, rows: usize, dims: &[usize]) -> Vec<usize> {
    let batch: &[usize] = if config.max_batch > 0 { &[rows] } else { &[] };
    [batch, dims].concat()
}

pub(super) fn blank(dtype: DType, shape: &[usize]) -> Result<Tensor, Failure> {
    match dtype {
        DType::String => {
            let count = shape.iter().product();
            Ok(Tensor::from_strings(shape, vec![String::new(); count])?)
        }
        dtype => Ok(Tensor::zeros(dtype, shape)?),
    }
}

fn tensor(config: &Config, rows: usize, input: &WarmupInput) -> Result<Tensor, Failure> {
    let shape = with_rows(config, rows.max(1), &input.dims);
    match &input.values {
        WarmupValues::Zeros => blank(input.dtype, &shape),
        WarmupValues::Random => random(input.dtype, &shape),
        WarmupValues::Data(bytes) => Ok(Tensor::from_raw(input.dtype, &shape, bytes.clone())?),
    }
}

/// Numbers of 0 and 1 for integers, which fit every table that they may be indices of; between 0 and 1 for others.
fn random(dtype: DType, shape: &[usize]) -> Result<Tensor, Failure> {
    let count = shape.iter().product::<usize>();
    // A linear congruential generator (Knuth, The Art of Computer Programming, volume 2, 3.3.4): only the speed of a run matters.
    let next = |state: &u64| Some(state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407));
    let states = std::iter::successors(Some(1u64), next).take(count);
    let unit = states.map(|state| (state >> 40) as f32 / (1u64 << 24) as f32);
    Ok(match dtype {
        DType::F32 => Tensor::from_vec(shape, unit.collect())?,
        DType::F64 => Tensor::from_vec(shape, unit.map(f64::from).collect())?,
        DType::F16 => Tensor::from_vec(shape, unit.map(half::f16::from_f32).collect())?,
        DType::BF16 => Tensor::from_vec(shape, unit.map(half::bf16::from_f32).collect())?,
        DType::I64 => Tensor::from_vec(shape, unit.map(|unit| i64::from(unit >= 0.5)).collect())?,
        DType::I32 => Tensor::from_vec(shape, unit.map(|unit| i32::from(unit >= 0.5)).collect())?,
        dtype => blank(dtype, shape)?,
    })
}
