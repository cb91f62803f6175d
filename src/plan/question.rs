//! What lowering asks about sizes, one enum for each kind of answer. A kernel is compiled for the answers, so these must hold
//! for every size that the graph runs with: [`super::specialisation`] keeps them.
//!
//! An example: a product of `[rows, 64]` by `[64, columns]` asks [`Multiple::Right`] of the stride 64 of its right operand's
//! rows, and reads four columns at once if the answer is yes.

use crate::graph::ValueId;

/// Whether something holds in every plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Always {
    /// What an operator moves to this output is a view of an input: dense, and a binding may begin there.
    View(usize),
    /// The elements of a prologue, before this operand of the kernel, are found by their place in the lines that the kernel
    /// reads.
    Loaded(&'static str),
    /// That prologue's operands are read few times for each element.
    FewReads(&'static str),
    /// This operand of fused code has one element for each row of the kernel's matrix.
    OperandOfRows(usize),
    /// This operand of fused code has one element for each column of the kernel's matrix.
    OperandOfColumns(usize),
    /// This constant is one element, which is then a parameter of fused code.
    SingleConstant(ValueId),
    /// One row is gathered, and which is known.
    SingleRow,
    /// A product's result has one column.
    OneColumn,
    /// A product's right operand lies row by row.
    ByRows,
    /// A product's sum is too short to share what is loaded.
    ShortSum,
    /// A convolution is a matrix product.
    IsProduct,
    /// No window reaches into the padding.
    Inside,
    /// A row's elements are neighbours in memory.
    Contiguous,
    /// A row is one dimension.
    OneReduced,
    /// The rows are numbered by one dimension.
    OneKept,
}

/// Whether numbers are multiples of 4 in every plan: sizes and strides of what is read in vectors of 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Multiple {
    /// Of a product's left operand.
    Left,
    /// Of a product's right operand.
    Right,
    /// Strides between the right operands of a batch.
    RightBatch,
    /// The terms of a product's sum.
    Terms,
    /// Of a reduction's rows.
    Rows,
    /// Of a convolution's weights.
    Weights,
}

/// Whether a number is the same in every plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Same {
    /// The rows of a product.
    Rows,
}

/// How many dimensions a kernel is compiled for: the most that any plan has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Rank {
    /// Of a product's batch.
    Batch,
    /// Of this copy of the operator's.
    Copy(usize),
    /// Of a copy of this value, which an operator left where it was.
    Gathered(ValueId),
    /// Of what a reduction keeps.
    Kept,
    /// Of what a reduction folds.
    Reduced,
}

/// Which tile a kernel is compiled for: two numbers, such as rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Tiling {
    /// Of a product over any strides.
    Strided,
    /// Of a product for software devices.
    Lanes,
    /// Of the same, only its columns, by which weights are packed.
    LanesColumns,
    /// Of a product whose rows are few, as rows and 0; 0 rows if another kernel takes it.
    Split,
    /// Of a product or convolution in workgroup memory.
    Shared,
    /// Whether a tiled product's sum is cut into slices, as 0 or 1, and 0.
    Slices,
    /// How a reduction's rows are cut, as a number of `Cut`'s and a vector's width.
    Cut,
    /// Of a depthwise convolution.
    Depthwise,
    /// Of a convolution for software devices.
    ConvLanes,
}

/// Whose elements an index finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum IndexOf {
    /// This value's, in fused code.
    Value(ValueId),
    /// This operand's, in code of an operator's own.
    Number(usize),
    /// This side's of a reduction.
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
    /// How an operand's element is found.
    Index(IndexOf),
}

#[cfg(test)]
impl Question {
    /// Whether the question itself says what it is about. The others are about the kernel that an operator asks for next, so that
    /// their order matters.
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
            ),
            _ => false,
        }
    }
}
