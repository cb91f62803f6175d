//! Attention that a model spells out: a product of queries and keys, a scale, a mask, a Softmax, and a product with the values
//! become one unit, which an attention kernel computes. Whether that pays is weighed once for each graph.
//!
//! An example: `MatMul(q, k)`, `Mul` by 0.125, `Add` of a mask, `Softmax`, `MatMul` with `v` and a `Transpose` of the result. No
//! kernel stores the scores.

use super::Options;
use super::fusion::{Liveness, liveness};
use crate::DType;
use crate::array::Numbers;
use crate::facts::{Fact, Facts};
use crate::graph::{NodeId, ValueId};
use crate::kernels::attention::{AttentionTile, Unseen};
use crate::kernels::cost::{self, AttentionSize, Microseconds};
use crate::kernels::{Class, Target};
use crate::ops::broadcast::broadcast;
use crate::ops::{Graph, Node, Op};
use crate::shape::{Shape, product};

/// The most scales of one attention: of the queries, of the keys, and of their products.
const MOST_SCALES: usize = 4;

/// The most nodes that only move elements between a cache and the product with it.
const MOST_MOVERS: usize = 16;

/// The nodes of an attention, and the values that they read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpelledAttention {
    /// All nodes, of which the last computes the result.
    pub(crate) nodes: Vec<NodeId>,
    /// `[.., rows, depth]`
    pub(crate) queries: ValueId,
    /// `[.., depth, keys]`
    pub(crate) keys: ValueId,
    /// `[.., keys, depth]`
    pub(crate) values: ValueId,
    /// `[.., rows, keys]`: the result of the Softmax.
    pub(crate) weights: ValueId,
    pub(crate) mask: Option<SpelledMask>,
    /// What scores are multiplied by, or divided by where the flag is true. Planning knows these numbers.
    scales: Vec<(ValueId, bool)>,
    /// What a row gives that sees no key.
    pub(crate) unseen: Unseen,
    /// Whether the result's rows come before its heads.
    pub(crate) transposed: bool,
}

/// What hides keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SpelledMask {
    /// Numbers that are added to the scores.
    Added(ValueId),
    /// Bools that choose the scores, or a number that planning knows. `chooses`: whether true chooses the scores.
    Chosen { by: ValueId, other: ValueId, chooses: bool },
}

impl SpelledMask {
    pub(crate) fn value(&self) -> ValueId {
        match self {
            SpelledMask::Added(value) | SpelledMask::Chosen { by: value, .. } => *value,
        }
    }
}

/// The sizes of an attention.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SpelledSizes {
    /// The batch dimensions of the weights, of which two at most are other than 1.
    pub(crate) batch: Shape,
    pub(crate) rows: usize,
    pub(crate) keys: usize,
    pub(crate) depth: usize,
    pub(crate) depth_v: usize,
}

impl SpelledSizes {
    fn heads(&self) -> usize {
        product(&self.batch)
    }
}

impl SpelledAttention {
    /// All nodes but the last.
    pub(crate) fn inner(&self) -> impl Iterator<Item = &NodeId> {
        self.nodes.split_last().into_iter().flat_map(|(_, inner)| inner)
    }

    /// The sizes, if they fit an attention kernel of this target.
    pub(crate) fn sizes(&self, facts: &Facts, target: &Target) -> Option<SpelledSizes> {
        let shape = |id: ValueId| facts.get(id).map(|fact| &fact.shape[..]);
        let [batch @ .., rows, keys] = shape(self.weights)? else { return None };
        let (&[.., depth], &[.., depth_v]) = (shape(self.queries)?, shape(self.values)?) else { return None };
        let sizes = SpelledSizes { batch: batch.into(), rows: *rows, keys: *keys, depth, depth_v };
        let tile = AttentionTile::lanes(target.subgroup as usize, depth_v / 4, sizes.rows == 1, false)?;
        let most = tile.keys_per_call((depth / 4, depth_v / 4), target.max_iterations as usize);
        let whole = |size: usize| size > 0 && size.is_multiple_of(4);
        let few = batch.iter().filter(|&&size| size != 1).count() <= 2;
        let fits = few && whole(depth) && whole(depth_v) && *keys <= most;
        let transposed = !self.transposed || shape(self.weights)?.len() == 4;
        (target.class == Class::Cpu
            && fits
            && transposed
            && self.keeps_shape(facts)
            && self.scale(facts).is_some())
        .then_some(sizes)
    }

    /// Whether scales, masks and values broadcast to the shape of the product of queries and keys.
    fn keeps_shape(&self, facts: &Facts) -> bool {
        let shape = |id: ValueId| facts.get(id).map_or(&[][..], |fact| &fact.shape);
        let ([q_batch @ .., rows, _], [k_batch @ .., _, keys]) = (shape(self.queries), shape(self.keys))
        else {
            return false;
        };
        let [v_batch @ .., _, _] = shape(self.values) else { return false };
        let Ok(batch) = broadcast([q_batch, k_batch]) else { return false };
        let scores = [&batch[..], &[*rows, *keys]].concat();
        let fits = |own: &[usize], whole: &[usize]| {
            let skip = whole.len().checked_sub(own.len());
            skip.is_some_and(|skip| {
                own.iter().zip(&whole[skip..]).all(|(own, whole)| *own == 1 || own == whole)
            })
        };
        let mask = self.mask.as_ref().is_none_or(|mask| {
            let mask = shape(mask.value());
            mask.last() == Some(keys) && fits(mask, &scores)
        });
        let other = match self.mask {
            Some(SpelledMask::Chosen { other, .. }) => Some(other),
            _ => None,
        };
        let mut scalars = self.scales.iter().map(|(id, _)| *id).chain(other);
        shape(self.weights) == scores
            && mask
            && fits(v_batch, &batch)
            && scalars.all(|id| shape(id).len() <= 2)
    }

    /// What scores are multiplied by.
    pub(crate) fn scale(&self, facts: &Facts) -> Option<f32> {
        let mut scale = 1.0;
        for &(id, divides) in &self.scales {
            let number = number(facts, id)?;
            scale = if divides { scale / number } else { scale * number };
        }
        Some(scale as f32).filter(|scale| scale.is_finite() && *scale != 0.0)
    }

    /// What stands in the place of the scores that a mask of bools does not choose.
    pub(crate) fn filled(&self, facts: &Facts) -> Option<f32> {
        match self.mask {
            Some(SpelledMask::Chosen { other, .. }) => number(facts, other).map(|number| number as f32),
            _ => None,
        }
    }
}

/// The number of a value of one element that planning knows.
fn number(facts: &Facts, id: ValueId) -> Option<f64> {
    let array = facts.get(id).filter(|fact| fact.count() == 1)?.constant()?;
    match &array.data {
        Numbers::Float(values) => values.first().copied(),
        _ => None,
    }
}

/// Whether attention kernels make the graph's runs cheaper, with what their pipelines cost: for the sizes of the first run.
pub(super) fn pays(graph: &Graph, facts: &Facts, target: &Target, options: &Options) -> bool {
    // With subgroups of 4, on SwiftShader, BERT-mini takes 1.06 of the time.
    if target.class != Class::Cpu || target.subgroup != 8 || options.no_fusion {
        return false;
    }
    let live = liveness(graph, facts, options);
    let producers = graph.producers();
    let mut kinds = Vec::new();
    let mut saved = |spelled: &SpelledAttention| -> Option<Microseconds> {
        let sizes = spelled.sizes(facts, target)?;
        let heads = sizes.heads();
        let SpelledSizes { rows, keys, depth, depth_v, .. } = sizes;
        let masked = spelled.mask.is_some();
        kinds.push((depth_v.div_ceil(4 * target.subgroup as usize), masked));
        let copied = !are_turned(graph, &producers, spelled.keys);
        let depths = [depth, depth_v];
        Some(cost::attention_saves(AttentionSize { heads, rows, keys, depths, masked, copied }))
    };
    let total: Microseconds = all(graph, facts, &live).iter().filter_map(&mut saved).sum();
    kinds.sort_unstable();
    kinds.dedup();
    let pipelines = kinds.into_iter().map(|(vectors, masked)| cost::attention_pipeline(vectors, masked));
    total > pipelines.sum::<Microseconds>()
}

/// Whether the value is a Transpose of rows, whose elements lie side by side.
fn are_turned(graph: &Graph, producers: &[Option<NodeId>], keys: ValueId) -> bool {
    let Some(made) = producers[keys.index()] else { return false };
    let Op::Transpose(op) = &*graph.nodes[made.index()].op else { return false };
    op.fixed_perm().is_some_and(|perm| perm.last().is_some_and(|last| last + 1 != perm.len()))
}

/// Every attention of the graph, with the nodes that compute it, in the order of the graph. No two have a node in common.
pub(super) fn all(graph: &Graph, facts: &Facts, live: &Liveness) -> Vec<SpelledAttention> {
    let producers = graph.producers();
    let search = Search { graph, facts, live, producers };
    let is_product = |node: &NodeId| matches!(*graph.nodes[node.index()].op, Op::MatMul(_));
    let mut taken = vec![false; graph.nodes.len()];
    let mut apart = |spelled: &SpelledAttention| {
        let apart = spelled.nodes.iter().all(|node| !taken[node.index()]);
        spelled.nodes.iter().filter(|_| apart).for_each(|node| taken[node.index()] = true);
        apart
    };
    let products = live.nodes.iter().copied().filter(is_product);
    products.filter_map(|node| search.ending_in(node)).filter(|spelled| apart(spelled)).collect()
}

struct Search<'a> {
    graph: &'a Graph,
    facts: &'a Facts,
    live: &'a Liveness,
    producers: Vec<Option<NodeId>>,
}

impl<'a> Search<'a> {
    fn node(&self, id: NodeId) -> &'a Node {
        &self.graph.nodes[id.index()]
    }

    fn fact(&self, id: ValueId) -> Option<&'a Fact> {
        self.facts.get(id)
    }

    /// The node that a run computes the value with, if these nodes alone read it.
    fn made(&self, id: ValueId, readers: &[NodeId]) -> Option<(NodeId, &'a Node)> {
        let made = self.producers[id.index()]?;
        let only = self.live.readers[id.index()].iter().all(|reader| readers.contains(reader));
        let runs = self.fact(id)?.constant().is_none();
        (only && runs && !self.live.wanted[id.index()]).then(|| (made, self.node(made)))
    }

    /// The attention whose product with the values this node is.
    fn ending_in(&self, last: NodeId) -> Option<SpelledAttention> {
        let &[Some(weighing), Some(values)] = &self.node(last).inputs[..] else { return None };
        let mut nodes = vec![last];
        let (mut weights, mut unseen) = (weighing, Unseen::Nan);
        let (mut softmax, mut node) = self.made(weighing, &[last])?;
        if let Some((guarded, own)) = self.guarded(softmax, node) {
            nodes.extend(own);
            weights = guarded;
            unseen = Unseen::Guarded;
            (softmax, node) = self.made(weights, &own)?;
        }
        let rank = self.fact(weights)?.rank();
        if !matches!(&*node.op, Op::Softmax(op) if op.is_of_rows(rank)) || self.is_cache(values) {
            return None;
        }
        nodes.push(softmax);
        let mut scores = node.inputs.first().copied().flatten()?;
        let (mut reader, mut mask, mut scales) = (softmax, None, Vec::new());
        let (queries, keys) = loop {
            let (id, node) = self.made(scores, &[reader])?;
            nodes.push(id);
            if let Op::MatMul(_) = &*node.op {
                let &[Some(queries), Some(keys)] = &node.inputs[..] else { return None };
                break (
                    self.scaled(queries, id, &mut nodes, &mut scales),
                    self.scaled(keys, id, &mut nodes, &mut scales),
                );
            }
            scores = match self.scale(node) {
                Some((of, scale)) => {
                    scales.push(scale);
                    of
                }
                None => {
                    let (of, own) = self.masked(node, id).filter(|_| mask.is_none() && scales.is_empty())?;
                    mask = Some(own);
                    of
                }
            };
            if scales.len() > MOST_SCALES {
                return None;
            }
            reader = id;
        };
        if queries == keys || [queries, keys, values].iter().any(|id| self.is_known(*id)) {
            return None;
        }
        nodes.reverse();
        let result = self.node(last).outputs.first().copied().flatten()?;
        let moved = self.transposed(result, last);
        nodes.extend(moved);
        let spelled = SpelledAttention {
            nodes,
            queries,
            keys,
            values,
            weights,
            mask,
            scales,
            unseen,
            transposed: moved.is_some(),
        };
        let float = |id| {
            self.fact(id).is_some_and(|fact| matches!(fact.dtype, DType::F32 | DType::F16 | DType::BF16))
        };
        let filled = matches!(spelled.mask, Some(SpelledMask::Chosen { .. }));
        let hides = !filled || spelled.filled(self.facts).is_some_and(|number| number < 0.0);
        (float(weights) && hides).then_some(spelled)
    }

    fn is_known(&self, id: ValueId) -> bool {
        self.fact(id).is_none_or(|fact| fact.constant().is_some())
    }

    /// Whether the values are those of earlier runs, with new ones behind them. Most runs of such a session have one row of queries,
    /// and gain nothing.
    fn is_cache(&self, mut id: ValueId) -> bool {
        for _ in 0..MOST_MOVERS {
            let Some(node) = self.producers[id.index()].map(|made| self.node(made)) else { return false };
            let inputs = || node.inputs.iter().flatten();
            if matches!(*node.op, Op::Concat(_)) {
                return inputs().any(|id| self.graph.inputs.contains(id));
            }
            match inputs().next() {
                Some(&first) if node.op.operator().moves_elements() || matches!(*node.op, Op::Expand(_)) => {
                    id = first
                }
                _ => return false,
            }
        }
        false
    }

    /// Where the node is `Where(IsNaN(x), 0, x)`: x, and the two nodes.
    fn guarded(&self, id: NodeId, node: &Node) -> Option<(ValueId, [NodeId; 2])> {
        let (&[Some(when), Some(zero), Some(x)], Op::Where(_)) = (&node.inputs[..], &*node.op) else {
            return None;
        };
        let (is_nan, own) = self.made(when, &[id])?;
        let guards = own.op_type == "IsNaN" && own.inputs.first() == Some(&Some(x));
        (guards && number(self.facts, zero) == Some(0.0)).then_some((x, [id, is_nan]))
    }

    /// Where the node multiplies or divides by a number that planning knows: what it scales, and the scale.
    fn scale(&self, node: &Node) -> Option<(ValueId, (ValueId, bool))> {
        let &[Some(a), Some(b)] = &node.inputs[..] else { return None };
        Some(match &*node.op_type {
            "Mul" if number(self.facts, b).is_some() => (a, (b, false)),
            "Mul" if number(self.facts, a).is_some() => (b, (a, false)),
            "Div" if number(self.facts, b).is_some() => (a, (b, true)),
            _ => return None,
        })
    }

    /// The value that is scaled where `id`, which the product reads, is a scaled value; else `id`.
    fn scaled(
        &self,
        id: ValueId,
        product: NodeId,
        nodes: &mut Vec<NodeId>,
        scales: &mut Vec<(ValueId, bool)>,
    ) -> ValueId {
        match self.made(id, &[product]).and_then(|(made, node)| Some((made, self.scale(node)?))) {
            Some((made, (of, scale))) => {
                nodes.push(made);
                scales.push(scale);
                of
            }
            None => id,
        }
    }

    /// Where the node masks scores: the scores, and the mask.
    fn masked(&self, node: &Node, id: NodeId) -> Option<(ValueId, SpelledMask)> {
        Some(match (&*node.op_type, &node.inputs[..]) {
            ("Add", &[Some(a), Some(b)]) if a != b => match self.leads_to_product(a, id) {
                true => (a, SpelledMask::Added(b)),
                false => (b, SpelledMask::Added(a)),
            },
            ("Where", &[Some(by), Some(a), Some(b)]) => match number(self.facts, b) {
                Some(_) => (a, SpelledMask::Chosen { by, other: b, chooses: true }),
                None => (b, SpelledMask::Chosen { by, other: a, chooses: false }),
            },
            _ => return None,
        })
    }

    /// Whether the value is a product, or a scaled product.
    fn leads_to_product(&self, mut id: ValueId, mut reader: NodeId) -> bool {
        for _ in 0..MOST_SCALES {
            let Some((made, node)) = self.made(id, &[reader]) else { return false };
            match self.scale(node) {
                _ if matches!(&*node.op, Op::MatMul(_)) => return true,
                Some((of, _)) => (id, reader) = (of, made),
                None => return false,
            }
        }
        false
    }

    /// The node that puts rows before heads, if it is all that reads the result.
    fn transposed(&self, result: ValueId, last: NodeId) -> Option<NodeId> {
        let &[reader] = &self.live.readers[result.index()][..] else { return None };
        let Op::Transpose(op) = &*self.node(reader).op else { return None };
        self.made(result, &[reader]).filter(|(made, _)| *made == last)?;
        (op.fixed_perm()? == [0, 2, 1, 3]).then_some(reader)
    }
}
