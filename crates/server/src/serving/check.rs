//! Whether a request fits the model, and how many rows it adds to a batch.

use sardonyx::Tensor;

use crate::config::{Config, Lengths, Port};
use crate::datatype;
use crate::{Failure, Reason, Request};

use super::queue::Key;

/// What a batch must know of a request.
#[derive(Debug)]
pub(super) struct Fit {
    pub(super) rows: usize,
    pub(super) key: Key,
    /// The length, where requests of different lengths are joined.
    pub(super) length: usize,
}

/// Compares names, dtypes and shapes with the configuration.
pub(super) fn checked(config: &Config, request: &Request) -> Result<Fit, Failure> {
    let model = &config.name;
    let mut rows = None;
    let mut key = Vec::with_capacity(request.inputs.len());
    let on_host = request.inputs.iter().map(|(name, tensor)| (name, tensor.dtype(), tensor.shape()));
    let held = request.held.iter().map(|(name, held)| (name, held.dtype(), held.shape()));
    for (name, dtype, shape) in on_host.chain(held) {
        let port = config.inputs.iter().find(|port| port.name == *name);
        let port = port.ok_or_else(|| unknown(config, "input", name, &config.inputs))?;
        if key.iter().any(|(earlier, _)| earlier == name) {
            return Err(Failure::invalid(format!("input '{name}' of model '{model}' is given twice")));
        }
        if dtype != port.dtype {
            return Err(Failure::invalid(format!(
                "input '{name}' has data-type '{}', but model '{model}' takes '{}'",
                datatype::name(dtype).unwrap_or("?"),
                datatype::name(port.dtype).unwrap_or("?")
            )));
        }
        let inner = match config.max_batch {
            0 => Some(shape),
            _ => shape.split_first().map(|(_, inner)| inner),
        };
        let Some(inner) = inner.filter(|inner| fits(inner, port)) else {
            return Err(Failure::invalid(format!(
                "input '{name}' has the shape {shape:?}, but model '{model}' takes {}",
                expected(config, port)
            )));
        };
        if config.max_batch > 0 {
            match rows {
                None => rows = Some(shape[0]),
                Some(rows) if rows == shape[0] => {}
                Some(rows) => {
                    return Err(Failure::invalid(format!(
                        "input '{name}' has {} rows, but the inputs before it have {rows}; all inputs of a request to model \
                         '{model}' have the same first dimension",
                        shape[0]
                    )));
                }
            }
        }
        key.push((name.clone(), inner.to_vec()));
    }
    let length = match &config.lengths {
        Some(lengths) => in_bucket(config, lengths, &mut key)?,
        None => 0,
    };
    let given = |port: &Port| {
        let mut names =
            request.inputs.iter().map(|(name, _)| name).chain(request.held.iter().map(|(name, _)| name));
        names.any(|name| *name == port.name)
    };
    let missing = |port: &&Port| !port.optional && !given(port);
    if let Some(port) = config.inputs.iter().find(missing) {
        return Err(Failure::invalid(format!(
            "input '{}' is missing; model '{model}' takes {} inputs, and the request has {}",
            port.name,
            config.inputs.len(),
            request.inputs.len() + request.held.len()
        )));
    }
    for wanted in &request.outputs {
        if config.outputs.iter().all(|port| port.name != wanted.name) {
            return Err(unknown(config, "output", &wanted.name, &config.outputs));
        }
    }
    let rows = rows.unwrap_or(1);
    if config.max_batch > 0 && rows > config.max_batch {
        return Err(Failure::invalid(format!(
            "the request has {rows} rows, and a batch of model '{model}' has at most {}; send it in parts",
            config.max_batch
        )));
    }
    key.sort_unstable();
    let joins = config.max_batch > 0 && rows > 0 && !key.is_empty();
    Ok(Fit { rows, key: joins.then_some(key), length })
}

/// The length of a request, whose `shapes` get that of its bucket.
fn in_bucket(
    config: &Config,
    lengths: &Lengths,
    shapes: &mut [(String, Vec<usize>)],
) -> Result<usize, Failure> {
    let mut length = None;
    for input in &lengths.inputs {
        let size =
            shapes.iter().find(|(name, _)| *name == input.name).and_then(|(_, shape)| shape.get(input.axis));
        let Some(&size) = size else { continue };
        if length.is_some_and(|length| length != size) {
            return Err(Failure::invalid(format!(
                "input '{}' has the length {size}, and another input has {}; the inputs {} of a request to model '{}' have one length",
                input.name,
                length.unwrap_or_default(),
                lengths.inputs.iter().map(|input| format!("'{}'", input.name)).collect::<Vec<_>>().join(", "),
                config.name
            )));
        }
        length = Some(size);
    }
    let length = length.unwrap_or_default();
    let Some(bucket) = lengths.bucket(length) else { return Ok(length) };
    for (name, shape) in shapes {
        if let Some(size) = lengths.input(name).and_then(|input| shape.get_mut(input.axis)) {
            *size = bucket;
        }
    }
    Ok(length)
}

/// Compares what the models of an ensemble have made with the outputs that its configuration promises.
pub(super) fn made(config: &Config, outputs: &[(String, Tensor)]) -> Result<(), Failure> {
    for port in &config.outputs {
        let Some((name, tensor)) = outputs.iter().find(|(name, _)| *name == port.name) else { continue };
        let shape = tensor.shape();
        let inner = if config.max_batch == 0 { Some(shape) } else { shape.get(1..) };
        if tensor.dtype() != port.dtype || !inner.is_some_and(|inner| fits(inner, port)) {
            let text = format!(
                "output '{name}' of ensemble '{}' was made as {} of shape {shape:?}, but its configuration says {} of shape {}",
                config.name,
                datatype::name(tensor.dtype()).unwrap_or("?"),
                datatype::name(port.dtype).unwrap_or("?"),
                expected(config, port)
            );
            return Err(Failure::new(Reason::Internal, text));
        }
    }
    Ok(())
}

/// Whether dimensions, without that of the batch, are those of a port.
fn fits(inner: &[usize], port: &Port) -> bool {
    let fits = |(dim, wanted): (&usize, &Option<usize>)| wanted.is_none_or(|wanted| wanted == *dim);
    inner.len() == port.dims.len() && inner.iter().zip(&port.dims).all(fits)
}

fn unknown(config: &Config, kind: &str, name: &str, ports: &[Port]) -> Failure {
    let names: Vec<_> = ports.iter().map(|port| format!("'{}'", port.name)).collect();
    Failure::invalid(format!(
        "unexpected inference {kind} '{name}' for model '{}'; it has {}",
        config.name,
        names.join(", ")
    ))
}

fn expected(config: &Config, port: &Port) -> String {
    let dim = |dim: &Option<usize>| dim.map_or("-1".to_string(), |dim| dim.to_string());
    let batch = (config.max_batch > 0).then(|| "-1".to_string());
    let dims: Vec<_> = batch.into_iter().chain(port.dims.iter().map(dim)).collect();
    format!("[{}]", dims.join(", "))
}
