//! The program: kernel calls over numbered tensors, in the order of dispatch.

use std::collections::HashSet;
use std::sync::Arc;

use super::fault::Fault;
use super::refusal::Refusal;
use super::why::Notes;
use crate::error::Why;
use crate::graph::{NodeId, ValueId};
use crate::kernels::expr::{Integers, Scalar};
use crate::kernels::{Access, Backing, Kernel, Slot, Storage, Target, VECTOR_BYTES, Variant, given};
use crate::shape::Shape;
use crate::shape::product;
use crate::{DType, Tensor};

/// The index of a tensor in [`Program::tensors`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TensorId(pub(crate) u32);

impl TensorId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A tensor on the device, row-major.
#[derive(Clone, Debug)]
pub(crate) struct PlannedTensor {
    pub(crate) name: String,
    /// The register type that kernels load its elements into, and the storage of its elements in memory.
    pub(crate) scalar: Scalar,
    pub(crate) storage: Storage,
    pub(crate) shape: Shape,
    /// The number of elements: the product of `shape`.
    pub(crate) count: usize,
    pub(crate) place: Place,
}

impl PlannedTensor {
    /// The register and the storage of an element.
    pub(crate) fn element(&self) -> (Scalar, Storage) {
        (self.scalar, self.storage)
    }

    /// Bytes of its elements, without what fills up the last vector.
    pub(crate) fn filled(&self) -> u64 {
        self.storage.filled(self.count)
    }

    /// Bytes that the tensor takes on the device.
    pub(crate) fn bytes(&self) -> u64 {
        self.storage.bytes(self.count)
    }

    /// Whether a binding may begin at this element.
    pub(super) fn begins_at(&self, element: i64, target: &Target) -> Result<(), Refusal> {
        let alignment = target.offset_alignment.max(VECTOR_BYTES);
        match self.storage.begins_at(element, alignment) {
            true => Ok(()),
            false => Err(Refusal::Misaligned { element, alignment }),
        }
    }
}

/// Where a planned tensor lies: in the arena, in another tensor, or in a buffer of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// In the arena; [`super::Memory`] has its offset.
    Arena,
    /// In the memory of another tensor, from this element on.
    View(TensorId, usize),
    /// In the buffer of graph input `i`.
    Input(usize),
    /// In the caller's memory of graph input `i`, which has room for rows that the run appends.
    Caller(usize),
    /// In the buffer of graph output `i`.
    Output(usize),
    /// Weight `i` of [`Program::weights`].
    Weight(usize),
    /// Constant `i` of [`Program::constants`].
    Constant(usize),
}

/// The order of a weight's elements for its kernel. Element `(i0, i1, ...)` of the packed form, row-major over `dims`, is the
/// source's element at the coordinates to which the dims add up, or 0 where a coordinate is outside of the source.
///
/// Two examples, of a source of shape `[30, 5]`. The dims (axis 1, size 8, step 1), (axis 0, size 32, step 1) transpose and
/// pad it: the packed form is `[8, 32]`, and its element (2, 7) is the source's (7, 2). The dims (axis 0, size 2, step 16),
/// (axis 1, size 5, step 1), (axis 0, size 16, step 1) cut its rows into tiles of 16: element (1, 2, 3) is the source's (16 +
/// 3, 2).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Packing {
    /// The shape under which the source is read; empty: its own order.
    pub(crate) source: Vec<usize>,
    /// Whether the source is not the constant, but what `kernels::winograd::weights` makes of it.
    pub(crate) transformed: bool,
    /// Where the source's elements lie in the constant, if the source is a view of it. A constant of one element may be the
    /// source of a matrix of 100 million.
    pub(crate) view: Option<Access>,
    /// The source's coordinates at which the packed form begins; empty: all 0.
    pub(crate) start: Vec<usize>,
    pub(crate) dims: Vec<PackedDim>,
}

/// One dimension of a packed weight: it takes `size` steps of `step` elements along `axis` of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PackedDim {
    pub(crate) axis: usize,
    pub(crate) size: usize,
    pub(crate) step: usize,
}

impl Packing {
    /// The number of elements in packed form.
    pub(crate) fn count(&self) -> usize {
        product(self.dims.iter().map(|d| d.size))
    }

    /// For each packed element the index of the constant's element, or `None` for padding: this defines packing.
    #[cfg(test)]
    pub(crate) fn sources(&self) -> impl Iterator<Item = Option<usize>> + '_ {
        (0..self.count()).map(|mut index| {
            let mut at = self.start.clone();
            at.resize(self.source.len(), 0);
            for dim in self.dims.iter().rev() {
                at[dim.axis] += index % dim.size * dim.step;
                index /= dim.size;
            }
            let inside = at.iter().zip(&self.source).all(|(a, s)| a < s);
            let place = || at.iter().zip(&self.source).fold(0, |i, (a, s)| i * s + a);
            inside.then(place).map(|n| self.view.as_ref().map_or(n, |view| view.element(n) as usize))
        })
    }
}

/// A constant in the order that its kernel wants. Plans with the same key share its memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct WeightKey {
    pub(crate) value: ValueId,
    /// `None`: the model's own order.
    pub(crate) packing: Option<Packing>,
    /// The dtype as which the constant's bytes are read; `None`: its own.
    pub(crate) read_as: Option<DType>,
}

impl WeightKey {
    /// The constant itself, or its bytes read as another dtype: of 16 bytes of two 4-bit numbers each, a list of 32 numbers.
    pub(crate) fn constant(&self, tensor: &Tensor) -> Result<Tensor, Why> {
        let Some(dtype) = self.read_as else { return Ok(tensor.clone()) };
        let count = tensor.bytes().len() * 8 / dtype.bits().max(1);
        Ok(Tensor::from_raw(dtype, &[count], tensor.shared_bytes())?)
    }
}

/// One dispatch.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) kernel: Kernel,
    pub(crate) tensors: Vec<TensorId>,
    pub(crate) params: Vec<u32>,
    pub(crate) grid: [u32; 3],
    /// The names of the nodes that it computes.
    pub(crate) node: Arc<str>,
}

/// A step of the program before memory is laid out.
#[allow(clippy::large_enum_variant)] // Nearly all steps are calls.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Call(Call),
    /// `output` is `of` from element `offset` on. The step becomes nothing, or a copy where memory cannot be laid out for it.
    View {
        output: TensorId,
        of: TensorId,
        offset: usize,
    },
    /// `part` fills `whole` from element `offset` on. The step becomes nothing, or a copy where memory cannot be laid out for
    /// it.
    Part {
        whole: TensorId,
        part: TensorId,
        offset: usize,
    },
}

/// Where a graph output comes from.
#[derive(Clone, Debug)]
pub(crate) enum OutputSource {
    /// It is read back from the device.
    Device { tensor: TensorId, dtype: DType, shape: Vec<usize> },
    /// Planning knows it: it follows from shapes and constants alone.
    Known(Tensor),
    /// It is this graph input itself, whose elements the device does not hold as they are.
    Input(usize),
    /// It is this graph input with rows appended, in the input's own memory.
    Appended { input: usize, dtype: DType, shape: Vec<usize> },
}

/// Everything that a run dispatches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Program {
    pub(crate) tensors: Vec<PlannedTensor>,
    /// The steps that lowering wrote. Laying out memory turns them into `calls`, and leaves none.
    pub(crate) steps: Vec<Step>,
    pub(crate) calls: Vec<Call>,
    /// For each graph input, its tensor, if the device reads it from a buffer of the frame.
    pub(crate) inputs: Vec<Option<TensorId>>,
    /// The graph inputs that are read, and written, in the caller's memory.
    pub(crate) callers: Vec<usize>,
    pub(crate) outputs: Vec<OutputSource>,
    pub(crate) weights: Vec<WeightKey>,
    pub(crate) constants: Vec<Tensor>,
    /// What each fault word means.
    pub(crate) faults: Vec<Fault>,
    /// Nodes of the graph that the calls compute.
    pub(crate) device_nodes: Vec<NodeId>,
    /// In how many bits 64-bit integers are held.
    pub(crate) integers: Integers,
    /// What was decided, if that is wanted.
    pub(super) notes: Notes,
}

impl Program {
    pub(crate) fn tensor(&self, id: TensorId) -> &PlannedTensor {
        &self.tensors[id.index()]
    }

    pub(crate) fn add_tensor(
        &mut self,
        name: String,
        (scalar, storage): (Scalar, Storage),
        shape: impl Into<Shape>,
        place: Place,
    ) -> TensorId {
        let shape = shape.into();
        let count = product(&shape);
        self.tensors.push(PlannedTensor { name, scalar, storage, shape, count, place });
        TensorId(self.tensors.len() as u32 - 1)
    }

    /// How each constant that planning made lies on the device.
    pub(crate) fn constant_storages(&self) -> Vec<Option<Storage>> {
        let mut storages = vec![None; self.constants.len()];
        for tensor in &self.tensors {
            if let Place::Constant(i) = tensor.place {
                storages[i] = Some(tensor.storage);
            }
        }
        storages
    }

    /// The register through which elements are copied from one tensor to another: bits if both have the same storage and the
    /// bits fit 32, else values.
    pub(crate) fn moving(&self, from: TensorId, to: TensorId) -> Scalar {
        let (from, to) = (self.tensor(from), self.tensor(to));
        let bits = from.storage == to.storage && from.storage != Storage::Wide;
        if bits { Scalar::U32 } else { to.scalar }
    }

    /// Whether the kernel takes the tensors of 64 bits among these: it computes with them, or only moves bits.
    pub(crate) fn takes_wide(&self, kernel: &Kernel, tensors: &[TensorId]) -> bool {
        let wide = |tensor: &TensorId| self.tensor(*tensor).storage == Storage::Wide;
        if !tensors.iter().any(wide) {
            return true;
        }
        kernel.spec().takes_wide()
            && tensors.iter().zip(kernel.slots()).all(|(tensor, slot)| match slot.element.scalar() {
                Scalar::U32 => true,
                scalar => {
                    wide(tensor) == scalar.is_wide()
                        && (!scalar.is_wide() || self.tensor(*tensor).scalar == scalar)
                }
            })
    }

    /// Whether the tensors among which a call moves bits have the same storage: its kernel does not know what it moves.
    pub(crate) fn lie_alike_where_moved(&self, call: &Call) -> Result<(), &'static str> {
        let tensors = || call.tensors.iter().map(|&id| self.tensor(id));
        if tensors().all(|tensor| tensor.storage == Storage::Word) {
            return Ok(());
        }
        let slots = call.kernel.slots();
        let moves = |(tensor, slot): &(&PlannedTensor, &Slot)| {
            tensor.scalar.is_float() && !slot.element.scalar().is_float()
        };
        let mut moved = tensors().zip(&slots).filter(moves).map(|(tensor, _)| tensor.storage);
        let first = moved.next();
        given("tensors that lie alike", moved.all(|storage| Some(storage) == first))
    }

    /// Bytes of all tensors whose places `of` accepts.
    pub(crate) fn bytes(&self, of: fn(Place) -> bool) -> u64 {
        // Tensors of several types may be one weight.
        let mut counted = HashSet::new();
        let own = |tensor: &&PlannedTensor| match tensor.place {
            place @ (Place::Weight(_) | Place::Constant(_)) => of(place) && counted.insert(place),
            place => of(place),
        };
        self.tensors.iter().filter(own).map(PlannedTensor::bytes).sum()
    }

    /// Bytes of the fault words; 0 if no kernel reports.
    pub(crate) fn fault_bytes(&self) -> u64 {
        if self.faults.is_empty() { 0 } else { Storage::Word.bytes(self.faults.len()) }
    }

    /// The tensor in whose memory `id` lies, and the element at which `id` begins there.
    pub(crate) fn root(&self, mut id: TensorId) -> (TensorId, usize) {
        let mut offset = 0;
        while let Place::View(of, at) = self.tensor(id).place {
            id = of;
            offset += at;
        }
        (id, offset)
    }

    /// Leaves out the weights that no call reads: a view of a weight may have been packed instead.
    pub(super) fn drop_unread_weights(&mut self) {
        let mut read = vec![false; self.weights.len()];
        let outputs = self.outputs.iter().filter_map(|source| match source {
            OutputSource::Device { tensor, .. } => Some(tensor),
            _ => None,
        });
        for &tensor in self.calls.iter().flat_map(|call| &call.tensors).chain(outputs) {
            if let Place::Weight(i) = self.tensor(self.root(tensor).0).place {
                read[i] = true;
            }
        }
        let mut numbers = Vec::with_capacity(read.len());
        let mut count = 0;
        for &read in &read {
            numbers.push(read.then_some(count));
            count += usize::from(read);
        }
        let mut keep = read.iter();
        self.weights.retain(|_| keep.next().is_some_and(|&read| read));
        for tensor in &mut self.tensors {
            if let Place::Weight(i) = tensor.place {
                // No call touches what is in the arena now, so it takes no memory there.
                tensor.place = numbers[i].map_or(Place::Arena, Place::Weight);
            }
        }
    }

    /// The call's kernel over the storages of its tensors.
    pub(crate) fn variant(&self, call: &Call) -> Variant {
        let backing = |&tensor: &TensorId| {
            let place = self.tensor(self.root(tensor).0).place;
            let writable = matches!(place, Place::Arena | Place::Output(_) | Place::Caller(_));
            Backing { storage: self.tensor(tensor).storage, writable }
        };
        Variant::new(call.kernel.clone(), call.tensors.iter().map(backing).collect())
    }
}

impl Packing {
    /// `axis 0 by 16 x axis 1 by 1, of [30, 40]`: each dimension's size, axis and step.
    pub(super) fn text(&self) -> String {
        let dim = |dim: &PackedDim| match dim.step {
            1 => format!("{} of axis {}", dim.size, dim.axis),
            step => format!("{} of axis {} by {step}", dim.size, dim.axis),
        };
        let start = if self.start.is_empty() { String::new() } else { format!(" from {:?}", self.start) };
        let dims: Vec<String> = self.dims.iter().map(dim).collect();
        let view = self.view.as_ref().map_or(String::new(), |view| format!(" of {view:?}"));
        let transformed = if self.transformed { " transformed" } else { "" };
        format!("{:?}{transformed}{view}{start} as {}", self.source, dims.join(", "))
    }
}
