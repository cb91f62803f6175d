//! ai.onnx.preview.FlexAttention: attention whose scores and probabilities go through subgraphs of the model.
//!
//! History: ai.onnx.preview 1.

use std::collections::BTreeMap;

use super::case::{self, Case, Tolerance};
use super::composed::Body;
use super::{Attr, DType, Graph, NodeDef, OWN_DOMAIN, Op, Row, Types, Why, refuse, types};
use crate::graph::ValueId;

const TYPES: Types = types![T T T -> T; T: FLOATS BF16];

pub(crate) const ROWS: &[Row] =
    &[Row { domain: "ai.onnx.preview", name: "FlexAttention", opsets: (1, 1), types: TYPES, parse, cases }];

/// The subgraphs, in the order in which their captures stand among the inputs.
const MODIFIERS: [&str; 2] = ["prob_mod", "score_mod"];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let mut body = Body::new(def);
    let (q, k, v) = (body.input(0)?, body.input(1)?, body.input(2)?);
    let mut modifiers: BTreeMap<&str, (&Graph, Vec<ValueId>)> = BTreeMap::new();
    for key in MODIFIERS {
        if let Some(Attr::Graph(graph)) = def.attributes.0.get(key) {
            let captures = graph.captures.iter().map(|_| body.capture()).collect();
            modifiers.insert(key, (graph, captures));
        }
    }
    let precision = match def.attributes.int("softmax_precision")? {
        Some(code) => match i32::try_from(code).ok().and_then(DType::from_onnx) {
            Some(dtype) if dtype.is_float() => Some(dtype),
            _ => refuse!("attribute 'softmax_precision' is {code}, which is no float type"),
        },
        None => None,
    };
    let in_precision = |body: &mut Body, x: ValueId| match precision {
        Some(dtype) => body.cast(x, dtype),
        None => body.node(&format!("{OWN_DOMAIN}.CastToSingle"), &[x]),
    };
    let modified = |body: &mut Body, key: &str, x: ValueId| match modifiers.get(key) {
        Some((graph, captures)) => body.inlined(graph, x, captures),
        None => Ok(x),
    };
    let [q, k, v] = [q, k, v].map(|x| body.of_rank(x, 4));
    let (q, k, v) = (q?, k?, v?);
    let (k, v) = (repeated(&mut body, q, k)?, repeated(&mut body, q, v)?);
    // Each factor of the scores takes the root of the scale.
    let root = match def.attributes.float("scale")? {
        Some(scale) => body.scalar(scale.sqrt()),
        None => {
            let size = body.size(q, 3)?;
            let size = body.cast(size, DType::F32)?;
            let size = body.node("Sqrt", &[size])?;
            let size = body.node("Sqrt", &[size])?;
            body.node("Reciprocal", &[size])?
        }
    };
    let root = body.node("CastLike", &[root, q])?;
    let (q, k) = (body.node("Mul", &[q, root])?, body.node("Mul", &[k, root])?);
    let columns = body.transposed(k, &[0, 1, 3, 2])?;
    let scores = body.node("MatMul", &[q, columns])?;
    let scores = in_precision(&mut body, scores)?;
    let scores = modified(&mut body, "score_mod", scores)?;
    let shares = body.with("Softmax", &[("axis", Attr::Int(-1))], &[scores])?;
    let shares = modified(&mut body, "prob_mod", shares)?;
    let values = in_precision(&mut body, v)?;
    let y = body.node("MatMul", &[shares, values])?;
    let y = body.node("CastLike", &[y, v])?;
    body.finish(&[y])
}

/// Keys or values with as many heads as the queries: each stands for neighbouring heads of these.
fn repeated(body: &mut Body, q: ValueId, x: ValueId) -> Result<ValueId, Why> {
    let (heads, own) = (body.size(q, 1)?, body.size(x, 1)?);
    let group = body.node("Div", &[heads, own])?;
    let (one, second) = (body.list(&[1]), body.list(&[2]));
    let times = body.joined(&[one, one, group, one, one])?;
    let each = body.node("Unsqueeze", &[x, second])?;
    let each = body.node("Expand", &[each, times])?;
    let (batch, rest) = (body.size(x, 0)?, body.with("Shape", &[("start", Attr::Int(2))], &[x])?);
    let shape = body.joined(&[batch, heads, rest])?;
    body.node("Reshape", &[each, shape])
}

fn cases() -> Vec<Case> {
    let of = |name: &str, heads: usize| {
        let case = Case::new("FlexAttention", name).domain("ai.onnx.preview").opset(1);
        let case = case.tolerance(Tolerance::TRANSCENDENTAL);
        case.input(case::random(&[2, 4, 5, 8]))
            .input(case::random(&[2, heads, 6, 8]))
            .input(case::random(&[2, heads, 6, 3]))
    };
    let code = |dtype: DType| i64::from(dtype.onnx());
    let modified = |op: &str| Attr::Graph(Box::new(modifier(op)));
    vec![
        of("plain", 4),
        of("grouped", 2),
        of("scale", 1).float("scale", 0.3),
        of("precision", 4).int("softmax_precision", code(DType::F16)).tolerance(HALVES),
        of("modified", 4).attr("score_mod", modified("Tanh")).attr("prob_mod", modified("Sqrt")),
    ]
}

/// Scores and shares are rounded to float16.
const HALVES: Tolerance = Tolerance { relative: 4e-3, absolute: 4e-3 };

/// A subgraph of one operator.
fn modifier(op: &str) -> Graph {
    let case = Case::new(op, "modifier").input(case::random(&[1, 1, 1, 1]));
    let mut graph = case::graph_of_case(&case).unwrap_or_default();
    graph.inputs.clone().iter().for_each(|id| graph.values[id.index()].shape = None);
    graph
}

#[cfg(test)]
mod tests {
    use super::super::composed::tests::evaluated;
    use super::*;

    /// The queries 1 and 1/2 see the keys 0 and -1: after Abs the scores are 0 and the query.
    #[test]
    fn scores_and_shares_are_modified() {
        let tensor = |shape: &[usize], values: &[f32]| case::values(shape, values);
        let case =
            Case::new("FlexAttention", "by hand").domain("ai.onnx.preview").opset(1).float("scale", 1.0);
        let case = case
            .input(tensor(&[1, 1, 2, 1], &[1.0, 0.5]))
            .input(tensor(&[1, 1, 2, 1], &[0.0, -1.0]))
            .input(tensor(&[1, 1, 2, 1], &[0.0, 1.0]))
            .attr("score_mod", Attr::Graph(Box::new(modifier("Abs"))))
            .attr("prob_mod", Attr::Graph(Box::new(modifier("Sqrt"))));
        let share = |x: f64| (1.0 - 1.0 / (1.0 + x.exp())).sqrt();
        let y = evaluated(&case);
        for (y, x) in y.iter().zip([1.0, 0.5]) {
            assert!((y - share(x)).abs() < 1e-6, "{y} is not {}", share(x));
        }
    }
}
