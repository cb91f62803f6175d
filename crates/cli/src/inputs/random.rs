//! Random inputs.

use std::collections::BTreeMap;

use sardonyx::{DType, Known, Tensor, ValueInfo};

use super::Origin;
use crate::{Failure, numpy};

/// The most elements of all random inputs together. They take 1 GiB as float32, and the reference computes with two to four
/// times as much. Larger inputs must come from a file.
const MOST: usize = 1 << 28;

/// The number of elements as which one string counts.
const TEXT: usize = 16;

/// Inputs of fewer elements are drawn before it is known whether the model takes their shapes, since values may decide shapes.
const SMALL: usize = 1 << 12;

/// Refuses inputs that are too large to be random.
pub(super) fn check_size(inputs: &[&ValueInfo], shapes: &[Vec<usize>]) -> Result<(), Failure> {
    let mut left = MOST;
    for (info, shape) in inputs.iter().zip(shapes) {
        let each = if info.dtype == Some(DType::String) { TEXT } else { 1 };
        let cost = numpy::count(shape).and_then(|count| count.checked_mul(each));
        left = cost.and_then(|cost| left.checked_sub(cost)).ok_or_else(|| {
            let limit = match each {
                1 => format!("{MOST} elements"),
                _ => format!("{} strings", MOST / TEXT),
            };
            format!(
                "input {info}: shape {shape:?} is too large for random values: all inputs together may have {limit}; \
                 say a smaller --shape, or give the input in a file (--inputs, -i)"
            )
        })?;
    }
    Ok(())
}

/// What planning is told of an input that will be random: its values where they are few, and otherwise its shape.
pub(super) fn known(info: &ValueInfo, shape: &[usize], source: &Source) -> Result<Known, Failure> {
    match info.dtype {
        Some(dtype)
            if info.container.is_none()
                && dtype != DType::String
                && numpy::count(shape).is_none_or(|count| count > SMALL) =>
        {
            Ok(Known::from(shape))
        }
        _ => Ok(Known::from(&random(info, shape, source)?.0)),
    }
}

/// Elements that are drawn at once, as float64 takes more memory than most types. The number makes whole bytes of the
/// narrowest types.
const PIECE: usize = 1 << 16;

/// What random values follow from.
pub(super) struct Source {
    pub(super) seed: u64,
    /// The numbers of places in the tables that inputs pick from.
    pub(super) bounds: BTreeMap<String, usize>,
}

/// Values that most models accept: floats in -1..1, ids below what the model's tables have, ones in masks, bytes of any value, and
/// otherwise integers 0 or 1, which may be lengths. Also what they are, in a word.
pub(super) fn random(
    info: &ValueInfo,
    shape: &[usize],
    source: &Source,
) -> Result<(Tensor, Origin), Failure> {
    if info.container.is_some() {
        return Err(format!(
            "input {info} is no tensor, and cannot be random; give it as -i '{}=F.pb', a protobuf message as the onnx package and \
             `Datum::to_onnx` write it",
            sardonyx::shown(&info.name)
        )
        .into());
    }
    let Some(dtype) = info.dtype else {
        return Err(format!("input {info} is no tensor, and cannot be random").into());
    };
    let count = numpy::count(shape).unwrap_or(0);
    let failed = |why: &dyn std::fmt::Display| format!("input {info}: {why}");
    if dtype == DType::String {
        drop(numpy::reserved::<u8>(count.saturating_mul(numpy::TEXT_BYTES)).map_err(|why| failed(&why))?);
        return Ok((Tensor::from_strings(shape, vec!["a".into(); count])?, Origin::Made("the letter a")));
    }
    let mut state =
        info.name.bytes().fold(source.seed, |state, byte| state.wrapping_mul(31) ^ u64::from(byte));
    let bytes = numpy::reserved(dtype.bytes_of(count).unwrap_or(0));
    let mut bytes = bytes.map_err(|why| failed(&why))?;
    let mask = is_mask(info);
    // Tables of one place leave no choice, and those of none can be read nowhere.
    let below = source.bounds.get(&info.name).map_or(2, |&bound| (bound as u64).max(1));
    for start in (0..count).step_by(PIECE) {
        let piece = PIECE.min(count - start);
        let drawn = if mask { ones(dtype, piece) } else { draw(dtype, piece, below, &mut state) };
        bytes.extend_from_slice(drawn.map_err(|why| failed(&why))?.bytes());
    }
    let made = match (count, mask) {
        (0, _) => "no elements",
        (_, true) => "ones",
        _ => "random",
    };
    Ok((Tensor::from_raw(dtype, shape, bytes)?, Origin::Made(made)))
}

/// A mask of integers or bools says which positions count: all of them. A mask of floats may be added to something.
fn is_mask(info: &ValueInfo) -> bool {
    info.name.to_lowercase().contains("mask") && info.dtype.is_some_and(|dtype| !dtype.is_float())
}

fn ones(dtype: DType, count: usize) -> sardonyx::Result<Tensor> {
    Tensor::from_slice(&[count], &vec![1u8; count])?.cast(dtype)
}

fn draw(dtype: DType, count: usize, below: u64, state: &mut u64) -> sardonyx::Result<Tensor> {
    let mut next = || splitmix(state);
    let drawn = match dtype {
        DType::U8 | DType::I8 if below == 2 => {
            return Tensor::from_raw(dtype, &[count], (0..count).map(|_| next() as u8).collect::<Vec<_>>());
        }
        _ if dtype.is_float() => {
            let unit = |bits: u64| (bits >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
            Tensor::from_slice(&[count], &(0..count).map(|_| unit(next())).collect::<Vec<_>>())?
        }
        _ => Tensor::from_slice(&[count], &(0..count).map(|_| next() % below).collect::<Vec<_>>())?,
    };
    drawn.cast(dtype)
}

/// The next number of SplitMix64.
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
