//! The kernel families. Each has a typed spec, which renders a template of `shaders/` to WGSL.
//!
//! A spec is the cache key of its pipelines. Shapes are no part of a spec: they are parameters of a call. This room knows
//! nothing of wgpu, of graphs or of operators.

mod access;
pub(crate) mod cost;
mod each;
pub(crate) mod expr;
pub(crate) mod fused;
mod math;
pub(crate) mod shared;
mod storage;
mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

pub(crate) use access::Access;
use expr::Scalar;

use crate::error::Why;

pub(crate) use storage::{Storage, VECTOR_BYTES};

/// What the choice of kernels may depend on. It is plain data, so that lowering needs no device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(crate) class: Class,
    /// The subgroup size, if the device has only one; 0 where subgroup operations may not be used.
    pub(crate) subgroup: u32,
    /// The most bytes that one binding may span.
    pub(crate) max_binding: u64,
    /// Alignment of a binding's offset, in bytes.
    pub(crate) offset_alignment: u64,
    /// The most workgroups along one dimension of a grid.
    pub(crate) max_groups: u32,
    /// The most loop iterations of one invocation that the driver is known to carry out.
    pub(crate) max_iterations: u32,
    /// Whether the driver converts float16 (`unpack2x16float`); where it does not, kernels convert with integer operations.
    pub(crate) converts_f16: bool,
    /// Whether the device computes with float64 (wgpu's `SHADER_F64`, and `SHADER_INT64` for its bits).
    pub(crate) computes_f64: bool,
    /// The tiles of workgroup memory from which lowering chooses.
    pub(crate) blocks: &'static [shared::Block],
}

/// The two kinds of device that want different kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// A software device: registers are cheap, barriers are not.
    Cpu,
    /// A GPU: workgroup memory and subgroups.
    Gpu,
}

impl Target {
    /// The portable floor of WebGPU.
    pub(crate) const FLOOR: Target = Target {
        class: Class::Gpu,
        subgroup: 0,
        max_binding: 128 << 20,
        offset_alignment: 256,
        max_groups: 65_535,
        max_iterations: 60_000,
        converts_f16: false,
        computes_f64: false,
        blocks: &shared::Block::ALL,
    };

    /// The grid of `groups` workgroups, with rows along y where x cannot hold all. A kernel numbers its workgroups `x + y *
    /// num_workgroups.x`, and the workgroups beyond the last do nothing: 70,000 workgroups are a grid of 35,000 by 2.
    pub(crate) fn grid(&self, groups: usize) -> [u32; 3] {
        let limit = self.max_groups as usize;
        let y = groups.div_ceil(limit).max(1);
        let x = groups.div_ceil(y).max(1);
        [x as u32, y as u32, 1]
    }
}

/// The bits of a float64, the lower word first.
pub(crate) fn double_words(number: f64) -> [u32; 2] {
    [number.to_bits() as u32, (number.to_bits() >> 32) as u32]
}

/// A size as a word of a call's params.
pub(crate) fn word(size: usize) -> Result<u32, Why> {
    u32::try_from(size)
        .map_err(|_| Why::from(format!("{size} does not fit the 32 bits with which a device counts")))
}

/// Sizes as words of a call's params.
pub(crate) fn words(sizes: impl IntoIterator<Item = usize>) -> Result<Vec<u32>, Why> {
    params(sizes, [])
}

/// Sizes as words of a call's params, and after them the params of its fused code.
pub(crate) fn params(
    sizes: impl IntoIterator<Item = usize>,
    fused: impl IntoIterator<Item = u32>,
) -> Result<Vec<u32>, Why> {
    let (sizes, fused) = (sizes.into_iter(), fused.into_iter());
    let mut params = Vec::with_capacity(sizes.size_hint().0 + fused.size_hint().0);
    for size in sizes {
        params.push(word(size)?);
    }
    params.extend(fused);
    Ok(params)
}

/// The most storage bindings of one kernel, tensors and fault words together: WebGPU's floor.
pub(crate) const MAX_BINDINGS: usize = 8;

/// The most tensors that one kernel of fused code reads and writes; `reports` tells whether one binding goes to the fault
/// words.
pub(crate) const fn fused_tensors(reports: bool) -> usize {
    MAX_BINDINGS - reports as usize
}

/// What a kernel loads from a tensor, or stores to it, at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotElement {
    One(Scalar),
    /// Four neighbours; the first has an index that is a multiple of 4.
    Vector(Scalar),
    /// One element, or a run of neighbours, at most this number, that may begin anywhere: `y_store_run(first, count, values)`.
    Run(Scalar, usize),
    /// A word that several invocations may write at the same time.
    Atomic,
    /// The words in which the elements lie, whatever their storage: one, or four if the field is true.
    Words(bool),
}

/// A vector if `vector`, else a single element.
pub(crate) fn element(scalar: Scalar, vector: bool) -> SlotElement {
    if vector { SlotElement::Vector(scalar) } else { SlotElement::One(scalar) }
}

impl From<Scalar> for SlotElement {
    fn from(scalar: Scalar) -> SlotElement {
        SlotElement::One(scalar)
    }
}

impl SlotElement {
    /// The type of the register.
    pub(crate) fn scalar(self) -> Scalar {
        match self {
            SlotElement::One(scalar) | SlotElement::Vector(scalar) | SlotElement::Run(scalar, _) => scalar,
            SlotElement::Atomic | SlotElement::Words(_) => Scalar::U32,
        }
    }

    /// The WGSL type of the element in memory, where each number is a word.
    pub(crate) fn wgsl(self) -> String {
        match self {
            SlotElement::One(scalar) | SlotElement::Run(scalar, _) => scalar.word().into(),
            SlotElement::Vector(scalar) => format!("vec4<{}>", scalar.word()),
            SlotElement::Atomic => "atomic<u32>".into(),
            SlotElement::Words(vector) => element(Scalar::U32, vector).wgsl(),
        }
    }
}

/// One tensor binding of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) name: String,
    pub(crate) element: SlotElement,
    /// Whether the kernel writes it.
    pub(crate) written: bool,
}

impl Slot {
    pub(crate) fn read(name: impl Into<String>, element: impl Into<SlotElement>) -> Slot {
        Slot { name: name.into(), element: element.into(), written: false }
    }

    pub(crate) fn write(name: impl Into<String>, element: impl Into<SlotElement>) -> Slot {
        Slot { name: name.into(), element: element.into(), written: true }
    }
}

/// What a kernel family's typed spec tells of its kernels.
pub(crate) trait Spec {
    /// A short name for profiles, e.g. `gemm16x16+relu`.
    fn label(&self) -> String;

    /// Tensor bindings, in the order of a call's tensors.
    fn slots(&self) -> Vec<Slot>;

    /// Names of the u32 words in the uniform buffer `p`, in the order of a call's params.
    fn params(&self) -> Vec<String>;

    /// The functions and the entry point `main`. The caller declares the bindings, `p`, and the functions of
    /// `shaders/math.wgsl` that this puts into `used`.
    fn body(&self, used: &mut BTreeSet<&'static str>) -> String;

    /// Whether the kernel reports values that are out of range. The kernel then has one more binding, `faults`, the run's
    /// fault words, and a last param, `fault`, the number of its own word among them; `report` of `shaders/math.wgsl` writes
    /// it.
    fn reports(&self) -> bool {
        false
    }

    /// Checks what the text takes for granted of sizes and strides, which are no part of the spec. The error names what
    /// `params` do not give. Planning must choose specs so that all hold: a mistake there becomes an error, never a wrong
    /// result.
    fn fits(&self, _params: &[u32]) -> Result<(), &'static str> {
        Ok(())
    }

    /// Whether drivers compile the kernel in a few milliseconds: the kernel is a copy, or a chain of scalar operators.
    fn compiles_quickly(&self) -> bool {
        false
    }

    /// Whether the kernel takes tensors of 64 bits: it computes with them, or moves the elements of u32 slots as bits.
    fn takes_wide(&self) -> bool {
        false
    }

    /// The variant that stores neighbours together, as a [`SlotElement::Run`] or a [`SlotElement::Vector`], if there is one, for
    /// the same grid. It serves results whose storage has several elements in a word.
    fn in_runs(&self) -> Option<Kernel> {
        None
    }

    /// The variant in which output slot 0 and input slot `slot` are one binding, of the input's memory, if there is one. A
    /// call of the variant leaves the output's tensor out.
    fn in_place(&self, _slot: usize) -> Option<Kernel> {
        None
    }
}

macro_rules! kernels {
    ($($module:ident: $type:ident),* $(,)?) => {
        $(pub(crate) mod $module;)*

        /// Every kernel spec.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Kernel {
            $($type($module::$type),)*
        }

        #[cfg(test)]
        impl Kernel {
            pub(crate) const FAMILIES: &'static [&'static str] = &[$(stringify!($type)),*];

            pub(crate) fn family(&self) -> &'static str {
                match self {
                    $(Kernel::$type(_) => stringify!($type),)*
                }
            }
        }

        $(impl From<$module::$type> for Kernel {
            fn from(spec: $module::$type) -> Kernel {
                Kernel::$type(spec)
            }
        })*

        impl Kernel {
            pub(crate) fn spec(&self) -> &dyn Spec {
                match self {
                    $(Kernel::$type(spec) => spec,)*
                }
            }
        }
    };
}

// One line for each kernel family: `file: Spec`.
kernels! {
    affine_grid: AffineGrid,
    attention: Attention,
    block_product: BlockProduct,
    causal_conv: CausalConv,
    col2im: Col2Im,
    contract: Contract,
    conv: Conv,
    conv_transpose: ConvTranspose,
    deform_conv: DeformConv,
    det: Det,
    dft: Dft,
    elementwise: Elementwise,
    gather: Gather,
    gather_elements: GatherElements,
    gemm: Gemm,
    grid_sample: GridSample,
    inverse: Inverse,
    linear_attention: LinearAttention,
    lookup: Lookup,
    lrn: Lrn,
    max_roi_pool: MaxRoiPool,
    pad: Pad,
    pool: Pool,
    random: Random,
    recurrent: Recurrent,
    reduce: Reduce,
    resize: Resize,
    reverse_sequence: ReverseSequence,
    roi_align: RoiAlign,
    rotary: Rotary,
    scan: Scan,
    scatter: Scatter,
    scatter_reduce: ScatterReduce,
    sort_slices: SortSlices,
    strided: Strided,
    suppress: Suppress,
    svm: Svm,
    tensor_scatter: TensorScatter,
    top_k: TopK,
    trees: Trees,
    winograd: Winograd,
}

impl Kernel {
    /// All bindings but that of the params: those of the call's tensors, then the fault words.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        let faults = self.spec().reports().then(|| Slot::write("faults", SlotElement::Atomic));
        self.spec().slots().into_iter().chain(faults).collect()
    }

    /// Names of all words in the uniform buffer.
    pub(crate) fn params(&self) -> Vec<String> {
        let fault = self.spec().reports().then(|| "fault".into());
        self.spec().params().into_iter().chain(fault).collect()
    }
}

/// The tensor that a call gives to a slot, as far as the text depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Backing {
    pub(crate) storage: Storage,
    /// Whether the tensor's buffer is one that kernels write. wgpu counts the uses of whole buffers per dispatch: a tensor in
    /// the arena is bound `read_write`, as another binding of the same call may write the arena.
    pub(crate) writable: bool,
}

/// A kernel over tensors of certain storages: one pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Variant {
    pub(crate) kernel: Kernel,
    /// The backings of the call's tensors, by slot.
    pub(crate) backings: Vec<Backing>,
}

impl Variant {
    /// The kernel over tensors with these backings.
    pub(crate) fn new(kernel: Kernel, mut backings: Vec<Backing>) -> Variant {
        if backings.iter().all(|backing| backing.storage == Storage::Word) {
            return Variant { kernel, backings };
        }
        let (mut runs, slots) = (None, kernel.slots());
        let written = |(backing, slot): (&Backing, &Slot)| !slot.written || !backing.storage.is_plain();
        let narrow = backings.iter().zip(&slots).all(written);
        for (backing, slot) in backings.iter_mut().zip(&slots) {
            backing.storage = match slot.element {
                SlotElement::Words(_) => Storage::Word,
                element => backing.storage.seen_as(element.scalar(), narrow),
            };
            if slot.written && !backing.storage.is_plain() {
                runs = kernel.spec().in_runs();
            }
        }
        Variant { kernel: runs.unwrap_or(kernel), backings }
    }

    /// The storage of the tensor that slot `i` is given.
    fn storage(&self, i: usize) -> Storage {
        self.backings.get(i).map_or(Storage::Word, |backing| backing.storage)
    }

    /// Whether binding `i`, that of `slot`, is declared `read_write`.
    pub(crate) fn is_writable(&self, i: usize, slot: &Slot) -> bool {
        slot.written || self.backings.get(i).is_some_and(|backing| backing.writable)
    }

    /// The whole WGSL module for this kind of device.
    pub(crate) fn module(&self, target: &Target) -> String {
        let mut text = String::from("struct Params {\n");
        let params = self.kernel.params();
        params.iter().for_each(|name| text += &format!("  {name}: u32,\n"));
        if params.is_empty() {
            text += "  unused: u32,\n";
        }
        text += "}\n";
        let slots = self.kernel.slots();
        for (i, slot) in slots.iter().enumerate() {
            let access = if self.is_writable(i, slot) { "read_write" } else { "read" };
            let (name, element) = (&slot.name, self.storage(i).array_element(slot));
            text += &format!("@group(0) @binding({i}) var<storage, {access}> {name}: array<{element}>;\n");
        }
        text += &format!("@group(0) @binding({}) var<uniform> p: Params;\n\n", slots.len());
        let mut used = BTreeSet::new();
        let body = self.kernel.spec().body(&mut used);
        let stored: Vec<_> = slots.into_iter().enumerate().map(|(i, slot)| (slot, self.storage(i))).collect();
        let body = storage::accessed(body, &stored, target.converts_f16, &mut used);
        let text = text + &math::functions_for(&used) + "\n" + &body;
        match text.contains(PAIRS) {
            true => FOUR_PAIRS.to_string() + &text.replace(PAIRS, "Pairs"),
            false => text,
        }
    }
}

/// What templates write for a vector of four pairs of words. WGSL has no such type, but a structure with the components of a vector.
const PAIRS: &str = "vec4<vec2<u32>>";
const FOUR_PAIRS: &str =
    "struct Pairs {\n  x: vec2<u32>,\n  y: vec2<u32>,\n  z: vec2<u32>,\n  w: vec2<u32>,\n}\n";

/// `Err(what)` unless it `holds`.
pub(crate) fn given(what: &'static str, holds: bool) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(what) }
}

/// Whether the params with these numbers are multiples of 4.
pub(crate) fn whole(params: &[u32], numbers: impl IntoIterator<Item = usize>) -> bool {
    numbers.into_iter().all(|i| params.get(i).is_some_and(|n| n.is_multiple_of(4)))
}

/// The iterations of loops of these lengths, each inside the one before. Drivers count all of them: loops of 10 and 20 are
/// 210.
pub(crate) fn nested(lengths: impl IntoIterator<Item = usize>) -> usize {
    let step = |(product, sum): (usize, usize), length: usize| {
        let product = product.saturating_mul(length);
        (product, sum.saturating_add(product))
    };
    lengths.into_iter().fold((1, 0), step).1
}
