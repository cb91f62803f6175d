//! DepthToSpace and SpaceToDepth: channels become blocks of pixels, and back. Both are one transposition of six axes.
//!
//! History: DepthToSpace 1, 11 (mode), 13, 28; SpaceToDepth 1, 13, 28 (mode).

use super::case::{self, Case, Tolerance};
use super::division::{Division, InputShare};
use super::{Array, NodeDef, Op, Operator, Row, Why, onnx, refuse, required, strides, types};
use crate::array::{ravel, unravel};
use crate::facts::Fact;
use crate::plan::Lower;

/// Blocks of `block` x `block` pixels.
#[derive(Clone, Debug)]
pub(crate) struct DepthToSpace {
    block: usize,
    /// Whether the mode is CRD: a channel's number then counts slower than the place in the block.
    channel_first: bool,
    /// Whether this is SpaceToDepth.
    inverse: bool,
}

pub(crate) const ROWS: &[Row] = &[
    onnx("DepthToSpace", 1, types![T -> T; T: ALL BF16@13], parse, || cases("DepthToSpace", &[2, 12, 2, 3])),
    onnx("SpaceToDepth", 1, types![T -> T; T: ALL BF16@13], parse, || cases("SpaceToDepth", &[2, 3, 4, 6])),
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let block = match def.attributes.int("blocksize")? {
        Some(block) if (1..=1 << 15).contains(&block) => block as usize,
        Some(block) => refuse!("blocksize {block} is out of range"),
        None => refuse!("attribute 'blocksize' is required"),
    };
    let channel_first = match def.attributes.string_or("mode", "DCR")?.as_str() {
        "DCR" => false,
        "CRD" => true,
        other => refuse!("mode '{other}' is neither DCR nor CRD"),
    };
    Ok(DepthToSpace { block, channel_first, inverse: def.op_type == "SpaceToDepth" }.into())
}

/// The six axes of the input, and the order in which the result has them.
struct Blocks {
    axes: [usize; 6],
    perm: [usize; 6],
    shape: [usize; 4],
}

impl DepthToSpace {
    fn blocks(&self, shape: &[usize]) -> Result<Blocks, Why> {
        let [n, c, h, w] = *shape else { refuse!("expected a tensor of rank 4, got rank {}", shape.len()) };
        let b = self.block;
        Ok(match (self.inverse, self.channel_first) {
            (true, _) if h % b != 0 || w % b != 0 => {
                refuse!("height {h} and width {w} are not multiples of the block size {b}")
            }
            (true, channel_first) => Blocks {
                axes: [n, c, h / b, b, w / b, b],
                perm: if channel_first { [0, 1, 3, 5, 2, 4] } else { [0, 3, 5, 1, 2, 4] },
                shape: [n, c * b * b, h / b, w / b],
            },
            (false, _) if c % (b * b) != 0 => {
                refuse!("{c} channels are not a multiple of the block's {} pixels", b * b)
            }
            (false, true) => Blocks {
                axes: [n, c / (b * b), b, b, h, w],
                perm: [0, 1, 4, 2, 5, 3],
                shape: [n, c / (b * b), h * b, w * b],
            },
            (false, false) => Blocks {
                axes: [n, b, b, c / (b * b), h, w],
                perm: [0, 3, 4, 1, 5, 2],
                shape: [n, c / (b * b), h * b, w * b],
            },
        })
    }
}

impl Operator for DepthToSpace {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let x = required(inputs, 0)?;
        Ok(vec![Fact::new(x.dtype, self.blocks(&x.shape)?.shape)])
    }

    fn division(&self, axis: usize, _: &[Option<&Fact>], outputs: &[Fact]) -> Option<Division> {
        let size = *outputs.first()?.shape.get(axis)?;
        let in_order = self.channel_first || size == 1;
        match axis {
            0 => Some(Division::of(size, vec![InputShare::along(0)])),
            1 if in_order && !self.inverse => {
                Some(Division::of(size, vec![InputShare::Along { axis: 1, step: self.block * self.block }]))
            }
            _ => None,
        }
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let Blocks { axes, perm, shape } = self.blocks(&x.shape)?;
        let permuted = perm.map(|axis| axes[axis]);
        let source = |i: usize| {
            let mut from = [0; 6];
            for (at, axis) in unravel(i, &permuted).into_iter().zip(perm) {
                from[axis] = at;
            }
            Some(ravel(&from, &axes))
        };
        Ok(vec![x.gather(&shape, source, None)])
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let Blocks { axes, perm, .. } = self.blocks(&cx.fact(0)?.shape)?;
        let steps = strides::of(&axes);
        strides::gather(cx, 0, 0, &perm.map(|axis| (axes[axis], steps[axis])))
    }
}

fn cases(op: &'static str, shape: &[usize]) -> Vec<Case> {
    let of = |case: &str, shape: &[usize], block| {
        let case = Case::new(op, case).tolerance(Tolerance::EXACT).int("blocksize", block);
        case.input(case::random(shape))
    };
    let empty: Vec<usize> = std::iter::once(0).chain(shape[1..].iter().copied()).collect();
    vec![
        of("default", shape, 2),
        of("column_row_depth", shape, 2).string("mode", "CRD"),
        of("block1", shape, 1),
        of("block3", &[1, 9, 3, 6], 3),
        of("opset11", shape, 2).opset(11),
        of("empty", &empty, 2),
    ]
}
