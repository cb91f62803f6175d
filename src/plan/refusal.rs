//! Why planning did not save a kernel, a copy or memory.

/// The rule that refused, with its sentence. Functions that decide return it. Planning itself does not read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    // Rules that decide whether fused code can hold a node.
    #[error("its operator is no expression over single elements, so it has a kernel of its own")]
    ComputesWhole,
    #[error("it has several outputs, and fused code computes one")]
    HasOutputs,
    #[error("the device does not compute with one of its element types")]
    NoRegister,
    #[error("it widens a constant of the model, which kernels convert as they load it")]
    ConvertedByReaders,
    #[error("it reads {tensors} tensors, and a kernel has bindings for {limit} besides its result")]
    ReadsMany { tensors: usize, limit: usize },

    // Rules that decide whether two nodes are fused.
    #[error("the session was made without fusion")]
    FusionOff,
    #[error("what was fused for earlier sizes of this session fits these, and is kept")]
    FusedBefore,
    #[error("one of them has a kernel of its own, which fused code may only precede or follow")]
    OwnKernel,
    #[error(
        "each is in the kernel of an operator that fused code cannot hold, and a kernel has one of these at most"
    )]
    TwoKernels,
    #[error("their results differ in shape")]
    OtherShape,
    #[error("together they would be {nodes} nodes, and a kernel holds at most {limit}")]
    ManyNodes { nodes: usize, limit: usize },
    #[error("together they would need {bindings} bindings, and a kernel has at most {limit}")]
    ManyBindings { bindings: usize, limit: usize },
    #[error("a third kernel reads the result of one of them, and the other reads the result of the third")]
    Between,
    #[error("so many kernels are between them that planning did not follow all of their {limit} readers")]
    FarApart { limit: usize },
    #[error("the fused code reports values out of range, which only kernels over elements do")]
    Reports,
    #[error("the fused code has several results that are needed outside of it")]
    SeveralResults,
    #[error("the fused code would read {operands} tensors, and the kernel has bindings for {limit}")]
    ManyOperands { operands: usize, limit: usize },
    #[error("the fused code follows another kernel already")]
    FollowsAnother,
    #[error("other fused code follows the kernel already")]
    HasEpilogue,
    #[error("the kernel has several outputs, and fused code may follow or precede those with one")]
    SeveralOutputs,
    #[error("the operator's kernel takes no fused code after it")]
    TakesNoEpilogue,
    #[error("the operator's kernel takes no fused code before it")]
    TakesNoPrologue,
    #[error("the value is an output of the graph or has other readers, so it must be in memory")]
    NeededElsewhere,
    #[error("a kernel computes only its first input while it loads, and only where it reads that once")]
    NotFirstInput,
    #[error("it would be computed each time that the kernel loads an element, and is not cheap")]
    NotCheap,

    // Rules that decide whether a kernel computes a prologue.
    #[error("for these sizes, the operator's kernel reads memory as it lies")]
    ReadsMemory,
    #[error("no operand lies line by line as the kernel loads the elements")]
    OtherLines,
    #[error("the kernel loads each element more than {limit} times")]
    LoadsOften { limit: usize },

    // Rules that decide whether a value lies in the memory of another, or is read there.
    #[error("its elements are not neighbours there in their order")]
    NotDense,
    #[error("it begins at element {element}, and a binding must begin at a multiple of {alignment} bytes")]
    Misaligned { element: i64, alignment: u64 },
    #[error("it could for these sizes, but not for others that the model allows")]
    OtherSizes,
    #[error("its elements are not found there with one stride for each dimension")]
    ManyStrides,
    #[error("a reader's kernel takes it in one piece only")]
    ReadWhole,
    #[error("its place is given: an input's or an output's buffer, a weight, or another value's memory")]
    PlaceGiven,
    #[error("its elements have another number of bits or another format in memory")]
    OtherStorage,

    // Rules that decide whether a result takes the memory of an operand.
    #[error("the operand is not in the arena: it is an input, a weight, or an output")]
    NotInArena,
    #[error("the operand is a part of a larger block")]
    PartOfBlock,
    #[error("a later kernel reads the operand's memory")]
    ReadLater,
    #[error("the kernel reads the operand's memory more than once")]
    ReadTwice,
    #[error("the kernel may read elements of the operand after it has written others there")]
    ReadsBehind,
    #[error("the result's place is given already")]
    ResultPlaced,
    #[error("an earlier kernel writes a part of the result")]
    WrittenBefore,
    #[error("operand and result differ in their number of elements")]
    OtherCount,
}

impl Refusal {
    /// The name of the rule.
    pub(crate) fn name(self) -> String {
        let text = format!("{self:?}");
        text.split([' ', '{']).next().unwrap_or_default().to_string()
    }
}
