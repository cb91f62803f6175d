//! Steps that multiply matrices.

use super::Open;
use super::bounds::{Bounds, GRID};
use crate::ops::Attr;

pub(super) fn product(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let last = x.rank().checked_sub(1)?;
    let k = x.fixed(last).filter(|&k| k > 0)?;
    let n = g.dice.of(&[1, 3, 4, 8, 12, 20, 33, 64]);
    let weights = match (x.rank() > 2).then(|| x.fixed(x.rank() - 3)).flatten() {
        Some(batch) if g.dice.one_in(4) => g.constant(&[batch, k, n]),
        _ => g.constant(&[k, n]),
    };
    g.node("MatMul", &[], &[x.id, weights], x.bounds.product(GRID).times(k))
}

pub(super) fn pair(g: &mut Open) -> Option<()> {
    let (a, b) = (g.pick(), g.pick());
    let last = a.rank().checked_sub(1)?;
    if b.rank() == 0 {
        return None;
    }
    g.terms = a.most(&[last]);
    g.node("MatMul", &[], &[a.id, b.id], a.bounds.product(b.bounds).times(a.most(&[last])))
}

/// The product of a value with itself, transposed, like the scores of attention.
pub(super) fn square(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let rank = x.rank();
    if !(2..=4).contains(&rank) {
        return None;
    }
    let (rows, columns) = (rank - 2, rank - 1);
    let mut perm: Vec<i64> = (0..rank as i64).collect();
    perm.swap(rows, columns);
    let turned = g.sketch.transpose(x.id, &perm);
    let inner = g.dice.one_in(3);
    let (inputs, k) = if inner { ([turned, x.id], rows) } else { ([x.id, turned], columns) };
    g.terms = x.most(&[k]);
    let mut id = g.inner("MatMul", &[], &inputs)?;
    let mut bounds = x.bounds.product(x.bounds).times(x.most(&[k]));
    if g.dice.one_in(2) {
        let scale = g.sketch.scalar(0.125);
        id = g.inner("Mul", &[], &[id, scale])?;
        bounds = bounds.product(Bounds { size: 0.125, unit: 0.125, error: 0.0 });
    }
    g.take(&[x.id], &[(id, bounds)])
}

pub(super) fn gemm(g: &mut Open) -> Option<()> {
    let x = g.pick();
    if x.rank() != 2 {
        return None;
    }
    let a = usize::from(g.dice.one_in(3));
    let k = x.fixed(1 - a).filter(|&k| k > 0)?;
    let (b, n) = (g.dice.below(2), g.dice.of(&[1, 3, 4, 8, 20]));
    let (weights, bias) = (g.constant(&if b == 1 { [n, k] } else { [k, n] }), g.constant(&[n]));
    let bounds = x.bounds.product(GRID).times(k).sum(GRID);
    g.node(
        "Gemm",
        &[("transA", Attr::Int(a as i64)), ("transB", Attr::Int(b as i64))],
        &[x.id, weights, bias],
        bounds,
    )
}

pub(super) fn einsum(g: &mut Open) -> Option<()> {
    let (a, b) = (g.pick(), g.pick());
    let equations: &[(&str, usize)] = match (a.rank(), b.rank()) {
        (2, 2) => &[("ij,kj->ik", 1), ("ij,ik->jk", 0), ("ij,ij->i", 1)],
        (3, 3) => &[("bij,bkj->bik", 2), ("bij,bkj->ibk", 2), ("bij,bik->bjk", 1)],
        (4, 4) => &[("bhqd,bhkd->bhqk", 3), ("bqhd,bkhd->bhqk", 3)],
        _ => return None,
    };
    let (equation, k) = g.dice.of(equations);
    g.terms = a.most(&[k]);
    let bounds = a.bounds.product(b.bounds).times(a.most(&[k]));
    g.node("Einsum", &[("equation", Attr::String(equation.into()))], &[a.id, b.id], bounds)
}
