//! The bytes of a tensor on the device, as `Storage` says. Integers of 2, 4, 8, 16 and 32 bits and floats of 4, 8, 16, 32 and 64 lie as
//! on the host, bool as 0 or 1, and floats of 6 bits in a byte each. Integers of 64 bits are i32 or u32 words: one that does not fit is
//! an error, never a wrap. Plans of [`Integers::Bits64`] hold these as on the host.

use std::borrow::Cow;

use bytes::Bytes;

use crate::array::strides;
use crate::error::Why;
use crate::heap;
use crate::kernels::expr::Integers;
use crate::kernels::{Access, Storage, winograd};
use crate::plan::{PackedDim, Packing};
use crate::shape::product;
use crate::small;
use crate::tensor::into_bytes;
use crate::{DType, Element, Tensor};

/// Whether elements lie on the device as on the host.
fn is_kept(dtype: DType, integers: Integers) -> bool {
    integers.storage(dtype).is_some_and(|storage| storage.bits() == dtype.bits() as u64)
}

/// Whether `count` elements end with a word, as what is copied on the device must.
pub(super) fn end_with_word(storage: Storage, count: usize) -> bool {
    let bytes = storage.offset(count);
    bytes.is_multiple_of(wgpu::COPY_BUFFER_ALIGNMENT) && bytes == storage.filled(count)
}

/// A vector of these `count` items. A host without memory for it is an error.
fn collected<T>(count: usize, items: impl IntoIterator<Item = T>) -> Result<Vec<T>, Why> {
    let mut all = reserved(count)?;
    all.extend(items.into_iter().take(count));
    Ok(all)
}

fn reserved<T>(count: usize) -> Result<Vec<T>, Why> {
    Ok(heap::reserved("elements on the host", count)?)
}

/// The elements of these bytes, at any address.
fn elements<T: bytemuck::Pod>(bytes: &[u8]) -> impl Iterator<Item = T> + '_ {
    bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned)
}

/// The bytes on the device of a tensor on the host.
pub(crate) fn to_device(tensor: &Tensor, integers: Integers) -> Result<Cow<'_, [u8]>, Why> {
    let bytes = tensor.bytes();
    if tensor.dtype() == DType::Bool && bytes.iter().any(|&byte| byte > 1) {
        return Ok(Cow::Owned(collected(bytes.len(), bytes.iter().map(|&byte| (byte != 0).into()))?));
    }
    if is_kept(tensor.dtype(), integers) {
        return Ok(Cow::Borrowed(bytes));
    }
    if tensor.dtype().bits() < 8 {
        heap::ask("elements on the host", tensor.len() as u64)?;
        return Ok(Cow::Owned(small::unpack(bytes, tensor.dtype().bits(), tensor.len())));
    }
    let words = to_words(tensor)?;
    Ok(Cow::Owned(copied(bytemuck::cast_slice(&words))?))
}

/// The bytes on the device of a constant in this storage.
pub(crate) fn stored(tensor: &Tensor, storage: Storage) -> Result<Cow<'_, [u8]>, Why> {
    let integers = if storage == Storage::Wide { Integers::Bits64 } else { Integers::Bits32 };
    to_device(tensor, integers)
}

fn to_words(tensor: &Tensor) -> Result<Vec<u32>, Why> {
    fn narrow<T: bytemuck::Pod + std::fmt::Display>(
        bytes: &[u8],
        to: impl Fn(T) -> Option<u32>,
    ) -> Result<Vec<u32>, Why> {
        let mut words = reserved(bytes.len() / size_of::<T>())?;
        for value in elements::<T>(bytes) {
            words.push(to(value).ok_or_else(|| Why::too_wide(value))?);
        }
        Ok(words)
    }
    let bytes = tensor.bytes();
    match tensor.dtype() {
        DType::I64 => narrow::<i64>(bytes, |v| i32::try_from(v).ok().map(|v| v as u32)),
        DType::U64 => narrow::<u64>(bytes, |v| u32::try_from(v).ok()),
        other => Err(format!("the device does not compute with {other}").into()),
    }
}

/// The elements of these bytes, which mapped memory has at an aligned address: then one copy takes them.
fn copied<T: bytemuck::Pod>(bytes: &[u8]) -> Result<Vec<T>, Why> {
    match bytemuck::try_cast_slice(bytes) {
        Ok(elements) => {
            let mut all = reserved(elements.len())?;
            all.extend_from_slice(elements);
            Ok(all)
        }
        Err(_) => collected(bytes.len() / size_of::<T>(), elements(bytes)),
    }
}

/// A copy of these bytes where elements of type `T` lie aligned: as a vector of bytes, which `Bytes` can give back, since allocators align
/// these too.
fn aligned<T: bytemuck::Pod + Send + Sync>(bytes: &[u8]) -> Result<Bytes, Why> {
    let plain = copied::<u8>(bytes)?;
    match bytemuck::try_cast_slice::<u8, T>(&plain) {
        Ok(_) => Ok(plain.into()),
        Err(_) => Ok(into_bytes(copied::<T>(bytes)?)),
    }
}

/// The tensor on the host of bytes on the device.
pub(crate) fn from_device(
    bytes: &[u8],
    storage: Storage,
    dtype: DType,
    shape: &[usize],
) -> Result<Tensor, Why> {
    fn all<T: Element>(bytes: &[u8], to: impl Fn(u32) -> T) -> Result<Bytes, Why> {
        Ok(into_bytes(collected(bytes.len() / 4, elements(bytes).map(to))?))
    }
    let raw = match dtype {
        DType::Bool => collected(bytes.len(), bytes.iter().map(|&byte| u8::from(byte != 0)))?.into(),
        kept if storage.bits() == kept.bits() as u64 => match kept.bits() {
            ..=8 => {
                let mut bytes = copied::<u8>(bytes)?;
                // Nobody has written the last byte's other bits.
                let rest = product(shape) * kept.bits() % 8;
                if let (Some(last), 1..) = (bytes.last_mut(), rest) {
                    *last &= (1 << rest) - 1;
                }
                bytes.into()
            }
            16 => aligned::<u16>(bytes)?,
            64 => aligned::<u64>(bytes)?,
            _ => aligned::<u32>(bytes)?,
        },
        DType::I64 => all(bytes, |v| i64::from(v as i32))?,
        DType::U64 => all(bytes, u64::from)?,
        small if Storage::of(small).is_some_and(|storage| storage.bits() == 8) => {
            heap::ask("elements on the host", bytes.len() as u64)?;
            small::pack(bytes, dtype.bits()).into()
        }
        other => return Err(format!("the device does not compute with {other}").into()),
    };
    Ok(Tensor::from_raw(dtype, shape, raw)?)
}

/// The bytes of a packed constant that are made at a time.
const PART: usize = 1 << 20;

/// Gives `sink` the elements on the device, of `bits` bits each, in the order of `packing`, part by part; padding is 0.
pub(crate) fn packed(bytes: &[u8], bits: u64, packing: &Packing, sink: impl FnMut(&[u8])) -> Result<(), Why> {
    if packing.transformed {
        return pack_elements(&transformed(bytes, packing)?, packing, PART, sink);
    }
    match bits {
        ..8 => pack_codes(bytes, bits as usize, packing, PART, sink),
        8 => pack::<u8>(bytes, packing, PART, sink),
        16 => pack::<u16>(bytes, packing, PART, sink),
        64 => pack::<u64>(bytes, packing, PART, sink),
        _ => pack::<u32>(bytes, packing, PART, sink),
    }
}

/// Windows of float32 after Winograd's transform.
fn transformed(bytes: &[u8], packing: &Packing) -> Result<Vec<f32>, Why> {
    let mut transformed = collected(product(&packing.source), std::iter::repeat(0.0))?;
    if let &[_, channels, filters] = &packing.source[..] {
        let taps = bytes.as_chunks::<4>().0;
        winograd::weights(
            [filters, channels],
            |i| taps.get(i).map_or(0.0, |tap| f32::from_ne_bytes(*tap)),
            &mut transformed,
        );
    }
    Ok(transformed)
}

/// The same for elements that share bytes.
fn pack_codes(
    bytes: &[u8],
    bits: usize,
    packing: &Packing,
    part: usize,
    mut sink: impl FnMut(&[u8]),
) -> Result<(), Why> {
    let count = 8 * bytes.len() / bits;
    heap::ask("elements on the host", count as u64)?;
    let mut codes = reserved(part + 8)?;
    pack::<u8>(&small::unpack(bytes, bits, count), packing, part, |elements| {
        codes.extend_from_slice(elements);
        // A part may end within a byte.
        let whole = codes.len() - codes.len() % (8 / bits);
        sink(&small::pack(&codes[..whole], bits));
        codes.drain(..whole);
    })?;
    sink(&small::pack(&codes, bits));
    Ok(())
}

fn pack<E: bytemuck::Pod + Default>(
    bytes: &[u8],
    packing: &Packing,
    part: usize,
    sink: impl FnMut(&[u8]),
) -> Result<(), Why> {
    pack_elements(&copied::<E>(bytes)?, packing, part, sink)
}

fn pack_elements<E: bytemuck::Pod + Default>(
    elements: &[E],
    packing: &Packing,
    part: usize,
    mut sink: impl FnMut(&[u8]),
) -> Result<(), Why> {
    let mut at = packing.start.clone();
    at.resize(packing.source.len(), 0);
    let (shape, view) = (&packing.source, packing.view.as_ref());
    let (elements, strides, view) = match view.and_then(|view| affine(view, shape)) {
        Some((base, strides)) => (elements.get(base..).unwrap_or_default(), strides, None),
        None => (elements, strides(shape), view),
    };
    let source = Unpacked { elements, shape, strides: &strides, view };
    let part = (part / size_of::<E>()).max(1);
    let mut packed = reserved(part.min(packing.count()))?;
    source.parts(&packing.dims, &mut at, &mut packed, part, &mut |elements| {
        sink(bytemuck::cast_slice(elements))
    });
    Ok(())
}

/// The base and the stride of each axis of `shape`, if that is all which the view needs: an index then takes no division.
fn affine(view: &Access, shape: &[usize]) -> Option<(usize, Vec<usize>)> {
    let stride = |pieces: Vec<(usize, i64)>| match pieces[..] {
        [] => Some(0),
        [(_, stride)] => usize::try_from(stride).ok(),
        _ => None,
    };
    let strides = view.split(shape)?.into_iter().map(stride).collect::<Option<_>>()?;
    Some((usize::try_from(view.base).ok()?, strides))
}

/// A constant before it is packed.
struct Unpacked<'a, E> {
    elements: &'a [E],
    shape: &'a [usize],
    strides: &'a [usize],
    view: Option<&'a Access>,
}

impl<E: Copy + Default> Unpacked<'_, E> {
    /// Packs at most `part` elements at a time into `packed`, for `sink`.
    fn parts(
        &self,
        dims: &[PackedDim],
        at: &mut [usize],
        packed: &mut Vec<E>,
        part: usize,
        sink: &mut dyn FnMut(&[E]),
    ) {
        let inner: usize = product(dims.iter().skip(1).map(|dim| dim.size));
        let (first, rest) = match dims {
            [first, rest @ ..] if first.size * inner > part => (first, rest),
            _ => {
                packed.clear();
                packed.resize(product(dims.iter().map(|dim| dim.size)), E::default());
                self.pack(dims, at, packed);
                return sink(packed);
            }
        };
        let (start, steps) = (at[first.axis], (part / inner).max(1));
        for done in (0..first.size).step_by(steps) {
            at[first.axis] = start + done * first.step;
            match steps.min(first.size - done) {
                1 => self.parts(rest, at, packed, part, sink),
                size => {
                    let dims = [&[PackedDim { size, ..*first }], rest].concat();
                    self.parts(&dims, at, packed, part, sink);
                }
            }
        }
        at[first.axis] = start;
    }

    /// The index of the element at these coordinates, if they are inside; the axis `along` is not checked.
    fn first(&self, at: &[usize], along: Option<usize>) -> Option<usize> {
        let inside = |axis: usize| Some(axis) == along || at[axis] < self.shape[axis];
        let place = || at.iter().zip(self.strides).map(|(at, stride)| at * stride).sum();
        (0..at.len()).all(inside).then(place)
    }

    /// The source's element with this index.
    fn element(&self, index: usize) -> E {
        let index = self.view.map_or(index, |view| view.element(index) as usize);
        self.elements.get(index).copied().unwrap_or_default()
    }

    /// Fills `packed`, which is zero before, with the elements that `dims` name, starting at the coordinates `at`. Weights
    /// have millions of elements, so the last dimension is a plain loop.
    fn pack(&self, dims: &[PackedDim], at: &mut [usize], packed: &mut [E]) {
        match dims {
            [] => {
                if let (Some(first), Some(to)) = (self.first(at, None), packed.first_mut()) {
                    *to = self.element(first);
                }
            }
            [last] => {
                if let Some(first) = self.first(at, Some(last.axis)) {
                    let room = self.shape[last.axis].saturating_sub(at[last.axis]).div_ceil(last.step.max(1));
                    let step = last.step * self.strides[last.axis];
                    self.pack_line(first, step, packed.iter_mut().take(room));
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

    /// Fills a line with the elements that begin at `first` and are `step` apart.
    fn pack_line<'t>(&self, first: usize, step: usize, line: impl Iterator<Item = &'t mut E>)
    where
        E: 't,
    {
        match self.view {
            None if step == 0 => {
                let one = self.element(first);
                line.for_each(|to| *to = one);
            }
            None => {
                line.zip(self.elements.iter().skip(first).step_by(step)).for_each(|(to, from)| *to = *from)
            }
            Some(view) if view.repeats_one() => {
                let one = self.element(first);
                line.for_each(|to| *to = one);
            }
            Some(_) => line.enumerate().for_each(|(i, to)| *to = self.element(first + i * step)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Error;

    #[test]
    fn wide_integers_are_refused() {
        let tensor = Tensor::from_slice(&[1], &[1i64 << 40]).unwrap();
        let why = to_device(&tensor, Integers::Bits32).unwrap_err().to_string();
        assert!(why.contains("1099511627776 does not fit"), "{why}");
    }

    #[test]
    fn want_of_host_memory_is_an_error() {
        let none = collected::<u32>(usize::MAX / 8, []).unwrap_err();
        let error = none.error("the upload of 'x'", Error::Tensor);
        assert!(matches!(error, Error::OutOfMemory { bytes, .. } if bytes > 1 << 60), "{error}");
    }

    proptest! {
        #[test]
        fn packs_what_the_definition_says(
            source in prop::collection::vec(1usize..6, 1..4),
            dims in prop::collection::vec((any::<usize>(), 0usize..5, 1usize..4), 0..6),
            start in any::<bool>(),
            view in 0..6,
            part in 1usize..40,
        ) {
            let of = |(axis, size, step)| PackedDim { axis: axis % source.len(), size, step };
            let start = if start { vec![1; source.len()] } else { vec![] };
            let count: usize = source.iter().product();
            let view = match view {
                0 => None,
                1 => Some(Access::new(0, &[(count, 0)])),
                2 => Some(Access::new(count as i64 - 1, &[(count, -1)])),
                3 => Some(Access::new(1, &[(count.div_ceil(2), 0), (2, 1)])),
                // The transpose of the same number of elements, and every axis backward in memory.
                4 => Some(Access::new(0, &[(source[0], 1), (count / source[0], source[0] as i64)])),
                _ => {
                    let mut stride = 1;
                    let dims = source.iter().map(|&size| {
                        stride *= size;
                        (size, (stride / size) as i64)
                    });
                    Some(Access::new(0, &dims.collect::<Vec<_>>()))
                }
            };
            let dims = dims.into_iter().map(of).collect();
            let packing = Packing { source, view, start, dims, transformed: false };
            let words: Vec<u32> = (1..=count as u32).collect();
            let expected: Vec<u32> = packing
                .sources()
                .map(|source| source.and_then(|i| words.get(i).copied()).unwrap_or(0))
                .collect();
            let (mut packed, mut longest) = (Vec::new(), 0);
            let keep = |bytes: &[u8]| {
                longest = longest.max(bytes.len());
                packed.extend(elements::<u32>(bytes));
            };
            pack::<u32>(bytemuck::cast_slice(&words), &packing, 4 * part, keep).unwrap();
            prop_assert_eq!(packed, expected);
            prop_assert!(longest <= 4 * part, "{}", longest);
        }
    }

    /// Parts of 1 to 40 elements end anywhere in a byte.
    #[test]
    fn elements_that_share_bytes_are_packed_across_parts() {
        // Columns first, and each column filled up to six elements.
        let dims = vec![PackedDim { axis: 1, size: 7, step: 1 }, PackedDim { axis: 0, size: 6, step: 1 }];
        let packing = Packing { source: vec![5, 7], dims, ..Packing::default() };
        for bits in [2, 4] {
            let codes: Vec<u8> = (0..35).map(|i| (3 * i + 1) % (1 << bits)).collect();
            let moved = (0..42).map(|i| if i % 6 < 5 { codes[i % 6 * 7 + i / 6] } else { 0 });
            let expected = small::pack(&moved.collect::<Vec<u8>>(), bits);
            for part in 1..=40 {
                let mut packed = Vec::new();
                let sink = |bytes: &[u8]| packed.extend_from_slice(bytes);
                pack_codes(&small::pack(&codes, bits), bits, &packing, part, sink).unwrap();
                assert_eq!(packed, expected, "{bits} bits, parts of {part}");
            }
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
            Tensor::from_slice(&[3], &[0.1, f64::MIN_POSITIVE, f64::NEG_INFINITY]).unwrap(),
            Tensor::from_slice(&[3], &[i16::MIN, -1, 7]).unwrap(),
            Tensor::from_slice(&[1], &[u16::MAX]).unwrap(),
            Tensor::from_slice(&[5], &[0u8, 1, 127, 128, 255]).unwrap(),
            Tensor::from_slice(&[2], &[u32::MAX, 7]).unwrap(),
            Tensor::from_raw(DType::I4, &[3], vec![0x7f, 0x08]).unwrap(),
            Tensor::from_raw(DType::U2, &[5], vec![0b11100100, 0b10]).unwrap(),
            Tensor::from_raw(DType::F8E4M3FNUZ, &[3], vec![0x80, 0x7f, 0xff]).unwrap(),
            Tensor::from_raw(DType::F8E8M0, &[3], vec![0, 254, 255]).unwrap(),
        ] {
            let storage = Storage::of(tensor.dtype()).unwrap();
            let bytes = to_device(&tensor, Integers::Bits32).unwrap();
            assert_eq!(bytes.len() as u64, storage.filled(tensor.len()));
            let back = from_device(&bytes, storage, tensor.dtype(), tensor.shape()).unwrap();
            assert_eq!(back, tensor);
        }
    }
}
