//! What a plan consists of, with names in place of numbers: for programs as values, for people as text.

use std::collections::HashMap;
use std::fmt;

use serde::ser::{SerializeMap, Serializer};

use super::memory::Memory;
use super::program::{Call, OutputSource, Packing, Place, Program, TensorId};
use crate::DType;
use crate::error::{sentence, shown};
use crate::kernels::{Target, Variant};
use crate::ops::Graph;

/// The kernel calls of a plan, in the order of dispatch. Its text is that of `Stage::Program`.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct ProgramReport {
    /// The tensors that the calls touch.
    pub tensors: Vec<TensorReport>,
    /// Outputs that no call computes.
    pub outputs: Vec<OutputReport>,
    /// The calls.
    pub calls: Vec<CallReport>,
}

/// A tensor on the device.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct TensorReport {
    /// Its name, which no other tensor of the plan has.
    pub name: String,
    /// How an element lies in memory: `f32`, `i32`, `f16`, ...
    pub element: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Where it lies.
    pub place: PlaceReport,
}

/// Where a tensor of a plan lies.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[non_exhaustive]
pub enum PlaceReport {
    /// In the arena that all intermediate tensors share.
    Arena,
    /// In another tensor.
    View {
        /// The other tensor's name.
        of: String,
        /// The other tensor's element at which it begins.
        element: usize,
    },
    /// In the buffer of an input.
    Input {
        /// The number of the input, from 0.
        index: usize,
    },
    /// In the buffer of an output.
    Output {
        /// The number of the output, from 0.
        index: usize,
    },
    /// Among the plan's constants, which planning made.
    Table {
        /// The number of the constant, from 0.
        index: usize,
    },
    /// Among the model's constants.
    Weight {
        /// The constant's name.
        value: String,
        /// The order of its elements, where that is not the model's.
        packed: Option<String>,
    },
}

/// An output that no call computes.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct OutputReport {
    /// Its name.
    pub name: String,
    /// The number of the input that it is; `None`: planning knows it.
    pub input: Option<usize>,
    /// The element type of an output that planning knows.
    pub dtype: Option<DType>,
    /// The dimensions of an output that planning knows.
    pub shape: Option<Vec<usize>>,
}

/// One dispatch.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct CallReport {
    /// The kernel's name.
    pub kernel: String,
    /// The nodes that it computes.
    pub nodes: String,
    /// Workgroups along x, y and z.
    pub grid: [u32; 3],
    /// The tensors, in the order of the kernel's bindings.
    pub tensors: Vec<ArgumentReport>,
    /// The words of the uniform buffer by name, in their order.
    #[serde(serialize_with = "as_map")]
    pub params: Vec<(String, u32)>,
}

/// A tensor that a call reads or writes.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct ArgumentReport {
    /// The name of the binding in the shader.
    pub slot: String,
    /// The tensor's name.
    pub tensor: String,
    /// Whether the kernel writes it.
    pub written: bool,
}

/// The memory of a plan. Its text is that of `Stage::Memory`.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct MemoryReport {
    /// Bytes of the arena.
    pub arena_bytes: u64,
    /// The most bytes that are alive at the same time: no arena can be smaller.
    pub max_live_bytes: u64,
    /// Bytes of all blocks together.
    pub without_reuse_bytes: u64,
    /// The blocks of the arena.
    pub blocks: Vec<BlockReport>,
    /// Bytes of the weights.
    pub weight_bytes: u64,
    /// Bytes of the constants that planning made.
    pub table_bytes: u64,
    /// Bytes of the inputs.
    pub input_bytes: u64,
    /// Bytes of the outputs.
    pub output_bytes: u64,
}

/// A tensor with memory of its own in the arena.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct BlockReport {
    /// The tensor's name.
    pub tensor: String,
    /// Its first byte in the arena.
    pub offset: u64,
    /// Its bytes.
    pub bytes: u64,
    /// The call that writes it first.
    pub first_call: u32,
    /// The last call that uses it.
    pub last_call: u32,
    /// The tensors that lie in it.
    pub inside: Vec<InsideReport>,
}

/// A tensor that lies in the memory of another.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct InsideReport {
    /// The tensor's name.
    pub tensor: String,
    /// Its first byte in the arena.
    pub offset: u64,
    /// Its bytes.
    pub bytes: u64,
}

/// A shader of a plan.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct ShaderReport {
    /// The kernel's name.
    pub kernel: String,
    /// The number of calls that use it.
    pub calls: usize,
    /// Its WGSL.
    pub source: String,
}

impl Program {
    /// The program with the names of its graph.
    pub(crate) fn report(&self, graph: &Graph) -> ProgramReport {
        let names = self.names();
        let mut touched = vec![false; self.tensors.len()];
        self.calls.iter().flat_map(|call| &call.tensors).for_each(|id| touched[id.index()] = true);
        let touched = self.tensors.iter().enumerate().filter(|(i, _)| touched[*i]);
        let tensors = touched.map(|(i, tensor)| TensorReport {
            name: names[i].clone(),
            element: tensor.storage.name(tensor.scalar).into(),
            shape: tensor.shape.to_vec(),
            place: self.place_report(TensorId(i as u32), graph, &names),
        });
        let outputs = self.outputs.iter().enumerate().filter_map(|(i, source)| {
            let name = graph.outputs.get(i).map_or("kept", |id| graph.value(*id).name.as_str()).to_string();
            match source {
                OutputSource::Known(tensor) => {
                    let shape = Some(tensor.shape().to_vec());
                    Some(OutputReport { name, input: None, dtype: Some(tensor.dtype()), shape })
                }
                OutputSource::Input(i) => {
                    Some(OutputReport { name, input: Some(*i), dtype: None, shape: None })
                }
                OutputSource::Appended { input, dtype, shape } => {
                    let (dtype, shape) = (Some(*dtype), Some(shape.clone()));
                    Some(OutputReport { name, input: Some(*input), dtype, shape })
                }
                OutputSource::Device { .. } => None,
            }
        });
        ProgramReport {
            tensors: tensors.collect(),
            outputs: outputs.collect(),
            calls: self.calls.iter().map(|call| call.report(&names)).collect(),
        }
    }

    /// The shader modules, each once, in the order of first use.
    pub(crate) fn shaders(&self, target: &Target) -> Vec<ShaderReport> {
        let mut shaders: Vec<ShaderReport> = Vec::new();
        let (mut of_variant, mut of_source) =
            (HashMap::<Variant, usize>::new(), HashMap::<String, usize>::new());
        for call in &self.calls {
            let number = *of_variant.entry(self.variant(call)).or_insert_with_key(|variant| {
                let source = variant.module(target);
                *of_source.entry(source).or_insert_with_key(|source| {
                    let (kernel, source) = (call.kernel.spec().label(), source.clone());
                    shaders.push(ShaderReport { kernel, calls: 0, source });
                    shaders.len() - 1
                })
            });
            shaders[number].calls += 1;
        }
        shaders
    }

    /// A name for each tensor: its own, with a number after it where several tensors have the same name.
    pub(super) fn names(&self) -> Vec<String> {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        let mut names = Vec::with_capacity(self.tensors.len());
        for tensor in &self.tensors {
            let count = counts.entry(&tensor.name).or_insert(0);
            *count += 1;
            names.push(match *count {
                1 => tensor.name.clone(),
                count => format!("{}~{count}", tensor.name),
            });
        }
        names
    }

    fn place_report(&self, id: TensorId, graph: &Graph, names: &[String]) -> PlaceReport {
        match self.tensor(id).place {
            Place::Arena => PlaceReport::Arena,
            Place::View(of, element) => PlaceReport::View { of: names[of.index()].clone(), element },
            Place::Input(index) | Place::Caller(index) => PlaceReport::Input { index },
            Place::Output(index) => PlaceReport::Output { index },
            Place::Constant(index) => PlaceReport::Table { index },
            Place::Weight(i) => {
                let key = &self.weights[i];
                let value = graph.value(key.value).name.clone();
                PlaceReport::Weight { value, packed: key.packing.as_ref().map(Packing::text) }
            }
        }
    }
}

impl Call {
    fn report(&self, names: &[String]) -> CallReport {
        let slots = self.kernel.slots();
        let arguments = slots.into_iter().zip(&self.tensors).map(|(slot, id)| ArgumentReport {
            slot: slot.name,
            tensor: names[id.index()].clone(),
            written: slot.written,
        });
        CallReport {
            kernel: self.kernel.spec().label(),
            nodes: self.node.to_string(),
            grid: self.grid,
            tensors: arguments.collect(),
            params: self.kernel.params().into_iter().zip(self.params.iter().copied()).collect(),
        }
    }
}

impl Memory {
    /// Each block of the arena with its bytes, its place, and the calls from its first write to its last use, and the tensors
    /// that lie in the block.
    pub(crate) fn report(&self, program: &Program) -> MemoryReport {
        let names = program.names();
        let mut inside: Vec<Vec<(usize, u64)>> = vec![Vec::new(); program.tensors.len()];
        for (i, tensor) in program.tensors.iter().enumerate() {
            let (root, at) = program.root(TensorId(i as u32));
            if let Place::View(..) = tensor.place {
                inside[root.index()].push((i, tensor.storage.offset(at)));
            }
        }
        let blocks = self.blocks.iter().map(|(block, life)| {
            let offset = self.offset(*block).unwrap_or(0);
            let inside = inside[block.index()].iter().map(|&(i, at)| InsideReport {
                tensor: names[i].clone(),
                offset: offset + at,
                bytes: program.tensors[i].bytes(),
            });
            BlockReport {
                tensor: names[block.index()].clone(),
                offset,
                bytes: life.size,
                first_call: life.start,
                last_call: life.end.saturating_sub(1),
                inside: inside.collect(),
            }
        });
        MemoryReport {
            arena_bytes: self.height,
            max_live_bytes: self.max_live,
            without_reuse_bytes: self.total,
            blocks: blocks.collect(),
            weight_bytes: program.bytes(|place| matches!(place, Place::Weight(_))),
            table_bytes: program.bytes(|place| matches!(place, Place::Constant(_))),
            input_bytes: program.bytes(|place| matches!(place, Place::Input(_) | Place::Caller(_))),
            output_bytes: program.bytes(|place| matches!(place, Place::Output(_))),
        }
    }
}

impl fmt::Display for ProgramReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", counted_calls(self.calls.len()))?;
        for TensorReport { name, element, shape, place } in &self.tensors {
            writeln!(f, "%{}: {element}{shape:?} {place}", shown(name))?;
        }
        for OutputReport { name, input, dtype, shape } in &self.outputs {
            write!(f, "output %{}: ", shown(name))?;
            match (input, dtype, shape) {
                (None, Some(dtype), Some(shape)) => writeln!(f, "{dtype}{shape:?} known while planning")?,
                (input, ..) => writeln!(f, "input {} as it is", input.unwrap_or(0))?,
            }
        }
        self.calls.iter().enumerate().try_for_each(|(i, call)| write!(f, "{i}: {call}"))
    }
}

impl fmt::Display for PlaceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlaceReport::Arena => f.write_str("in the arena"),
            PlaceReport::View { of, element: 0 } => write!(f, "lies in %{}", shown(of)),
            PlaceReport::View { of, element } => write!(f, "lies in %{} from element {element}", shown(of)),
            PlaceReport::Input { index } => write!(f, "input {index}"),
            PlaceReport::Output { index } => write!(f, "output {index}"),
            PlaceReport::Table { index } => write!(f, "table {index}"),
            PlaceReport::Weight { packed: None, .. } => f.write_str("weight"),
            PlaceReport::Weight { value, packed: Some(packed) } => {
                write!(f, "weight %{} packed: {packed}", shown(value))
            }
        }
    }
}

impl fmt::Display for CallReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.grid;
        let tensors = self.tensors.iter().map(|ArgumentReport { slot, tensor, written }| {
            format!("{}{slot}=%{}", if *written { "&" } else { "" }, shown(tensor))
        });
        let params = self.params.iter().map(|(name, word)| format!("{name}={}", word_text(*word)));
        writeln!(f, "{} on {x}x{y}x{z}  // {}", self.kernel, sentence(&self.nodes))?;
        writeln!(f, "    {}", tensors.collect::<Vec<_>>().join(" "))?;
        writeln!(f, "    {}", params.collect::<Vec<_>>().join(" "))
    }
}

impl fmt::Display for MemoryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MemoryReport { arena_bytes, max_live_bytes, without_reuse_bytes, blocks, .. } = self;
        let ratio = *arena_bytes as f64 / (*max_live_bytes).max(1) as f64;
        write!(f, "arena {arena_bytes} bytes, {ratio:.3} of max live {max_live_bytes}; ")?;
        writeln!(f, "{without_reuse_bytes} without reuse, in {} blocks", blocks.len())?;
        writeln!(f, "{:>10} {:>10}  {:<12} tensor", "offset", "bytes", "calls")?;
        for BlockReport { tensor, offset, bytes, first_call, last_call, inside } in blocks {
            let calls = format!("{first_call}..{last_call}");
            writeln!(f, "{offset:>10} {bytes:>10}  {calls:<12} %{}", shown(tensor))?;
            for InsideReport { tensor, offset, bytes } in inside {
                writeln!(f, "{offset:>10} {bytes:>10}  {:12} %{}", "", shown(tensor))?;
            }
        }
        let MemoryReport { weight_bytes, table_bytes, input_bytes, output_bytes, .. } = self;
        write!(f, "weights {weight_bytes} bytes, tables {table_bytes}, ")?;
        writeln!(f, "inputs {input_bytes}, outputs {output_bytes}")
    }
}

impl fmt::Display for ShaderReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "// {}: {}\n{}", self.kernel, counted_calls(self.calls), self.source)
    }
}

fn counted_calls(count: usize) -> String {
    format!("{count} call{}", if count == 1 { "" } else { "s" })
}

fn as_map<S: Serializer>(pairs: &[(String, u32)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(pairs.len()))?;
    pairs.iter().try_for_each(|(name, word)| map.serialize_entry(name, word))?;
    map.end()
}

/// The text of a parameter's word: a count, or a float or a negative number where no count is that large.
fn word_text(word: u32) -> String {
    let float = f32::from_bits(word);
    match word {
        // Sizes, strides and counts stay below 2^29; floats with these bits are below 1e-19.
        ..0x2000_0000 => word.to_string(),
        _ if float.is_nan() => (word as i32).to_string(),
        _ => format!("{float:?}"),
    }
}
