//! The runs before a model is ready, as a configuration asks for them.

use super::{Files, Port, Warmup, WarmupInput, WarmupValues, numbers, ports};
use crate::proto::model_warmup::input::InputDataType;
use crate::proto::{self, ModelConfig};

/// The elements of an input at most.
const MAX_ELEMENTS: usize = 1 << 28;

/// The runs of one warm-up at most.
const MAX_COUNT: usize = 10_000;

/// The typed warm-ups of a complete configuration.
pub(super) fn warmups(
    config: &ModelConfig,
    inputs: &[Port],
    files: &dyn Files,
) -> Result<Vec<Warmup>, String> {
    config.model_warmup.iter().map(|given| warmup(config, given, inputs, files)).collect()
}

fn warmup(
    config: &ModelConfig,
    given: &proto::ModelWarmup,
    ports: &[Port],
    files: &dyn Files,
) -> Result<Warmup, String> {
    let what = format!("model_warmup '{}'", given.name);
    let most = usize::try_from(config.max_batch_size).unwrap_or(0).max(1);
    let rows = numbers::within(given.batch_size.max(1), 1, most, &format!("{what}: batch_size"))?;
    let known = |name: &str| ports.iter().any(|port| port.name == name);
    if let Some(name) = given.inputs.keys().find(|name| !known(name)) {
        return Err(format!("{what} names the input '{name}', which the model does not have"));
    }
    if let Some(port) = ports.iter().find(|port| !port.optional && !given.inputs.contains_key(&port.name)) {
        return Err(format!("{what} has no input '{}'", port.name));
    }
    let inputs = ports.iter().filter_map(|port| Some((port, given.inputs.get(&port.name)?)));
    let inputs =
        inputs.map(|(port, of)| input(port, of, rows, &format!("{what}, input '{}'", port.name), files));
    Ok(Warmup {
        name: given.name.clone(),
        rows,
        count: numbers::within(given.count.max(1), 1, MAX_COUNT, &format!("{what}: count"))?,
        inputs: inputs.collect::<Result<_, _>>()?,
    })
}

fn input(
    port: &Port,
    given: &proto::model_warmup::Input,
    rows: usize,
    what: &str,
    files: &dyn Files,
) -> Result<WarmupInput, String> {
    if ports::dtype(given.data_type, what)? != port.dtype {
        return Err(format!("{what} has another data_type than the model's input"));
    }
    let (dims, _) = numbers::sizes(&given.dims, MAX_ELEMENTS / rows, what)?;
    let fits = |(dim, wanted): (&usize, &Option<usize>)| wanted.is_none_or(|wanted| wanted == *dim);
    if dims.len() != port.dims.len() || !dims.iter().zip(&port.dims).all(fits) {
        return Err(format!("{what} has the dims {dims:?}, which the model's input does not take"));
    }
    let values = match &given.input_data_type {
        Some(InputDataType::RandomData(true)) => WarmupValues::Random,
        Some(InputDataType::InputDataFile(name)) => {
            let path = format!("warmup/{name}");
            let data = files.read(&path).map_err(|failure| failure.text)?;
            WarmupValues::Data(
                data.ok_or_else(|| format!("{what}: the model's folder has no file '{path}'"))?,
            )
        }
        _ => WarmupValues::Zeros,
    };
    Ok(WarmupInput { name: port.name.clone(), dtype: port.dtype, dims, values })
}
