//! Sequences of a configuration.

use std::time::Duration;

use sardonyx::{DType, Model};

use super::ports::{self, Kept};
use super::{Batching, Control, ControlKind, Files, Sequencing, State, instances, numbers, scheduling};
use crate::proto::model_config::SchedulingChoice;
use crate::proto::model_sequence_batching as proto;
use crate::proto::{DataType, ModelConfig, ModelSequenceBatching};

/// How long a sequence may be silent, where the configuration does not say: Triton's default.
const IDLE: Duration = Duration::from_secs(1);

/// The sequences with state at most.
const MAX_SEQUENCES: usize = 1 << 20;

/// The bytes of a state's first value at most.
const MAX_INITIAL: usize = 1 << 28;

/// The inputs and outputs that the server fills and keeps.
pub(super) fn kept(config: &ModelConfig) -> Kept {
    let Some(SchedulingChoice::SequenceBatching(given)) = &config.scheduling_choice else {
        return Kept::default();
    };
    let controls = given.control_input.iter().map(|control| control.name.clone());
    let states = given.state.iter().map(|state| state.input_name.clone());
    Kept {
        inputs: controls.chain(states).collect(),
        outputs: given.state.iter().map(|state| state.output_name.clone()).collect(),
    }
}

/// Compares controls and states with the ONNX file, and takes dtypes and dims from it that the configuration does not say.
pub(super) fn complete(config: &mut ModelConfig, model: &Model) -> Result<(), String> {
    let batched = config.max_batch_size > 0;
    let Some(SchedulingChoice::SequenceBatching(given)) = &mut config.scheduling_choice else {
        return Ok(());
    };
    for input in &mut given.control_input {
        for control in &mut input.control {
            let data_type = control_type(control)?;
            ports::compare_input(model, &input.name, data_type, batched)?;
        }
    }
    for state in &mut given.state {
        let names = (state.input_name.as_str(), state.output_name.as_str());
        let dims = ports::compare_state(model, names, &mut state.data_type, batched)?;
        if state.dims.is_empty() {
            state.dims = dims;
        } else if !ports::agree(&state.dims, &dims) {
            return Err(format!(
                "the state of input '{}' has the dims {:?}, and the ONNX file has {dims:?}",
                state.input_name, state.dims
            ));
        }
    }
    Ok(())
}

/// The typed sequences of a complete configuration.
pub(super) fn sequencing(
    config: &ModelConfig,
    given: &ModelSequenceBatching,
    pad: bool,
    files: &dyn Files,
) -> Result<Sequencing, String> {
    if given.iterative_sequence {
        return Err("sequence_batching.iterative_sequence is not served".into());
    }
    if let Some(input) = config.input.iter().find(|input| kept(config).inputs.contains(&input.name)) {
        return Err(format!(
            "input '{}' is filled by the server, as sequence_batching says; leave it out of the inputs that clients give",
            input.name
        ));
    }
    let instances: usize = instances::groups(config)?.iter().map(|group| group.count).sum();
    let (slots, batching) = match &given.strategy_choice {
        Some(proto::StrategyChoice::Oldest(oldest)) => {
            let most = "sequence_batching.oldest.max_candidate_sequences";
            let slots = numbers::within(oldest.max_candidate_sequences, 0, MAX_SEQUENCES, most)?;
            let batching = Batching {
                preferred: scheduling::preferred(config, &oldest.preferred_batch_size)?,
                delay: numbers::time(oldest.max_queue_delay_microseconds, "max_queue_delay_microseconds")?,
                keep_order: oldest.preserve_ordering,
                pad,
                ..Batching::default()
            };
            (slots, batching)
        }
        Some(proto::StrategyChoice::Direct(direct)) => {
            if !(0.0..=1.0).contains(&direct.minimum_slot_utilization) {
                return Err("sequence_batching.direct.minimum_slot_utilization is not between 0 and 1".into());
            }
            let delay = numbers::time(direct.max_queue_delay_microseconds, "max_queue_delay_microseconds")?;
            (0, Batching { delay, pad, ..Batching::default() })
        }
        None => (0, Batching { pad, ..Batching::default() }),
    };
    // A strategy that names no number has a slot for each row of a batch.
    let slots = if slots == 0 { usize::try_from(config.max_batch_size).unwrap_or(0).max(1) } else { slots };
    let controls = given.control_input.iter().flat_map(|input| {
        let of = move |of: &proto::Control| control(&input.name, of);
        input.control.iter().map(of)
    });
    let idle = numbers::time(given.max_sequence_idle_microseconds, "max_sequence_idle_microseconds")?;
    Ok(Sequencing {
        idle: if idle.is_zero() { IDLE } else { idle },
        controls: controls.collect::<Result<_, _>>()?,
        states: given.state.iter().map(|of| state(of, files)).collect::<Result<_, _>>()?,
        max_sequences: slots.saturating_mul(instances.max(1)).min(MAX_SEQUENCES),
        batching,
    })
}

/// The type of the elements that a control has.
fn control_type(control: &proto::Control) -> Result<DataType, String> {
    let given = [
        (DataType::TypeInt32, control.int32_false_true.len()),
        (DataType::TypeFp32, control.fp32_false_true.len()),
        (DataType::TypeBool, control.bool_false_true.len()),
    ];
    let mut given = given.into_iter().filter(|(_, count)| *count > 0);
    let is_id = control.kind == i32::from(proto::control::Kind::ControlSequenceCorrid);
    match (given.next(), given.next()) {
        (None, _) if is_id => {
            let data_type = DataType::try_from(control.data_type).ok().filter(|of| *of != DataType::TypeInvalid);
            data_type.ok_or_else(|| "CONTROL_SEQUENCE_CORRID needs a data_type such as TYPE_UINT64".to_string())
        }
        (Some((data_type, 2)), None) if !is_id => Ok(data_type),
        _ if is_id => Err("CONTROL_SEQUENCE_CORRID has a data_type, and no values for false and true".into()),
        _ => Err("a control needs two values, for false and true: one of int32_false_true, fp32_false_true, bool_false_true".into()),
    }
}

fn control(input: &str, given: &proto::Control) -> Result<Control, String> {
    let what = |text: String| format!("control input '{input}': {text}");
    let kind = match proto::control::Kind::try_from(given.kind) {
        Ok(proto::control::Kind::ControlSequenceStart) => ControlKind::Start,
        Ok(proto::control::Kind::ControlSequenceReady) => ControlKind::Ready,
        Ok(proto::control::Kind::ControlSequenceEnd) => ControlKind::End,
        Ok(proto::control::Kind::ControlSequenceCorrid) => ControlKind::Id,
        Err(_) => return Err(what(format!("the kind {} is unknown", given.kind))),
    };
    let dtype = ports::dtype(control_type(given).map_err(what)?.into(), &format!("control input '{input}'"))?;
    let is_number = matches!(dtype, DType::U32 | DType::U64 | DType::I32 | DType::I64 | DType::String);
    if kind == ControlKind::Id && !is_number {
        return Err(what(
            "CONTROL_SEQUENCE_CORRID is TYPE_UINT32, TYPE_UINT64, TYPE_INT32, TYPE_INT64 or TYPE_STRING"
                .into(),
        ));
    }
    let no_yes: Vec<f64> = match dtype {
        DType::I32 => given.int32_false_true.iter().map(|&value| value.into()).collect(),
        DType::F32 => given.fp32_false_true.iter().map(|&value| value.into()).collect(),
        _ => given.bool_false_true.iter().map(|&value| f64::from(u8::from(value))).collect(),
    };
    let no_yes = <[f64; 2]>::try_from(no_yes).unwrap_or([0.0, 1.0]);
    Ok(Control { input: input.to_string(), dtype, kind, no_yes })
}

fn state(given: &proto::State, files: &dyn Files) -> Result<State, String> {
    let what = format!("the state of input '{}'", given.input_name);
    let dtype = ports::dtype(given.data_type, &what)?;
    if dtype == DType::String {
        return Err(format!("{what} has texts; states have numbers"));
    }
    let dims = numbers::dims(&given.dims, &what)?;
    let initial = match given.initial_state.as_slice() {
        [] => None,
        [initial] => {
            Some(first_value(initial, given, dtype, files).map_err(|text| format!("{what}: {text}"))?)
        }
        _ => return Err(format!("{what} has more than one initial_state")),
    };
    if initial.is_none() && dims.contains(&None) {
        return Err(format!(
            "{what} has the dims {:?}; give it an initial_state whose dims have sizes",
            given.dims
        ));
    }
    Ok(State { input: given.input_name.clone(), output: given.output_name.clone(), dtype, dims, initial })
}

fn first_value(
    initial: &proto::InitialState,
    state: &proto::State,
    dtype: DType,
    files: &dyn Files,
) -> Result<(Vec<usize>, Vec<u8>), String> {
    if initial.data_type != 0 && initial.data_type != state.data_type {
        return Err("initial_state has another data_type".into());
    }
    let (sizes, count) = numbers::sizes(&initial.dims, MAX_INITIAL, "initial_state")?;
    if !ports::agree(&state.dims, &initial.dims) {
        return Err(format!("initial_state has the dims {:?}, and the state {:?}", initial.dims, state.dims));
    }
    let bytes = dtype.bytes_of(count).filter(|bytes| *bytes <= MAX_INITIAL);
    let bytes = bytes.ok_or_else(|| format!("initial_state has more than {MAX_INITIAL} bytes"))?;
    match &initial.state_data {
        Some(proto::initial_state::StateData::DataFile(name)) => {
            let path = format!("initial_state/{name}");
            let data = files.read(&path).map_err(|failure| failure.text)?;
            let data = data.ok_or_else(|| format!("the model's folder has no file '{path}'"))?;
            if data.len() != bytes {
                return Err(format!(
                    "'{path}' has {} bytes; {:?} elements of {dtype} have {bytes}",
                    data.len(),
                    initial.dims
                ));
            }
            Ok((sizes, data.to_vec()))
        }
        _ => Ok((sizes, vec![0; bytes])),
    }
}
