//! What lowering asks about sizes, with one enum for each kind of answer. A kernel is compiled for the answers, so they must
//! hold for every size that the graph runs with: [`super::specialisation`] keeps them.
//!
//! An example: a product of `[rows, 64]` by `[64, columns]` asks [`Multiple::Right`] of the stride 64 of its right operand's
//! rows, and reads four columns at once if the answer is yes.

use crate::graph::ValueId;

/// Whether a statement holds in every plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Always {
    /// The elements that an operator moves to this output are a view of an input: they are dense, and a binding may begin at
    /// the first.
    View(usize),
    /// A kernel reads this operand through a prologue, and knows the place of each element in the lines that it reads.
    Loaded(&'static str),
    /// The kernel that reads this operand through a prologue reads each element only a few times.
    FewReads(&'static str),
    /// This operand of fused code has one element for each row of the kernel's matrix.
    OperandOfRows(usize),
    /// This operand of fused code has one element for each column of the kernel's matrix.
    OperandOfColumns(usize),
    /// This constant is one element, which is then a parameter of fused code.
    SingleConstant(ValueId),
    /// This value, whose elements have 16 bits, takes little memory with 32 bits.
    Precise(ValueId),
    /// A gather takes one row, and its index is known.
    SingleRow,
    /// A product's result has one column.
    OneColumn,
    /// The rows of a product's right operand are contiguous.
    ByRows,
    /// A product's sum is too short for workgroup memory to pay.
    ShortSum,
    /// All query rows of an attention have one row of the mask.
    OneMaskRow,
    /// A convolution is computed as a matrix product.
    IsProduct,
    /// No window reaches into the padding.
    Inside,
    /// The elements of a row that is reduced are neighbours in memory.
    Contiguous,
    /// The elements of a row that is reduced form one dimension.
    OneReduced,
    /// The rows that are reduced are numbered by one dimension.
    OneKept,
}

/// Whether sizes and strides are multiples of 4 in every plan, so that a kernel may read vectors of 4: those of this operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Multiple {
    /// A product's left operand.
    Left,
    /// A product's right operand.
    Right,
    /// The strides between a batch's right operands.
    RightBatch,
    /// The number of terms of a product's sum.
    Terms,
    /// The rows of a reduction.
    Rows,
    /// The weights of a convolution.
    Weights,
}

/// Whether a number is the same in every plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Same {
    /// The number of a product's rows.
    Rows,
}

/// The number of dimensions that a kernel is compiled for, which is the most that any plan has: those of this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Rank {
    /// The batch dimensions of a product.
    Batch,
    /// The operator's copy with this number.
    Copy(usize),
    /// A copy of this value, which an operator left at strides in another tensor.
    Gathered(ValueId),
    /// The dimensions that a reduction keeps.
    Kept,
    /// The dimensions that a reduction folds.
    Reduced,
}

/// The tile that a kernel is compiled for, as two numbers: 32 rows and 64 columns, for example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Tiling {
    /// Of a product over any strides: rows and columns of an invocation.
    Strided,
    /// Of a product for software devices: rows and vectors.
    Lanes,
    /// Of a product for software devices: the columns alone, by which weights are packed.
    LanesColumns,
    /// Of a product of few rows: the rows, and 0. The rows are 0 if another kernel takes the product.
    Split,
    /// Of a product or convolution in workgroup memory.
    Shared,
    /// Of a product that a tile computes: 1 if its sum is cut into slices, else 0; and 0.
    Slices,
    /// Of a product with weights in blocks: 1 if the kernel for few rows takes it, else 0; and 0.
    BlockProduct,
    /// Of a reduction: the number of the `Cut` of its rows, and the width of a vector.
    Cut,
    /// Of a depthwise convolution.
    Depthwise,
    /// Of a convolution for software devices.
    ConvLanes,
    /// Of a convolution of 3x3 windows: 1 if Winograd's transforms compute it, else 0; and 0.
    Winograd,
}

/// The operand whose elements an index finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum IndexOf {
    /// This value, in fused code.
    Value(ValueId),
    /// The operand with this number, in an operator's own code.
    Number(usize),
    /// The side of a reduction with this number.
    Side(usize),
}

/// A question of any kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Question {
    Always(Always),
    Multiple(Multiple),
    Same(Same),
    Rank(Rank),
    Tiling(Tiling),
    /// How the index of an operand's element is computed.
    Index(IndexOf),
}

#[cfg(test)]
impl Question {
    /// Whether the question names what it is about. The other questions are about the kernel that an operator asks for next,
    /// so their order matters.
    pub(super) fn says_what(self) -> bool {
        match self {
            Question::Index(_) | Question::Rank(Rank::Gathered(_) | Rank::Copy(_)) => true,
            Question::Always(question) => matches!(
                question,
                Always::View(_)
                    | Always::Loaded(_)
                    | Always::FewReads(_)
                    | Always::OperandOfRows(_)
                    | Always::OperandOfColumns(_)
                    | Always::SingleConstant(_)
                    | Always::Precise(_)
            ),
            _ => false,
        }
    }
}
