//! Trees side by side: one TreeEnsemble walks each row through all of them, to the number of a leaf in each.

use std::collections::HashMap;

use super::converter::Converter;
use super::predicate::Compare;
use crate::graph::{Type, doubles, int, ints, small};

/// Where a branch leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Branch {
    Node(usize),
    Leaf(usize),
}

/// A comparison, and where its outcomes lead.
#[derive(Debug)]
pub(super) struct Split {
    pub(super) column: usize,
    pub(super) compare: Compare,
    pub(super) value: f64,
    pub(super) holds: Branch,
    pub(super) fails: Branch,
    /// Whether a missing value is as if the comparison held.
    pub(super) missing_holds: bool,
}

/// What stands at a leaf.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    /// The number, or the place of the class; NaN for none.
    pub(super) score: f64,
    /// The share of each class; empty for regression.
    pub(super) shares: Vec<f64>,
}

/// Trees that are walked together.
#[derive(Default)]
pub(super) struct Forest {
    columns: Vec<String>,
    places: HashMap<String, usize>,
    pub(super) splits: Vec<Split>,
    pub(super) leaves: Vec<Leaf>,
    pub(super) roots: Vec<Branch>,
}

impl Forest {
    /// The place of a column among those that are compared.
    pub(super) fn column(&mut self, tensor: &str) -> usize {
        if let Some(&place) = self.places.get(tensor) {
            return place;
        }
        let place = self.columns.len();
        self.columns.push(tensor.into());
        self.places.insert(tensor.into(), place);
        place
    }

    pub(super) fn leaf(&mut self, leaf: Leaf) -> Branch {
        self.leaves.push(leaf);
        Branch::Leaf(self.leaves.len() - 1)
    }

    pub(super) fn split(&mut self, split: Split) -> Branch {
        self.splits.push(split);
        Branch::Node(self.splits.len() - 1)
    }
}

/// What all trees of a forest say: scores [n, trees], and for classification shares [n, trees, classes].
pub(super) struct Said {
    pub(super) scores: String,
    pub(super) shares: Option<String>,
}

impl<'x> Converter<'x> {
    /// Walks the trees.
    pub(super) fn walked(&mut self, mut forest: Forest) -> Said {
        let scores: Vec<f64> = forest.leaves.iter().map(|leaf| leaf.score).collect();
        let shares: Vec<f64> = forest.leaves.iter().flat_map(|leaf| leaf.shares.iter().copied()).collect();
        let classes = forest.leaves.first().map_or(0, |leaf| leaf.shares.len());
        if forest.columns.is_empty() {
            let column = self.filled(0.0);
            forest.column(&column);
        }
        let leaves = self.ensemble(forest);
        let table = self.graph.doubles(&[scores.len() as i64], &scores);
        let scores = self.graph.op("Gather", &[&table, &leaves]);
        let shares = (classes > 0).then(|| {
            let table = self.graph.doubles(&[(shares.len() / classes) as i64, classes as i64], &shares);
            self.graph.op("Gather", &[&table, &leaves])
        });
        Said { scores, shares }
    }

    /// The leaf of each row in each tree: int64 [n, trees].
    fn ensemble(&mut self, mut forest: Forest) -> String {
        let columns = self.graph.concat(&forest.columns);
        // The operator has a node for each tree, and a leaf for each branch that ends: a leaf that two reach is there twice.
        for at in 0..forest.roots.len() {
            if let Branch::Leaf(_) = forest.roots[at] {
                let leaf = forest.roots[at];
                let value = f64::INFINITY;
                let split = Split {
                    column: 0,
                    compare: Compare::LessOrEqual,
                    value,
                    holds: leaf,
                    fails: leaf,
                    missing_holds: true,
                };
                forest.roots[at] = forest.split(split);
            }
        }
        let tree_of = trees_of(&forest);
        let (mut weights, mut targets) = (Vec::new(), Vec::new());
        let mut branches = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
        for (at, split) in forest.splits.iter().enumerate() {
            for (side, branch) in [split.holds, split.fails].into_iter().enumerate() {
                let (place, is_leaf) = match branch {
                    Branch::Node(place) => (place as i64, 0),
                    Branch::Leaf(leaf) => {
                        weights.push(leaf as f64);
                        targets.push(tree_of[at]);
                        (weights.len() as i64 - 1, 1)
                    }
                };
                branches[2 * side].push(place);
                branches[2 * side + 1].push(is_leaf);
            }
        }
        let [holds, hold_leaves, fails, fail_leaves] = branches;
        let of = |get: fn(&Split) -> i64| forest.splits.iter().map(get).collect::<Vec<i64>>();
        let root = |branch: &Branch| match branch {
            Branch::Node(place) | Branch::Leaf(place) => *place as i64,
        };
        let values: Vec<f64> = forest.splits.iter().map(|split| split.value).collect();
        let modes: Vec<u8> = forest.splits.iter().map(|split| split.compare as u8).collect();
        let attributes = vec![
            int("aggregate_function", 1),
            int("post_transform", 0),
            int("n_targets", forest.roots.len() as i64),
            ints("tree_roots", forest.roots.iter().map(root).collect()),
            ints("nodes_featureids", of(|split| split.column as i64)),
            doubles("nodes_splits", &values),
            small("nodes_modes", modes),
            ints("nodes_truenodeids", holds),
            ints("nodes_trueleafs", hold_leaves),
            ints("nodes_falsenodeids", fails),
            ints("nodes_falseleafs", fail_leaves),
            ints("nodes_missing_value_tracks_true", of(|split| split.missing_holds.into())),
            ints("leaf_targetids", targets),
            doubles("leaf_weights", &weights),
        ];
        let leaves = self.graph.large("ai.onnx.ml", "TreeEnsemble", &[&columns], attributes);
        self.graph.cast(&leaves, Type::Int64)
    }
}

/// The tree of each node.
fn trees_of(forest: &Forest) -> Vec<i64> {
    let mut trees = vec![0; forest.splits.len()];
    for (tree, root) in forest.roots.iter().enumerate() {
        let mut open = vec![*root];
        while let Some(branch) = open.pop() {
            if let Branch::Node(at) = branch {
                trees[at] = tree as i64;
                open.extend([forest.splits[at].holds, forest.splits[at].fails]);
            }
        }
    }
    trees
}
