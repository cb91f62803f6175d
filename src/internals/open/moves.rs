//! Steps that move elements.

use super::Open;
use super::bounds::{Bounds, GRID};
use super::windows::image;
use crate::graph::ValueId;
use crate::ops::{Attr, case};

pub(super) fn transpose(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let mut perm: Vec<i64> = (0..x.rank() as i64).collect();
    for i in (1..perm.len()).rev() {
        perm.swap(i, g.dice.below(i + 1));
    }
    g.node("Transpose", &[("perm", Attr::Ints(perm))], &[x.id], x.bounds)
}

pub(super) fn slice(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let axis = g.axis(&x)? as i64;
    let ranges = [
        (0, -1, 1),
        (1, i64::MAX, 1),
        (-1, i64::MIN, -1),
        (0, i64::MAX, 2),
        (-4, i64::MAX, 1),
        (0, 4, 1),
        (-1, i64::MIN, -2),
    ];
    let (start, end, step) = g.dice.of(&ranges);
    let lists = [start, end, axis, step].map(|n| g.list(&[n]));
    g.node("Slice", &[], &[x.id, lists[0], lists[1], lists[2], lists[3]], x.bounds)
}

pub(super) fn concat(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let axis = g.axis(&x)?;
    let attributes = [("axis", Attr::Int(axis as i64))];
    let constant =
        (0..x.rank()).map(|d| if d == axis { Some(2) } else { x.fixed(d) }).collect::<Option<Vec<_>>>();
    let (other, bounds) = match g.dice.below(3) {
        0 => (x.id, x.bounds),
        1 if constant.is_some() => (g.constant(&constant?), GRID),
        _ => {
            let other = g.pick();
            (other.id, other.bounds)
        }
    };
    let mut inputs = if g.dice.one_in(2) { vec![x.id, other] } else { vec![other, x.id] };
    if g.dice.one_in(4) {
        inputs.push(x.id);
    }
    g.node("Concat", &attributes, &inputs, x.bounds.join(bounds))
}

pub(super) fn split(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let axis = g.axis(&x)? as i64;
    let parts = 2 + g.dice.below(2);
    let attributes = [("axis", Attr::Int(axis)), ("num_outputs", Attr::Int(parts as i64))];
    let first = g.node_of("Split", &attributes, &[Some(x.id)], parts)?;
    let outputs: Vec<_> = (0..parts as u32).map(|i| (ValueId(first.0 + i), x.bounds)).collect();
    g.take(&[x.id], &outputs)
}

pub(super) fn pad(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let axis = g.axis(&x)?;
    let mut pads = vec![0; 2 * x.rank()];
    (pads[axis], pads[axis + x.rank()]) = (g.dice.below(3) as i64, g.dice.below(3) as i64);
    let mode = ("mode", Attr::String(g.dice.of(&["constant", "constant", "edge", "reflect"]).into()));
    let list = g.list(&pads);
    let fill = g.sketch.scalar(0.5);
    let bounds = x.bounds.join(Bounds { size: 0.5, unit: 0.5, error: 0.0 });
    g.node("Pad", &[mode], &[x.id, list, fill], bounds)
}

pub(super) fn gather(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let axis = g.axis(&x)?;
    if x.sizes(axis).any(|n| n == 0) {
        return None;
    }
    let attributes = [("axis", Attr::Int(axis as i64))];
    let indices = match g.dice.below(3) {
        0 => g.sketch.constant(case::values(&[], &[0i64])),
        1 => g.list(&[0, -1, 0]),
        _ => g.sketch.constant(case::values(&[2, 1], &[-1i64, 0])),
    };
    g.node("Gather", &attributes, &[x.id, indices], x.bounds)
}

/// Slices of the first axis, written to other places.
pub(super) fn scatter(g: &mut Open) -> Option<()> {
    let x = g.pick();
    if x.rank() < 2 || x.sizes(0).any(|n| n == 0) {
        return None;
    }
    let first = [0, 1, 0, 1].map(|n| g.list(&[n]));
    let updates = g.inner("Slice", &[], &[x.id, first[0], first[1], first[2], first[3]])?;
    let doubled = g.inner("Add", &[], &[updates, updates])?;
    let indices = g.sketch.constant(case::values(&[1, 1], &[-1i64]));
    let reduction = g.dice.of(&["none", "add"]);
    let attributes = [("reduction", Attr::String(reduction.into()))];
    let id = g.inner("ScatterND", &attributes, &[x.id, indices, doubled])?;
    g.take(&[x.id], &[(id, x.bounds.sum(x.bounds).sum(x.bounds))])
}

pub(super) fn expand(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let mut id = x.id;
    if g.dice.one_in(2) {
        let axis = g.dice.below(x.rank() + 1) as i64;
        let axis = g.list(&[axis]);
        id = g.inner("Unsqueeze", &[], &[id, axis])?;
    }
    let shape: Vec<i64> = (0..1 + g.dice.below(x.rank() + 1)).map(|_| g.dice.of(&[1, 1, 2, 3])).collect();
    let shape = g.list(&shape);
    let id = g.inner("Expand", &[], &[id, shape])?;
    g.take(&[x.id], &[(id, x.bounds)])
}

pub(super) fn reshape(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let rank = x.rank();
    let mut shape = vec![0i64; rank];
    match g.dice.below(6) {
        // Splits an axis into two.
        0 => {
            let axis = g.axis(&x)?;
            shape.insert(axis, -1);
            shape[axis + 1] = g.dice.of(&[2, 4]);
            // A zero in one of the later places would copy another dimension.
            for (d, size) in shape.iter_mut().enumerate().skip(axis + 2) {
                *size = x.fixed(d - 1)? as i64;
            }
        }
        // Merges two axes into one.
        1 | 2 => {
            let axis = g.dice.below(rank.checked_sub(1).filter(|&places| places > 0)?);
            shape.remove(axis + 1);
            shape[axis] = -1;
            for (d, size) in shape.iter_mut().enumerate().skip(axis + 1) {
                *size = x.fixed(d + 1)? as i64;
            }
        }
        3 => shape = vec![-1],
        4 => {
            let axis = ("axis", Attr::Int(g.dice.below(rank + 1) as i64));
            return g.node("Flatten", &[axis], &[x.id], x.bounds);
        }
        _ => {
            let axis = g.dice.below(rank + 1) as i64;
            let axis = g.list(&[axis]);
            return g.node("Unsqueeze", &[], &[x.id, axis], x.bounds);
        }
    }
    let shape = g.list(&shape);
    g.node("Reshape", &[], &[x.id, shape], x.bounds)
}

/// A shape that is computed: the last axis first, or ones in the shape of a value.
pub(super) fn by_shape(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let of = g.inner("Shape", &[], &[x.id])?;
    match g.dice.below(3) {
        0 => {
            let picks = g.list(&[-1]);
            let last = g.inner("Gather", &[("axis", Attr::Int(0))], &[of, picks])?;
            let rest = g.list(&[-1]);
            let shape = g.inner("Concat", &[("axis", Attr::Int(0))], &[last, rest])?;
            let id = g.inner("Reshape", &[], &[x.id, shape])?;
            g.take(&[x.id], &[(id, x.bounds)])
        }
        1 => {
            let value = ("value", Attr::Tensor(case::values(&[1], &[0.5f32])));
            let filled = g.inner("ConstantOfShape", &[value], &[of])?;
            let id = g.inner("Mul", &[], &[x.id, filled])?;
            g.take(&[x.id], &[(id, x.bounds.product(Bounds { size: 0.5, unit: 0.5, error: 0.0 }))])
        }
        _ => {
            let y = g.pick();
            let id = g.inner("Expand", &[], &[y.id, of])?;
            g.take(&[x.id, y.id], &[(id, y.bounds)])
        }
    }
}

pub(super) fn tile(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let repeats: Vec<i64> = (0..x.rank()).map(|_| g.dice.of(&[1, 1, 2])).collect();
    let repeats = g.list(&repeats);
    g.node("Tile", &[], &[x.id, repeats], x.bounds)
}

pub(super) fn resize(g: &mut Open) -> Option<()> {
    let (x, _) = image(g)?;
    let last = x.rank() - 1;
    let mut scales = vec![1.0f32; x.rank()];
    scales[last] = g.dice.of(&[2.0, 2.0, 0.5, 1.5]);
    let linear = g.dice.one_in(3);
    let bounds =
        if linear { Bounds::rounded(x.bounds.size, x.bounds.error + 1e-5 * x.bounds.size) } else { x.bounds };
    // `nearest` asks on which side of a half a product lies. Only with powers of two is the answer independent of rounding.
    if x.sizes(last).any(|n| n == 0) || (!linear && scales[last] == 1.5) {
        return None;
    }
    let scales = g.sketch.constant(case::values(&[x.rank()], &scales));
    let mode = ("mode", Attr::String(if linear { "linear" } else { "nearest" }.into()));
    let id = g.node_of("Resize", &[mode], &[Some(x.id), None, Some(scales)], 1)?;
    g.take(&[x.id], &[(id, bounds)])
}

pub(super) fn blocks(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let op = g.dice.of(&["DepthToSpace", "SpaceToDepth"]);
    g.node(op, &[("blocksize", Attr::Int(2))], &[x.id], x.bounds)
}

pub(super) fn trilu(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let k = g.sketch.constant(case::values(&[], &[g.dice.of(&[-1i64, 0, 1])]));
    let upper = ("upper", Attr::Int(g.dice.below(2) as i64));
    g.node("Trilu", &[upper], &[x.id, k], x.bounds)
}
