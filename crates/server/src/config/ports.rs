//! The inputs and outputs of a configuration: completed from the ONNX file, compared with it, and typed.

use std::collections::HashSet;

use sardonyx::{DType, Dim, Model, ValueInfo};

use super::{Files, Port, numbers};
use crate::datatype;
use crate::proto::{DataType, ModelConfig, ModelInput, ModelOutput};

/// The rows of a batch at most, where the model can join requests and the configuration does not say how many.
const DEFAULT_MAX_BATCH: i32 = 4;

/// The bytes of a file of labels at most.
const LONGEST_LABELS: usize = 16 << 20;

/// Names of dimensions that are no batches, although each run chooses them: joining requests along them would change the results.
const NO_BATCH: [&str; 8] = ["seq", "len", "token", "time", "frame", "sample", "width", "height"];

/// What the configuration and the ONNX file say of an input or an output.
#[derive(Clone, Copy)]
enum Side {
    Input,
    Output,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::Input => "input",
            Side::Output => "output",
        }
    }
}

/// An input or an output of the configuration, in one form.
struct Given<'a> {
    name: &'a str,
    data_type: &'a mut i32,
    dims: &'a mut Vec<i64>,
}

/// Inputs and outputs that clients do not see, as the server fills and keeps them for sequences.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) inputs: HashSet<String>,
    pub(super) outputs: HashSet<String>,
}

/// Completes inputs, outputs and `max_batch_size` from the ONNX file. Says whether the model joins requests though the configuration
/// does not ask.
pub(super) fn complete(config: &mut ModelConfig, model: &Model, kept: &Kept) -> Result<bool, String> {
    known(Side::Input, config.input.iter().map(|input| &input.name), model)?;
    known(Side::Output, config.output.iter().map(|output| &output.name), model)?;
    let listed = |name: &str| config.input.iter().any(|input| input.name == name);
    if !config.input.is_empty() {
        let left_out =
            |info: &&ValueInfo| !info.has_default && !listed(&info.name) && !kept.inputs.contains(&info.name);
        if let Some(info) = model.inputs().iter().find(left_out) {
            return Err(format!(
                "the configuration leaves out input '{}', which the ONNX file needs",
                info.name
            ));
        }
    }

    let inputs = model.inputs().iter().filter(|info| match config.input.is_empty() {
        true => !info.has_default && !kept.inputs.contains(&info.name),
        false => listed(&info.name) && !info.has_default,
    });
    let outputs = model.outputs().iter().filter(|info| match config.output.is_empty() {
        true => info.container.is_none() && !kept.outputs.contains(&info.name),
        false => config.output.iter().any(|output| output.name == info.name),
    });
    let can_join = has_batch(&inputs.collect::<Vec<_>>(), &outputs.collect::<Vec<_>>());
    let joins = config.max_batch_size == 0 && can_join && !gives_all_dims(config, model);
    if joins {
        config.max_batch_size = DEFAULT_MAX_BATCH;
    }
    numbers::within(config.max_batch_size, 0, numbers::MAX_ROWS, "max_batch_size")?;

    let batched = config.max_batch_size > 0;
    if config.input.is_empty() {
        for info in model.inputs().iter().filter(|info| !kept.inputs.contains(&info.name)) {
            // An input with a value of its own is no part of a batch unless it has the batch's dimension.
            let has_rows = |dims: &Vec<Dim>| !batched || !matches!(dims.first(), Some(Dim::Known(_)) | None);
            let may_be_given =
                info.shape.as_ref().is_some_and(has_rows) && matches!(carried(info), Ok(Some(_)));
            if info.has_default && !may_be_given {
                tracing::info!(
                    model = config.name,
                    input = info.name,
                    "clients cannot give this input; it has its default"
                );
                continue;
            }
            let input =
                ModelInput { name: info.name.clone(), optional: info.has_default, ..ModelInput::default() };
            config.input.push(input);
        }
    }
    if config.output.is_empty() {
        for info in model.outputs().iter().filter(|info| !kept.outputs.contains(&info.name)) {
            if let Err(error) = carried(info) {
                tracing::warn!(model = config.name, output = info.name, "this output is not served: {error}");
                continue;
            }
            config.output.push(ModelOutput { name: info.name.clone(), ..ModelOutput::default() });
        }
        if config.output.is_empty() {
            return Err("the ONNX file has no output that a protocol carries".into());
        }
    }
    for input in &mut config.input {
        let Some(info) = find(model.inputs(), &input.name) else { continue };
        if input.optional && !info.has_default {
            return Err(format!(
                "input '{}' is optional in the configuration, and the ONNX file has no value for it; give it an initializer, or \
                 leave 'optional' out",
                input.name
            ));
        }
        let given = Given { name: &input.name, data_type: &mut input.data_type, dims: &mut input.dims };
        fit(Side::Input, given, info, batched)?;
    }
    for output in &mut config.output {
        let Some(info) = find(model.outputs(), &output.name) else { continue };
        let given = Given { name: &output.name, data_type: &mut output.data_type, dims: &mut output.dims };
        fit(Side::Output, given, info, batched)?;
    }
    Ok(joins)
}

/// Compares an input that the server fills with the ONNX file.
pub(super) fn compare_input(
    model: &Model,
    name: &str,
    data_type: DataType,
    batched: bool,
) -> Result<(), String> {
    known(Side::Input, [name], model)?;
    let Some(info) = find(model.inputs(), name) else { return Ok(()) };
    fit(Side::Input, Given { name, data_type: &mut data_type.into(), dims: &mut Vec::new() }, info, batched)
}

/// Compares an output that is an input of the next request with the ONNX file, and gives its dims. Completes its data type.
pub(super) fn compare_state(
    model: &Model,
    (input, output): (&str, &str),
    data_type: &mut i32,
    batched: bool,
) -> Result<Vec<i64>, String> {
    known(Side::Input, [input], model)?;
    known(Side::Output, [output], model)?;
    let (mut dims, mut made) = (Vec::new(), Vec::new());
    if let (Some(info), Some(made_info)) = (find(model.inputs(), input), find(model.outputs(), output)) {
        fit(Side::Input, Given { name: input, data_type, dims: &mut dims }, info, batched)?;
        fit(Side::Output, Given { name: output, data_type, dims: &mut made }, made_info, batched)?;
    }
    if !agree(&dims, &made) {
        return Err(format!(
            "output '{output}' is the state of input '{input}', and has the dims {made:?} in place of {dims:?}"
        ));
    }
    Ok(dims)
}

/// Whether dims are the same, but for those that each request chooses.
pub(super) fn agree(given: &[i64], other: &[i64]) -> bool {
    given.len() == other.len() && given.iter().zip(other).all(|(a, b)| a == b || *a == -1 || *b == -1)
}

/// The typed inputs of a complete configuration.
pub(super) fn inputs(config: &ModelConfig) -> Result<Vec<Port>, String> {
    let input = |input: &ModelInput| {
        let what = format!("input '{}'", input.name);
        Ok(Port {
            name: input.name.clone(),
            dtype: dtype(input.data_type, &what)?,
            dims: numbers::dims(&input.dims, &what)?,
            optional: input.optional,
            ragged: input.allow_ragged_batch,
            labels: Vec::new(),
        })
    };
    distinct(Side::Input, config.input.iter().map(|input| input.name.as_str()))?;
    config.input.iter().map(input).collect()
}

/// The typed outputs of a complete configuration, with their labels.
pub(super) fn outputs(config: &ModelConfig, files: &dyn Files) -> Result<Vec<Port>, String> {
    let output = |output: &ModelOutput| {
        let what = format!("output '{}'", output.name);
        Ok(Port {
            name: output.name.clone(),
            dtype: dtype(output.data_type, &what)?,
            dims: numbers::dims(&output.dims, &what)?,
            optional: false,
            ragged: false,
            labels: labels(&output.label_filename, files).map_err(|text| format!("{what}: {text}"))?,
        })
    };
    distinct(Side::Output, config.output.iter().map(|output| output.name.as_str()))?;
    config.output.iter().map(output).collect()
}

/// The dtype that the configuration names.
pub(super) fn dtype(data_type: i32, what: &str) -> Result<DType, String> {
    let unknown = || format!("{what} has no data_type; write one such as TYPE_FP32");
    let data_type = DataType::try_from(data_type).map_err(|_| unknown())?;
    let name = data_type.as_str_name().trim_start_matches("TYPE_");
    datatype::parse(if data_type == DataType::TypeString { "BYTES" } else { name }).ok_or_else(unknown)
}

/// What the configuration calls a dtype.
fn data_type(dtype: DType) -> Option<DataType> {
    match dtype {
        DType::String => Some(DataType::TypeString),
        dtype => DataType::from_str_name(&format!("TYPE_{}", datatype::name(dtype)?)),
    }
}

fn labels(name: &str, files: &dyn Files) -> Result<Vec<String>, String> {
    if name.is_empty() {
        return Ok(Vec::new());
    }
    let bytes = files.read(name).map_err(|failure| failure.text)?;
    let bytes = bytes
        .ok_or_else(|| format!("label_filename names '{name}', and the model's folder has no such file"))?;
    if bytes.len() > LONGEST_LABELS {
        return Err(format!("the labels in '{name}' have more than {LONGEST_LABELS} bytes"));
    }
    let text =
        std::str::from_utf8(&bytes).map_err(|_| format!("the labels in '{name}' are no UTF-8 text"))?;
    Ok(text.lines().map(|line| line.trim_end().to_string()).collect())
}

fn distinct<'a>(side: Side, names: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut seen = HashSet::new();
    for name in names {
        if name.is_empty() {
            return Err(format!("an {} of the configuration has no name", side.name()));
        }
        if !seen.insert(name) {
            return Err(format!("the configuration has {} '{name}' twice", side.name()));
        }
    }
    Ok(())
}

fn find<'a>(infos: &'a [ValueInfo], name: &str) -> Option<&'a ValueInfo> {
    infos.iter().find(|info| info.name == name)
}

fn known<S: AsRef<str>>(side: Side, names: impl IntoIterator<Item = S>, model: &Model) -> Result<(), String> {
    let infos = match side {
        Side::Input => model.inputs(),
        Side::Output => model.outputs(),
    };
    for name in names {
        let name = name.as_ref();
        if find(infos, name).is_none() {
            let listed: Vec<_> = infos.iter().map(|info| format!("'{}'", info.name)).collect();
            let side = side.name();
            return Err(format!(
                "the configuration names {side} '{name}', and the ONNX file has {}",
                listed.join(", ")
            ));
        }
    }
    Ok(())
}

/// Whether the configuration gives an input or output all dims of the ONNX file, so that none is left for a batch.
fn gives_all_dims(config: &ModelConfig, model: &Model) -> bool {
    let all = |infos: &[ValueInfo], name: &str, dims: &[i64]| {
        let shape = find(infos, name).and_then(|info| info.shape.as_ref());
        !dims.is_empty() && shape.is_some_and(|shape| shape.len() == dims.len())
    };
    config.input.iter().any(|input| all(model.inputs(), &input.name, &input.dims))
        || config.output.iter().any(|output| all(model.outputs(), &output.name, &output.dims))
}

/// Whether all inputs and outputs have one first dimension that a run chooses, and that is no other dimension of them: then their
/// rows can be those of several requests.
fn has_batch(inputs: &[&ValueInfo], outputs: &[&ValueInfo]) -> bool {
    let batch = inputs.first().and_then(|info| info.shape.as_ref()?.first());
    let Some(batch @ (Dim::Symbol(_) | Dim::Unknown)) = batch else { return false };
    let named_otherwise = match batch {
        Dim::Symbol(name) => NO_BATCH.iter().any(|part| name.to_ascii_lowercase().contains(part)),
        _ => false,
    };
    let rows = |info: &&ValueInfo| match info.shape.as_deref().and_then(<[Dim]>::split_first) {
        Some((first, inner)) => first == batch && (*batch == Dim::Unknown || !inner.contains(batch)),
        None => false,
    };
    !named_otherwise && !outputs.is_empty() && inputs.iter().chain(outputs).all(rows)
}

/// What a protocol calls the elements of an input or output; an error if it cannot carry them.
fn carried(info: &ValueInfo) -> Result<Option<DataType>, String> {
    if let Some(container) = &info.container {
        return Err(format!("it is {container}, and protocols carry tensors only"));
    }
    match info.dtype {
        Some(dtype) => match data_type(dtype) {
            Some(data_type) => Ok(Some(data_type)),
            None => Err(format!("no protocol carries elements of {dtype}")),
        },
        None => Ok(None),
    }
}

/// Takes from the ONNX file what the configuration does not say, and refuses what contradicts it.
fn fit(side: Side, given: Given, info: &ValueInfo, batched: bool) -> Result<(), String> {
    let what = format!("{} '{}'", side.name(), given.name);
    let declared = carried(info).map_err(|text| format!("{what} cannot be served: {text}"))?;
    match (DataType::try_from(*given.data_type), declared) {
        (Ok(DataType::TypeInvalid), Some(declared)) => *given.data_type = declared.into(),
        (Ok(data_type), Some(declared)) if data_type != declared => {
            return Err(format!(
                "{what} is {} in the configuration and {} in the ONNX file",
                data_type.as_str_name(),
                declared.as_str_name()
            ));
        }
        (Ok(DataType::TypeInvalid), None) => {
            return Err(format!(
                "the ONNX file does not say the dtype of {what}; write its data_type into the configuration"
            ));
        }
        _ => {}
    }
    let dims = numbers::dims(given.dims, &what)?;
    let Some(shape) = info.shape.as_deref() else {
        if dims.is_empty() {
            let text = format!(
                "the ONNX file does not say the shape of {what}; write its dims into the configuration"
            );
            return Err(text);
        }
        return Ok(());
    };
    let inner = match (batched, shape.split_first()) {
        (false, _) => shape,
        (true, Some((Dim::Symbol(_) | Dim::Unknown, inner))) => inner,
        (true, Some((Dim::Known(size), _))) => {
            return Err(format!(
                "max_batch_size is not 0, and {what} of the ONNX file has {size} as its first dimension ({info}): no requests \
                 can be joined; set max_batch_size to 0, or export the model with a first dimension that has a name"
            ));
        }
        (true, None) => {
            return Err(format!(
                "max_batch_size is not 0, and {what} of the ONNX file has no dimension for a batch ({info})"
            ));
        }
    };
    if given.dims.is_empty() {
        *given.dims =
            inner.iter().map(size).collect::<Result<_, _>>().map_err(|text| format!("{what}: {text}"))?;
        return Ok(());
    }
    let fits = |(dim, declared): (&Option<usize>, &Dim)| match declared {
        Dim::Known(size) => *dim == Some(*size),
        _ => true,
    };
    if dims.len() != inner.len() || !dims.iter().zip(inner).all(fits) {
        let batch = if batched { ", of which the first is the batch and none of the dims" } else { "" };
        return Err(format!(
            "{what} has the dims {:?} in the configuration, and the ONNX file has {info}{batch}",
            given.dims
        ));
    }
    Ok(())
}

fn size(dim: &Dim) -> Result<i64, String> {
    match dim {
        Dim::Known(size) => {
            i64::try_from(*size).map_err(|_| format!("the ONNX file has a dimension of {size} elements"))
        }
        _ => Ok(-1),
    }
}
