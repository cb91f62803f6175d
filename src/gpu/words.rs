//! The bytes of a tensor on the device, as `Storage` says. float16 and bfloat16 elements lie as on the host; every other
//! element is a 32-bit word: floats as f32, integers as i32 or u32, bool as 0 or 1. A 64-bit integer that does not fit 32 bits
//! is an error, never a wrap.

use std::borrow::Cow;

use bytemuck::pod_collect_to_vec;
use bytes::Bytes;

use crate::array::{Array, Numbers, strides};
use crate::error::{Why, refuse};
use crate::kernels::expr::Scalar;
use crate::plan::{PackedDim, Packing};
use crate::tensor::into_bytes;
use crate::{DType, Element, Tensor};

/// Whether elements lie on the device as on the host.
fn is_kept(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::I32 | DType::U32 | DType::F16 | DType::BF16)
}

/// The bytes on the device of a tensor on the host.
pub(crate) fn to_device(tensor: &Tensor) -> Result<Cow<'_, [u8]>, Why> {
    if is_kept(tensor.dtype()) {
        return Ok(Cow::Borrowed(tensor.bytes()));
    }
    Ok(Cow::Owned(pod_collect_to_vec(&to_words(tensor)?)))
}

fn to_words(tensor: &Tensor) -> Result<Vec<u32>, Why> {
    fn all<T: bytemuck::Pod>(bytes: &[u8], to: impl Fn(T) -> u32) -> Vec<u32> {
        pod_collect_to_vec::<u8, T>(bytes).into_iter().map(to).collect()
    }
    let bytes = tensor.bytes();
    Ok(match tensor.dtype() {
        DType::I8 => bytes.iter().map(|&v| v as i8 as i32 as u32).collect(),
        DType::U8 => bytes.iter().map(|&v| v.into()).collect(),
        DType::Bool => bytes.iter().map(|&v| (v != 0).into()).collect(),
        DType::I16 => all::<i16>(bytes, |v| i32::from(v) as u32),
        DType::U16 => all::<u16>(bytes, u32::from),
        DType::I64 => {
            let values: Vec<i64> = pod_collect_to_vec(bytes);
            let words = values.iter().map(|&v| i32::try_from(v).map(|v| v as u32).map_err(|_| too_wide(v)));
            words.collect::<Result<_, _>>()?
        }
        DType::U64 => {
            let values: Vec<u64> = pod_collect_to_vec(bytes);
            values.iter().map(|&v| u32::try_from(v).map_err(|_| too_wide(v))).collect::<Result<_, _>>()?
        }
        small if Scalar::of(small).is_some() => match Array::from_tensor(tensor)?.data {
            Numbers::Float(v) => v.into_iter().map(|v| (v as f32).to_bits()).collect(),
            Numbers::Int(v) => v.into_iter().map(|v| v as i32 as u32).collect(),
            Numbers::Text(_) => refuse!("the device has no strings"),
        },
        other => refuse!("the device does not compute with {other}"),
    })
}

fn too_wide(value: impl std::fmt::Display) -> Why {
    Why(format!(
        "{value} does not fit the 32 bits that the device computes with; run it on the CPU reference"
    ))
}

/// The elements of these bytes, which mapped memory has at an aligned address: then nothing is zeroed first.
fn copied<T: bytemuck::Pod>(bytes: &[u8]) -> Vec<T> {
    bytemuck::try_cast_slice(bytes).map_or_else(|_| pod_collect_to_vec(bytes), <[T]>::to_vec)
}

/// The tensor on the host of bytes on the device.
pub(crate) fn from_device(bytes: &[u8], dtype: DType, shape: &[usize]) -> Result<Tensor, Why> {
    fn all<T: Element>(bytes: &[u8], to: impl Fn(u32) -> T) -> Bytes {
        into_bytes(pod_collect_to_vec::<u8, u32>(bytes).into_iter().map(to).collect())
    }
    let raw = match dtype {
        DType::F32 | DType::I32 | DType::U32 => into_bytes(copied::<u32>(bytes)),
        DType::F16 | DType::BF16 => into_bytes(copied::<u16>(bytes)),
        DType::I8 | DType::U8 => all(bytes, |v| v as u8),
        DType::Bool => all(bytes, |v| u8::from(v != 0)),
        DType::I16 | DType::U16 => all(bytes, |v| v as u16),
        DType::I64 => all(bytes, |v| i64::from(v as i32)),
        DType::U64 => all(bytes, u64::from),
        small if small.is_int() => {
            let words: Vec<i32> = pod_collect_to_vec(bytes);
            return Array::int(dtype, shape, words.into_iter().map(i128::from).collect()).to_tensor();
        }
        small if Scalar::of(small).is_some() => {
            let words: Vec<f32> = pod_collect_to_vec(bytes);
            return Array::float(dtype, shape, words.into_iter().map(f64::from).collect()).to_tensor();
        }
        other => refuse!("the device does not compute with {other}"),
    };
    Tensor::from_raw(dtype, shape, raw).map_err(|error| Why(error.to_string()))
}

/// Gives `sink` the elements on the device, of `bits` bits each, in the order of `packing`; padding is 0.
pub(crate) fn packed(bytes: &[u8], bits: u64, packing: &Packing, sink: impl FnOnce(&[u8])) {
    match bits {
        16 => sink(bytemuck::cast_slice(&pack::<u16>(&pod_collect_to_vec(bytes), packing))),
        _ => sink(bytemuck::cast_slice(&pack::<u32>(&pod_collect_to_vec(bytes), packing))),
    }
}

fn pack<E: Copy + Default>(elements: &[E], packing: &Packing) -> Vec<E> {
    let mut at = packing.start.clone();
    at.resize(packing.source.len(), 0);
    let mut packed = vec![E::default(); packing.count()];
    let source = Unpacked { elements, shape: &packing.source, strides: &strides(&packing.source) };
    source.pack(&packing.dims, &mut at, &mut packed);
    packed
}

/// A constant before it is packed.
struct Unpacked<'a, E> {
    elements: &'a [E],
    shape: &'a [usize],
    strides: &'a [usize],
}

impl<E: Copy + Default> Unpacked<'_, E> {
    /// The index of the element at these coordinates, if they are inside; the axis `along` is not checked.
    fn first(&self, at: &[usize], along: Option<usize>) -> Option<usize> {
        let inside = |axis: usize| Some(axis) == along || at[axis] < self.shape[axis];
        let place = || at.iter().zip(self.strides).map(|(at, stride)| at * stride).sum();
        (0..at.len()).all(inside).then(place)
    }

    /// Fills `packed`, which is zero before, with the elements that `dims` name, starting at the coordinates `at`. Weights
    /// have millions of elements, so the last dimension is a plain loop.
    fn pack(&self, dims: &[PackedDim], at: &mut [usize], packed: &mut [E]) {
        match dims {
            [] => {
                if let (Some(first), Some(to)) = (self.first(at, None), packed.first_mut()) {
                    *to = self.elements.get(first).copied().unwrap_or_default();
                }
            }
            [last] => {
                if let Some(first) = self.first(at, Some(last.axis)) {
                    let room = self.shape[last.axis].saturating_sub(at[last.axis]).div_ceil(last.step.max(1));
                    let step = (last.step * self.strides[last.axis]).max(1);
                    let elements = self.elements.iter().skip(first).step_by(step);
                    packed.iter_mut().zip(elements).take(room).for_each(|(to, from)| *to = *from);
                }
            }
            [first, rest @ ..] => {
                let start = at[first.axis];
                for part in packed.chunks_exact_mut((packed.len() / first.size.max(1)).max(1)) {
                    self.pack(rest, at, part);
                    at[first.axis] += first.step;
                }
                at[first.axis] = start;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::Storage;

    #[test]
    fn wide_integers_are_refused() {
        let tensor = Tensor::from_slice(&[1], &[1i64 << 40]).unwrap();
        assert!(to_device(&tensor).unwrap_err().0.contains("1099511627776 does not fit"));
    }

    proptest! {
        #[test]
        fn packs_what_the_definition_says(
            source in prop::collection::vec(1usize..6, 1..4),
            dims in prop::collection::vec((any::<usize>(), 0usize..5, 1usize..4), 0..6),
            start in any::<bool>(),
        ) {
            let of = |(axis, size, step)| PackedDim { axis: axis % source.len(), size, step };
            let start = if start { vec![1; source.len()] } else { vec![] };
            let packing = Packing { source: source.clone(), start, dims: dims.into_iter().map(of).collect() };
            let words: Vec<u32> = (1..=source.iter().product::<usize>() as u32).collect();
            let expected: Vec<u32> =
                packing.sources().map(|source| source.map_or(0, |i| words[i])).collect();
            prop_assert_eq!(pack(&words, &packing), expected);
        }
    }

    #[test]
    fn tensors_round_trip() {
        for tensor in [
            Tensor::from_slice(&[2], &[-1i64, 7]).unwrap(),
            Tensor::from_slice(&[2], &[-1i8, 7]).unwrap(),
            Tensor::from_slice(&[3], &[half::f16::from_f32(0.1), half::f16::NEG_INFINITY, half::f16::ONE])
                .unwrap(),
            Tensor::from_bools(&[2], &[true, false]).unwrap(),
            Tensor::from_slice(&[2], &[u32::MAX, 7]).unwrap(),
            Tensor::from_raw(DType::I4, &[3], vec![0x7f, 0x08]).unwrap(),
            Tensor::from_raw(DType::U2, &[5], vec![0b11100100, 0b10]).unwrap(),
            Tensor::from_raw(DType::F8E4M3FNUZ, &[3], vec![0x80, 0x7f, 0xff]).unwrap(),
            Tensor::from_raw(DType::F8E8M0, &[3], vec![0, 254, 255]).unwrap(),
        ] {
            let bytes = to_device(&tensor).unwrap();
            let storage = Storage::of(tensor.dtype()).unwrap();
            assert_eq!(bytes.len() as u64, storage.filled(tensor.len()));
            let back = from_device(&bytes, tensor.dtype(), tensor.shape()).unwrap();
            assert_eq!(back, tensor);
        }
    }
}
