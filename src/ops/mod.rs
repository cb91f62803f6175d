//! The operators. Each has a file, or shares one with the family whose table it is a row of, and each file has one line in
//! `operators!` below.
//!
//! An operator's file has, in this order: opset history, parsed attributes, `ROWS` (names, opset ranges, the dtypes that ONNX lets
//! the operator take, parser), `infer`, `eval` (the CPU reference), `lower` (or `pointwise`), cases, tests. Nothing here knows
//! wgpu or protobuf.

pub(crate) mod accumulate;
pub(crate) mod attending;
pub(crate) mod axes;
pub(crate) mod broadcast;
#[cfg_attr(not(test), allow(dead_code))] // Cases are read by tests.
pub(crate) mod case;
pub(crate) mod division;
pub(crate) mod forest;
pub(crate) mod fourier;
mod graph;
mod host;
pub(crate) mod indices;
pub(crate) mod inline;
mod kinds;
pub(crate) mod mover;
mod operation;
pub(crate) mod product;
pub(crate) mod quantized;
pub(crate) mod resample;
pub(crate) mod rows;
pub(crate) mod scatter;
pub(crate) mod scores;
pub(crate) mod strides;
mod types;
pub(crate) mod window;
pub(crate) mod winograd;

use std::fmt::Debug;
use std::sync::Arc;

use composed::Body;
pub(crate) use graph::{Attr, Attributes, Graph, Node};
pub(crate) use host::HostOperator;
pub(crate) use operation::Operation;
#[cfg(test)]
pub(crate) use operation::row_of;
#[cfg(test)]
pub(crate) use types::Operands;
pub(crate) use types::{TypeSignature, Types, types};

pub(crate) use crate::array::Array;
pub(crate) use crate::array::{HostValue, Leaf};
pub(crate) use crate::error::{Why, refuse};
pub(crate) use crate::{DType, Datum, Kind, Tensor};

pub(crate) use crate::budget::Work;
use crate::facts::Fact;
use crate::graph::ValueId;
use crate::kernels::expr::{Builder, Reg};
use crate::plan::{Lower, Pairing};
pub(crate) use crate::shape::product;
use division::Division;

/// An operator with its attributes parsed.
pub(crate) trait Operator: Debug + Send + Sync {
    /// Dtypes and shapes of the outputs. `inputs[i].value` is known for the operands that `shape_operands` names, and may be
    /// known for others.
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why>;

    /// The CPU reference: plain loops over f64 and i128, simple enough to be checked by reading. It only gets inputs that
    /// `infer` accepts.
    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why>;

    /// What one `eval` costs at most: a budget is charged with it before `eval` is called. The default holds for an `eval` that
    /// takes a bounded number of steps for each element of its inputs and outputs, and makes few temporary arrays. Where
    /// `shapes_depend_on_data`, there are no outputs yet. `tests::work` has each operator's inner loops, counted by hand.
    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        Ok(of_elements(inputs, outputs))
    }

    /// The inputs whose values decide the outputs' shapes or the choice of kernels. The planner computes them on the host.
    fn shape_operands(&self) -> &[usize] {
        &[]
    }

    /// Whether the device reads the elements of input `i`. It does not where only the input's dtype, shape or known value
    /// matters.
    fn reads_data(&self, i: usize) -> bool {
        !self.shape_operands().contains(&i)
    }

    /// Whether the outputs' shapes depend on the elements of all inputs: `infer` then needs their values, but planning does
    /// not compute these for it (`NonZero`).
    fn shapes_depend_on_data(&self) -> bool {
        false
    }

    /// The inputs whose elements decide how many elements the outputs have, where `spelled` says how a device computes the node.
    fn counted(&self) -> &[usize] {
        &[]
    }

    /// Writes nodes that compute the outputs. They find how many elements there are in a tensor with room for all, so that the
    /// host reads no more than a number.
    fn spelled(&self, _body: &mut Body) -> Result<Vec<ValueId>, Why> {
        refuse!("the outputs' shapes depend on data that only a run knows")
    }

    /// Whether the outputs depend on the inputs' shapes alone (`Shape`, `Size`).
    fn reads_shapes_only(&self) -> bool {
        false
    }

    /// Whether each run computes other outputs from the same inputs.
    fn draws(&self) -> bool {
        false
    }

    /// Emits the operator's scalar expression, if each output element depends only on the input elements that broadcasting
    /// pairs with it, and on its own place. These operators fuse, and need no `lower`. An input whose elements are not read is
    /// `None`.
    fn pointwise(&self, _e: &mut Builder, _inputs: &[Option<Reg>], _out: DType) -> Option<Reg> {
        None
    }

    /// The input that `pointwise` gets as a table, of which it picks elements with [`Builder::pick`].
    fn table(&self) -> Option<usize> {
        None
    }

    /// How `pointwise` pairs the elements of input `i` with those of the outputs, if not by broadcasting the input's own
    /// shape.
    fn pairing(&self, _i: usize, _inputs: &[Option<&Fact>]) -> Result<Option<Pairing>, Why> {
        Ok(None)
    }

    /// Whether `pointwise` takes only a few cycles, so that a kernel may compute it anew for each load of an element.
    fn is_cheap(&self) -> bool {
        false
    }

    /// Whether `lower` packs input `i` where that is a constant, or a view of one.
    fn packs(&self, _i: usize) -> bool {
        false
    }

    /// How the outputs are computed in parts along this axis of all of them; `None` where they are not. It serves tensors that are
    /// larger than what a device binds at once.
    fn division(&self, axis: usize, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Option<Division> {
        Division::of_maps(self.maps(), axis, inputs, outputs)
    }

    /// How output 0 is computed as a sum, each summand from parts of the inputs.
    fn summands(&self, _inputs: &[Option<&Fact>], _outputs: &[Fact]) -> Option<Division> {
        None
    }

    /// The input whose single elements become the output's single elements, if all other inputs are scalars.
    fn maps(&self) -> Maps {
        Maps::Nothing
    }

    /// The input whose elements are places along an axis of input 0, which has `rank` dimensions, and that axis.
    fn picks(&self, _rank: usize) -> Option<(usize, usize)> {
        None
    }

    /// Whether output 0 has the elements of input 0, in another order or under another shape.
    fn moves_elements(&self) -> bool {
        false
    }

    /// Whether `lower` has kernels for float64. Not asked of operators with `pointwise`, nor of those that move elements.
    fn computes_f64(&self) -> bool {
        false
    }

    /// Whether `lower` has kernels for 64-bit integers. Not asked of operators with `pointwise`, nor of those that move elements.
    fn computes_i64(&self) -> bool {
        self.computes_f64()
    }

    /// Whether a float16 or bfloat16 result is rounded at once, because the operator is meant to round. Other results keep
    /// float32 precision until they are stored or reach an operator that rounds.
    fn rounds(&self, _inputs: &[Option<&Fact>]) -> bool {
        false
    }

    /// Whether the result has the numbers of input 0, in a dtype that holds all of them with more bits: kernels can then load
    /// input 0 in place of the result.
    fn widens(&self, _inputs: &[Option<&Fact>]) -> bool {
        false
    }

    /// Whether an absolute error of input 0 becomes a relative error of the result, as in `exp`.
    fn exponentiates(&self) -> bool {
        false
    }

    /// Whether `lower` works without output 0 where only others are read. Otherwise the graph gets a value for it.
    fn first_output_is_optional(&self) -> bool {
        false
    }

    /// Whether output 0 is always input 0, unchanged.
    fn passes_input_on(&self) -> bool {
        false
    }

    /// Whether `lower` puts [`Lower::epilogue`] into its last kernel.
    fn takes_epilogue(&self) -> bool {
        false
    }

    /// Whether `lower` reads input 0 through [`rows::Rows::new`] or [`accumulate::Source::loaded`], so that a kernel can
    /// compute the input's elements in a prologue.
    fn takes_prologue(&self) -> bool {
        false
    }

    /// The subgraphs that the operator runs, in the order in which their captures stand among the node's inputs. Such an
    /// operator has no `infer`, no `eval` and no kernel: the reference and the session run its subgraphs.
    fn subgraphs(&self) -> Vec<&Arc<Graph>> {
        Vec::new()
    }

    /// The operator's computation on values that may be containers. Such an operator has no `infer`, no `eval` and no kernel: the
    /// host runs it. Any other operator runs on the host too where its inputs or outputs are strings.
    fn host(&self) -> Option<&dyn HostOperator> {
        None
    }

    /// Whether the operator works on containers or on words, so that the host runs it whatever its inputs are.
    fn is_for_host(&self) -> bool {
        self.host().is_some()
    }

    /// What the outputs are, where that does not follow from the inputs' dtypes and `types!`: an attribute says it, or a subgraph.
    fn kinds(&self, _inputs: &[Option<&Kind>]) -> Option<Vec<Kind>> {
        None
    }

    /// Emits kernel calls that compute the outputs on the device.
    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        cx.check_dtypes()?;
        cx.check_float64()?;
        refuse!("has no GPU kernel")
    }
}

/// The input whose single elements an operator maps to single elements of its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Maps {
    /// The operator maps none.
    Nothing,
    /// Input 0; the other inputs are scalars.
    First,
    /// Input 0; an axis of another input belongs to an axis of it.
    FirstByAxis,
    /// Any input: all broadcast.
    Any,
}

/// A node as the parser of its operator sees it.
pub(crate) struct NodeDef<'a> {
    /// The operator's name, without domain.
    pub(crate) op_type: &'a str,
    /// The opset version imported for the operator's domain.
    pub(crate) opset: i64,
    pub(crate) attributes: &'a Attributes,
    /// For each input, whether it is given.
    pub(crate) inputs: &'a [bool],
    /// For each output, whether the node lists it.
    pub(crate) listed: &'a [bool],
    /// For each output, whether anything reads it.
    pub(crate) outputs: &'a [bool],
}

impl NodeDef<'_> {
    /// Whether input `i` is given.
    pub(crate) fn has_input(&self, i: usize) -> bool {
        self.inputs.get(i) == Some(&true)
    }

    /// The number of outputs, without those at the end that nothing reads.
    pub(crate) fn output_count(&self) -> usize {
        self.outputs.iter().rposition(|&wanted| wanted).map_or(0, |last| last + 1)
    }
}

/// One line of the operator table.
pub(crate) struct Row {
    /// The operator's domain; empty for ONNX's own.
    pub(crate) domain: &'static str,
    pub(crate) name: &'static str,
    /// The first and the last opset version that the parser understands.
    pub(crate) opsets: (i64, i64),
    /// The dtypes that ONNX lets the operator take.
    pub(crate) types: Types,
    pub(crate) parse: fn(&NodeDef) -> Result<Op, Why>,
    #[cfg_attr(not(test), allow(dead_code))] // Cases are read by tests.
    pub(crate) cases: fn() -> Vec<case::Case>,
}

/// The domain of operators that only passes make.
pub(crate) const OWN_DOMAIN: &str = "sardonyx";

/// The newest opset version of the ONNX domain for which the parsers were written.
pub(crate) const NEWEST_OPSET: i64 = 28;

/// An operator of ONNX's own domain, in every version from `since` to the newest.
pub(crate) const fn onnx(
    name: &'static str,
    since: i64,
    types: Types,
    parse: fn(&NodeDef) -> Result<Op, Why>,
    cases: fn() -> Vec<case::Case>,
) -> Row {
    Row { domain: "", name, opsets: (since, NEWEST_OPSET), types, parse, cases }
}

/// An operator of com.microsoft's domain, which has one version.
pub(crate) const fn microsoft(
    name: &'static str,
    types: Types,
    parse: fn(&NodeDef) -> Result<Op, Why>,
    cases: fn() -> Vec<case::Case>,
) -> Row {
    Row { domain: "com.microsoft", name, opsets: (1, 1), types, parse, cases }
}

macro_rules! operators {
    ($($module:ident: $type:ident),*; $($composed:ident),* $(,)?) => {
        $(pub(crate) mod $module;)*
        $(mod $composed;)*

        /// Every operator, with parsed attributes.
        #[derive(Clone, Debug)]
        pub(crate) enum Op {
            /// An operator that Sardonyx does not have, with the reason.
            Unsupported(String),
            $($type(Arc<$module::$type>),)*
        }

        $(impl From<$module::$type> for Op {
            fn from(op: $module::$type) -> Op {
                Op::$type(Arc::new(op))
            }
        })*

        impl Op {
            pub(crate) fn operator(&self) -> &dyn Operator {
                match self {
                    Op::Unsupported(_) => &Unsupported,
                    $(Op::$type(op) => op.as_ref(),)*
                }
            }
        }

        /// The operator table.
        pub(crate) static TABLE: &[&[Row]] = &[$($module::ROWS,)* $($composed::ROWS),*];
    };
}

// One line for each operator's file: `file: StructOfParsedAttributes`; then one for each file of operators that others define.
operators! {
    activation: Activation,
    affine_grid: AffineGrid,
    arg: Arg,
    array_feature_extractor: ArrayFeatureExtractor,
    attention: Attention,
    batch_norm: BatchNorm,
    binary: Binary,
    binarizer: Binarizer,
    bit_cast: BitCast,
    branch: If,
    byte_table: ByteTable,
    cast: Cast,
    causal_conv: CausalConv,
    clip: Clip,
    col2im: Col2Im,
    composed: Composed,
    compress: Compress,
    concat: Concat,
    concat_from_sequence: ConcatFromSequence,
    constant_of_shape: ConstantOfShape,
    conv: Conv,
    conv_integer: ConvInteger,
    conv_transpose: ConvTranspose,
    cosine_window: CosineWindow,
    cumulative: Cumulative,
    depth_to_space: DepthToSpace,
    deform_conv: DeformConv,
    dequantize: Dequantize,
    det: Det,
    dft: Dft,
    dropout: Dropout,
    dynamic_quantize: DynamicQuantize,
    einsum: Einsum,
    expand: Expand,
    eye_like: EyeLike,
    feature_vectorizer: FeatureVectorizer,
    fused_matmul: FusedMatMul,
    gather: Gather,
    gather_block_quantized: UnpackedBits,
    gather_elements: GatherElements,
    gather_nd: GatherNd,
    gemm: Gemm,
    grid_sample: GridSample,
    image_decoder: ImageDecoder,
    imputer: Imputer,
    inverse: Inverse,
    is_inf: IsInf,
    label_encoder: LabelEncoder,
    linear_attention: LinearAttention,
    linear_model: LinearModel,
    loss: Loss,
    lp_normalization: LpNormalization,
    lrn: Lrn,
    map_vector: MapVector,
    matmul: MatMul,
    matmul_integer: MatMulInteger,
    matmul_nbits: MatMulNBits,
    max_roi_pool: MaxRoiPool,
    max_unpool: MaxUnpool,
    mel_weight_matrix: MelWeightMatrix,
    non_max_suppression: NonMaxSuppression,
    non_zero: NonZero,
    normalization: Normalization,
    normalizer: Normalizer,
    one_hot: OneHot,
    one_hot_encoder: OneHotEncoder,
    optional: OptionalValue,
    pad: Pad,
    pool: Pool,
    prelu: PRelu,
    qlinear_conv: QLinearConv,
    qlinear_matmul: QLinearMatMul,
    qlinear_binary: QLinearBinary,
    quantize: Quantize,
    random: Random,
    range: Range,
    recurrent: Recurrent,
    reduce: Reduce,
    regex_full_match: RegexFullMatch,
    repeat: Loop,
    reshape: Reshape,
    resize: Resize,
    reverse_sequence: ReverseSequence,
    roi_align: RoiAlign,
    rotary_embedding: RotaryEmbedding,
    scaler: Scaler,
    scan: Scan,
    scatter_elements: ScatterElements,
    scatter_nd: ScatterNd,
    select: Where,
    sequence: Sequence,
    sequence_map: SequenceMap,
    shape: ShapeQuery,
    skip_normalization: SkipNormalization,
    slice: Slice,
    softmax: Softmax,
    split: Split,
    split_to_sequence: SplitToSequence,
    stft: Stft,
    string_concat: StringConcat,
    string_normalizer: StringNormalizer,
    string_split: StringSplit,
    svm: Svm,
    tensor_scatter: TensorScatter,
    tf_idf: TfIdf,
    tile: Tile,
    tokenizer: Tokenizer,
    top_k: TopK,
    transpose: Transpose,
    tree_ensemble: TreeEnsemble,
    trilu: Trilu,
    unary: Unary,
    unique: Unique,
    zip_map: ZipMap;

    bernoulli,
    bias_add,
    dynamic_quantize_lstm,
    embed_layer_norm,
    flex_attention,
    fused_conv,
    fused_gemm,
    group_norm,
    group_query_attention,
    matmul_scaled,
    moe,
    multi_head_attention,
    nhwc_max_pool,
    old,
    qlinear_concat,
    qlinear_unary,
    sparse_attention,
}

/// The work of reading all inputs and making all outputs, with an index for each element.
pub(crate) fn of_elements(inputs: &[Option<&Fact>], outputs: &[Fact]) -> Work {
    let with_indices = |array: Work| match array.bytes {
        0 => array,
        bytes => {
            let indices = array.steps.saturating_mul(size_of::<usize>() as u64);
            Work { bytes: bytes.saturating_add(indices), ..array }
        }
    };
    inputs.iter().flatten().copied().chain(outputs).map(of_array).map(with_indices).sum()
}

/// The work of reading or making one array.
pub(crate) fn of_array(fact: &Fact) -> Work {
    Work::array(fact.dtype, &fact.shape)
}

/// The comparisons for each element when `count` elements are sorted.
pub(crate) fn sorting(count: usize) -> usize {
    count.max(2).ilog2() as usize + 1
}

/// Stands for an operator that Sardonyx does not have.
#[derive(Debug)]
struct Unsupported;

impl Operator for Unsupported {
    fn infer(&self, _: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        refuse!("is not supported")
    }

    fn eval(&self, _: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        refuse!("is not supported")
    }
}

/// All rows of the table.
pub(crate) fn rows() -> impl Iterator<Item = &'static Row> {
    TABLE.iter().copied().flatten()
}

/// The subgraph that a node has as an attribute.
pub(crate) fn subgraph(def: &NodeDef, key: &str) -> Result<Arc<Graph>, Why> {
    match def.attributes.graph(key)? {
        Some(graph) => Ok(Arc::from(graph)),
        None => refuse!("attribute '{key}' is required"),
    }
}

/// Input `i`, which the operator requires.
pub(crate) fn required<T: Copy>(inputs: &[Option<T>], i: usize) -> Result<T, Why> {
    match inputs.get(i) {
        Some(Some(input)) => Ok(*input),
        _ => refuse!("input {i} is required"),
    }
}

/// Input `i`, if it is given.
pub(crate) fn optional<T: Copy>(inputs: &[Option<T>], i: usize) -> Option<T> {
    inputs.get(i).copied().flatten()
}
