//! Steps that compute single elements.

use super::Open;
use super::bounds::{Bounds, FUNCTION, GRID};
use crate::graph::ValueId;
use crate::ops::Attr;

pub(super) fn unary(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let (id, b) = (x.id, x.bounds);
    let op = g.dice.of(&["Relu", "Neg", "Abs", "Identity", "LeakyRelu", "Clip", "Floor", "Round", "Sign"]);
    if matches!(op, "Floor" | "Round" | "Sign") && !b.is_exact() {
        return None;
    }
    match op {
        "LeakyRelu" => g.node(op, &[("alpha", Attr::Float(0.5))], &[id], Bounds { unit: b.unit / 2.0, ..b }),
        "Clip" => {
            let ends = [-1.0, 1.5].map(|end| g.sketch.scalar(end));
            g.node(op, &[], &[id, ends[0], ends[1]], Bounds { unit: b.unit.min(0.5), ..b })
        }
        "Floor" | "Round" | "Sign" => {
            g.node(op, &[], &[id], Bounds { size: b.size.ceil().max(1.0), unit: 1.0, ..b })
        }
        _ => g.node(op, &[], &[id], b),
    }
}

pub(super) fn function(g: &mut Open) -> Option<()> {
    let x = g.pick();
    // All of these have slopes of at most 1.2.
    let op = g.dice.of(&["Tanh", "Sigmoid", "Erf", "HardSigmoid", "Softplus", "Softsign", "Gelu", "Elu"]);
    let (size, slope) = match op {
        "Softplus" | "Gelu" | "Elu" => (x.bounds.size + 1.0, 1.2),
        _ => (1.0, 1.2),
    };
    g.node(op, &[], &[x.id], Bounds::rounded(size, slope * x.bounds.error + FUNCTION * size))
}

fn apply(g: &mut Open, a: (ValueId, Bounds), b: (ValueId, Bounds)) -> Option<()> {
    let (a, b) = if g.dice.one_in(2) { (a, b) } else { (b, a) };
    let op = g.dice.of(&["Add", "Sub", "Mul", "Max", "Min"]);
    let bounds = match op {
        "Add" | "Sub" => a.1.sum(b.1),
        "Mul" => a.1.product(b.1),
        _ => a.1.join(b.1),
    };
    g.node(op, &[], &[a.0, b.0], bounds)
}

pub(super) fn binary(g: &mut Open) -> Option<()> {
    let (a, b) = (g.pick(), g.pick());
    apply(g, (a.id, a.bounds), (b.id, b.bounds))
}

pub(super) fn with_constant(g: &mut Open) -> Option<()> {
    let x = g.pick();
    let shape = g.broadcast(&x);
    let constant = g.constant(&shape);
    apply(g, (x.id, x.bounds), (constant, GRID))
}

pub(super) fn choice(g: &mut Open) -> Option<()> {
    let (by, a, b) = (g.pick_exact()?, g.pick(), g.pick());
    let limit = g.sketch.scalar(0.25);
    let op = g.dice.of(&["Less", "Greater", "GreaterOrEqual", "Equal"]);
    let condition = g.inner(op, &[], &[by.id, limit])?;
    let id = g.inner("Where", &[], &[condition, a.id, b.id])?;
    g.take(&[by.id, a.id, b.id], &[(id, a.bounds.join(b.bounds))])
}

pub(super) fn sum_of_three(g: &mut Open) -> Option<()> {
    let (a, b, c) = (g.pick(), g.pick(), g.pick());
    let op = g.dice.of(&["Sum", "Max", "Min"]);
    let bounds = if op == "Sum" {
        a.bounds.sum(b.bounds).sum(c.bounds)
    } else {
        a.bounds.join(b.bounds).join(c.bounds)
    };
    g.node(op, &[], &[a.id, b.id, c.id], bounds)
}
