//! Decision trees of the domain ai.onnx.ml: one form for all operators and versions that have them, and the table by which a
//! device walks through them.

use std::collections::HashMap;
use std::ops::Range;

use super::{Attributes, Why, refuse};
use crate::array::Array;
use crate::kernels::{double_words, word};

/// When a node continues with its child `yes`: `feature <= threshold`, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Branch {
    AtMost,
    Below,
    AtLeast,
    Above,
    Equal,
    Differs,
    /// The feature is one of the node's set.
    Member,
}

#[derive(Clone, Debug)]
enum TreeNode {
    Branch {
        branch: Branch,
        feature: usize,
        threshold: f64,
        /// For [`Branch::Member`]: the set, in `Forest::members`.
        set: Range<usize>,
        /// Whether a NaN continues with `yes` in any case.
        nan_is_yes: bool,
        yes: usize,
        no: usize,
    },
    /// The leaf's weights, in `Forest::weights`.
    Leaf(Range<usize>),
}

/// What a leaf adds to a target, which is a class of a classifier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LeafWeight {
    pub(crate) target: usize,
    pub(crate) weight: f64,
}

/// The trees of an ensemble. Every path from a root ends in a leaf.
#[derive(Clone, Debug)]
pub(crate) struct Forest {
    nodes: Vec<TreeNode>,
    /// The first node of each tree.
    pub(crate) roots: Vec<usize>,
    /// The weights of each leaf, sorted by target; a leaf has at most one for each.
    pub(crate) weights: Vec<LeafWeight>,
    /// The sets of the nodes, each sorted.
    members: Vec<f64>,
    /// The branches on the longest path from a root to a leaf.
    pub(crate) depth: usize,
}

/// How weights of the same leaf and target become one.
pub(crate) type Merge = fn(f64, f64) -> f64;

/// The words of a forest for a device, and where its parts begin.
#[derive(Clone, Debug)]
pub(crate) struct ForestTable {
    pub(crate) words: Vec<u32>,
    pub(crate) roots: usize,
    /// What is to be added, modulo 2^32, to the place of a weight's target to get that of the weight; for weights of two words,
    /// to twice the place.
    pub(crate) weights: u32,
}

/// The name of each branch in operators before TreeEnsemble, in the order of TreeEnsemble's numbers.
pub(crate) const BRANCHES: [(&str, Branch); 7] = [
    ("BRANCH_LEQ", Branch::AtMost),
    ("BRANCH_LT", Branch::Below),
    ("BRANCH_GTE", Branch::AtLeast),
    ("BRANCH_GT", Branch::Above),
    ("BRANCH_EQ", Branch::Equal),
    ("BRANCH_NEQ", Branch::Differs),
    ("BRANCH_MEMBER", Branch::Member),
];

/// The numbers of an attribute, given as floats under its name or as a tensor under the name with `_as_tensor`.
pub(crate) fn numbers(attributes: &Attributes, name: &str) -> Result<Vec<f64>, Why> {
    match attributes.tensor(&format!("{name}_as_tensor"))? {
        Some(tensor) => Array::from_tensor(&tensor)?.to_f64(),
        None => Ok(attributes.floats(name)?.unwrap_or_default().into_iter().map(f64::from).collect()),
    }
}

fn ints(attributes: &Attributes, name: &str) -> Result<Vec<i64>, Why> {
    Ok(attributes.ints(name)?.unwrap_or_default())
}

/// Refuses a list that has not `count` entries.
fn check_length(name: &str, length: usize, count: usize) -> Result<(), Why> {
    if length != count {
        refuse!("'{name}' has {length} entries, and there are {count}");
    }
    Ok(())
}

/// A number that counts from 0 to `limit`, which is not included.
fn number(name: &str, value: i64, limit: usize) -> Result<usize, Why> {
    match usize::try_from(value) {
        Ok(value) if value < limit => Ok(value),
        _ => refuse!("'{name}' has {value}, and may have 0 to {}", limit.saturating_sub(1)),
    }
}

impl Forest {
    /// The trees of TreeEnsembleRegressor and TreeEnsembleClassifier. `kind` begins the names of the attributes of leaves:
    /// "target" or "class".
    pub(crate) fn of_lists(
        attributes: &Attributes,
        kind: &str,
        targets: usize,
        merge: Merge,
    ) -> Result<Forest, Why> {
        let list = |name: &str| ints(attributes, name);
        let (trees, ids, features) =
            (list("nodes_treeids")?, list("nodes_nodeids")?, list("nodes_featureids")?);
        let (yes, no) = (list("nodes_truenodeids")?, list("nodes_falsenodeids")?);
        let modes = attributes.strings("nodes_modes")?.unwrap_or_default();
        let thresholds = numbers(attributes, "nodes_values")?;
        let mut tracks = list("nodes_missing_value_tracks_true")?;
        let count = ids.len();
        if tracks.is_empty() {
            tracks = vec![0; count];
        }
        for (name, length) in [
            ("nodes_treeids", trees.len()),
            ("nodes_featureids", features.len()),
            ("nodes_truenodeids", yes.len()),
            ("nodes_falsenodeids", no.len()),
            ("nodes_modes", modes.len()),
            ("nodes_values", thresholds.len()),
            ("nodes_missing_value_tracks_true", tracks.len()),
        ] {
            check_length(name, length, count)?;
        }
        let mut places = HashMap::with_capacity(count);
        for (i, key) in trees.iter().copied().zip(ids.iter().copied()).enumerate() {
            if places.insert(key, i).is_some() {
                refuse!("tree {} has two nodes {}", key.0, key.1);
            }
        }
        let place = |tree: i64, id: i64| match places.get(&(tree, id)) {
            Some(&place) => Ok::<_, Why>(place),
            None => refuse!("tree {tree} has no node {id}"),
        };
        let mut weights = Vec::new();
        let of_leaf = |name: &str| list(&format!("{kind}_{name}"));
        let (of_trees, of_nodes, of_targets) = (of_leaf("treeids")?, of_leaf("nodeids")?, of_leaf("ids")?);
        let values = numbers(attributes, &format!("{kind}_weights"))?;
        for list in [of_trees.len(), of_nodes.len(), of_targets.len()] {
            check_length(&format!("{kind}_weights"), values.len(), list)?;
        }
        for (i, &weight) in values.iter().enumerate() {
            let target = number(&format!("{kind}_ids"), of_targets[i], targets)?;
            weights.push((place(of_trees[i], of_nodes[i])?, LeafWeight { target, weight }));
        }
        let mut forest = Forest::of_weights(count, weights, merge)?;
        let mut is_child = vec![false; count];
        for i in 0..count {
            if modes[i] == "LEAF" {
                continue;
            }
            let Some((_, branch)) = BRANCHES[..6].iter().find(|(name, _)| *name == modes[i]) else {
                refuse!("'nodes_modes' has '{}'", modes[i]);
            };
            let (yes, no) = (place(trees[i], yes[i])?, place(trees[i], no[i])?);
            (is_child[yes], is_child[no]) = (true, true);
            forest.nodes[i] = TreeNode::Branch {
                branch: *branch,
                feature: number("nodes_featureids", features[i], MAX_FEATURES)?,
                threshold: thresholds[i],
                set: 0..0,
                nan_is_yes: tracks[i] != 0,
                yes,
                no,
            };
        }
        // A tree begins with its first node that is no child of another.
        let mut roots = HashMap::new();
        for (i, tree) in trees.iter().enumerate().filter(|(i, _)| !is_child[*i]) {
            if roots.insert(*tree, i).is_none() {
                forest.roots.push(i);
            }
        }
        forest.checked()
    }

    /// The trees of TreeEnsemble. Leaves are numbered behind the nodes.
    pub(crate) fn of_ensemble(
        attributes: &Attributes,
        targets: Option<usize>,
    ) -> Result<(Forest, usize), Why> {
        let list = |name: &str| ints(attributes, name);
        let tensor = |name: &str| match attributes.tensor(name)? {
            Some(tensor) => Array::from_tensor(&tensor)?.to_f64(),
            None => Ok(vec![]),
        };
        let (modes, splits, members) =
            (tensor("nodes_modes")?, tensor("nodes_splits")?, tensor("membership_values")?);
        let (yes, no) = (list("nodes_truenodeids")?, list("nodes_falsenodeids")?);
        let (yes_leaves, no_leaves) = (list("nodes_trueleafs")?, list("nodes_falseleafs")?);
        let (features, mut tracks) = (list("nodes_featureids")?, list("nodes_missing_value_tracks_true")?);
        let (of_targets, weights) = (list("leaf_targetids")?, tensor("leaf_weights")?);
        let (count, leaves) = (modes.len(), weights.len());
        if tracks.is_empty() {
            tracks = vec![0; count];
        }
        for (name, length) in [
            ("nodes_splits", splits.len()),
            ("nodes_featureids", features.len()),
            ("nodes_truenodeids", yes.len()),
            ("nodes_falsenodeids", no.len()),
            ("nodes_trueleafs", yes_leaves.len()),
            ("nodes_falseleafs", no_leaves.len()),
            ("nodes_missing_value_tracks_true", tracks.len()),
        ] {
            check_length(name, length, count)?;
        }
        check_length("leaf_targetids", of_targets.len(), leaves)?;
        let targets = match targets {
            Some(targets) => targets,
            None => match usize::try_from(of_targets.iter().max().copied().unwrap_or(0)) {
                Ok(last) if last < leaves => last + 1,
                _ => refuse!("'leaf_targetids' has a number that no target can have; set 'n_targets'"),
            },
        };
        let mut of_leaves = Vec::with_capacity(leaves);
        for (i, &weight) in weights.iter().enumerate() {
            let target = number("leaf_targetids", of_targets[i], targets)?;
            of_leaves.push((count + i, LeafWeight { target, weight }));
        }
        let mut forest = Forest::of_weights(count + leaves, of_leaves, |a, _| a)?;
        let mut sets = members.split(|member| member.is_nan());
        let child = |name: &str, id: i64, is_leaf: i64| match is_leaf {
            0 => number(name, id, count),
            _ => Ok(count + number(name, id, leaves)?),
        };
        for i in 0..count {
            let branch = BRANCHES.iter().enumerate().find(|(mode, _)| *mode as f64 == modes[i]);
            let Some((_, &(_, branch))) = branch else { refuse!("'nodes_modes' has {}", modes[i]) };
            let first = forest.members.len();
            if branch == Branch::Member {
                let Some(set) = sets.next().filter(|set| !set.is_empty()) else {
                    refuse!("'membership_values' has no set for node {i}");
                };
                forest.members.extend(set);
                forest.members[first..].sort_by(f64::total_cmp);
            }
            forest.nodes[i] = TreeNode::Branch {
                branch,
                feature: number("nodes_featureids", features[i], MAX_FEATURES)?,
                threshold: splits[i],
                set: first..forest.members.len(),
                nan_is_yes: tracks[i] != 0,
                yes: child("nodes_truenodeids", yes[i], yes_leaves[i])?,
                no: child("nodes_falsenodeids", no[i], no_leaves[i])?,
            };
        }
        for root in list("tree_roots")? {
            forest.roots.push(number("tree_roots", root, count)?);
        }
        Ok((forest.checked()?, targets))
    }

    /// `count` leaves with weights, each with its leaf's number.
    fn of_weights(count: usize, mut weights: Vec<(usize, LeafWeight)>, merge: Merge) -> Result<Forest, Why> {
        if weights.iter().any(|(_, own)| !own.weight.is_finite()) {
            refuse!("a leaf's weight is infinite or NaN");
        }
        weights.sort_by_key(|(leaf, own)| (*leaf, own.target));
        weights.dedup_by(|next, kept| {
            let same = (next.0, next.1.target) == (kept.0, kept.1.target);
            if same {
                kept.1.weight = merge(kept.1.weight, next.1.weight);
            }
            same
        });
        let mut nodes = Vec::with_capacity(count);
        let mut first = 0;
        for leaf in 0..count {
            let last = first + weights[first..].iter().take_while(|(own, _)| *own == leaf).count();
            nodes.push(TreeNode::Leaf(first..last));
            first = last;
        }
        let weights = weights.into_iter().map(|(_, weight)| weight).collect();
        Ok(Forest { nodes, roots: vec![], weights, members: vec![], depth: 0 })
    }

    /// The forest with its depth. Nodes that lead back to themselves and thresholds that are NaN are refused.
    fn checked(mut self) -> Result<Forest, Why> {
        if self.roots.is_empty() {
            refuse!("has no trees");
        }
        let mut heights: Vec<Option<usize>> = vec![None; self.nodes.len()];
        let mut open = vec![false; self.nodes.len()];
        for start in 0..self.nodes.len() {
            let mut path = vec![start];
            while let Some(&at) = path.last() {
                let TreeNode::Branch { branch, yes, no, threshold, .. } = self.nodes[at] else {
                    heights[at] = Some(0);
                    path.pop();
                    continue;
                };
                if threshold.is_nan() && branch != Branch::Member {
                    refuse!("a threshold is NaN");
                }
                if let (Some(a), Some(b)) = (heights[yes], heights[no]) {
                    heights[at] = Some(1 + a.max(b));
                    path.pop();
                    continue;
                }
                open[at] = true;
                let next: Vec<usize> =
                    [yes, no].into_iter().filter(|&child| heights[child].is_none()).collect();
                if next.iter().any(|&child| open[child]) {
                    refuse!("a node leads back to itself");
                }
                path.extend(next);
            }
        }
        self.depth = self.roots.iter().filter_map(|&root| heights[root]).max().unwrap_or(0);
        Ok(self)
    }

    /// The columns that the input must have.
    pub(crate) fn columns(&self) -> usize {
        let feature = |node: &TreeNode| match node {
            TreeNode::Branch { feature, .. } => feature + 1,
            TreeNode::Leaf(_) => 0,
        };
        self.nodes.iter().map(feature).max().unwrap_or(0)
    }

    /// The most weights of a leaf.
    pub(crate) fn most_weights(&self) -> usize {
        let count = |node: &TreeNode| if let TreeNode::Leaf(weights) = node { weights.len() } else { 0 };
        self.nodes.iter().map(count).max().unwrap_or(0)
    }

    /// The members of the largest set of a node.
    pub(crate) fn most_members(&self) -> usize {
        let count = |node: &TreeNode| if let TreeNode::Branch { set, .. } = node { set.len() } else { 0 };
        self.nodes.iter().map(count).max().unwrap_or(0)
    }

    /// The weights of the leaf that the row reaches from the root.
    pub(crate) fn leaf(&self, root: usize, row: &[f64]) -> &[LeafWeight] {
        let mut at = root;
        loop {
            let (branch, x, threshold, set, nan_is_yes, yes, no) = match &self.nodes[at] {
                TreeNode::Leaf(weights) => return &self.weights[weights.clone()],
                TreeNode::Branch { branch, feature, threshold, set, nan_is_yes, yes, no } => {
                    (*branch, row[*feature], *threshold, set, *nan_is_yes, *yes, *no)
                }
            };
            let holds = match branch {
                Branch::AtMost => x <= threshold,
                Branch::Below => x < threshold,
                Branch::AtLeast => x >= threshold,
                Branch::Above => x > threshold,
                Branch::Equal => x == threshold,
                Branch::Differs => x != threshold,
                Branch::Member => self.members[set.clone()].contains(&x),
            };
            at = if holds || nan_is_yes && x.is_nan() { yes } else { no };
        }
    }

    /// The table for a device. A node takes four words: its feature, with the kind of its test and what NaN does; a key, or the
    /// place of a set; and the nodes to which the test leads where it holds and where not. A leaf has the place of its first
    /// target and the number of its weights instead.
    ///
    /// A key is a float32 number as i32, in the order of the numbers, so that all tests are tests of whole numbers. With `double`,
    /// features and weights are float64: keys are i64, a node has the place of its key, and keys and weights take two words, the
    /// lower half first.
    pub(crate) fn table(&self, double: bool) -> Result<ForestTable, Why> {
        let (nodes, count) = (4 * self.nodes.len(), self.weights.len());
        let roots = nodes;
        let targets = roots + self.roots.len();
        let each = if double { 2 } else { 1 };
        let sets = targets + (1 + each) * count;
        let (mut words, mut members) = (Vec::with_capacity(sets), Vec::new());
        let key_words = |key: i64| [key as u32, (key >> 32) as u32].into_iter().take(each);
        for node in &self.nodes {
            match node {
                TreeNode::Leaf(weights) => {
                    words.extend([0, 0, word(targets + weights.start)?, word(weights.len())?]);
                }
                TreeNode::Branch { branch, feature, threshold, set, nan_is_yes, yes, no } => {
                    let test = match branch {
                        Branch::Member => {
                            let at = word(sets + members.len())?;
                            let key = if double { f64::exact_key } else { f32::exact_key };
                            let mut keys: Vec<i64> =
                                self.members[set.clone()].iter().filter_map(|&x| key(x)).collect();
                            keys.sort_unstable();
                            members.push(word(keys.len())?);
                            members.extend(keys.into_iter().flat_map(key_words));
                            KeyTest { kind: MEMBER, key: at.into(), negated: false }
                        }
                        _ if double => {
                            let test = KeyTest::of::<f64>(*branch, *threshold);
                            let at = word(sets + members.len())?;
                            members.extend(key_words(test.key));
                            KeyTest { key: at.into(), ..test }
                        }
                        _ => KeyTest::of::<f32>(*branch, *threshold),
                    };
                    // NaN differs from every number; otherwise no test holds for it.
                    let nan = (*nan_is_yes || *branch == Branch::Differs) != test.negated;
                    let (first, second) = if test.negated { (no, yes) } else { (yes, no) };
                    let head = word(*feature)? | test.kind << KIND_SHIFT | u32::from(nan) << NAN_SHIFT;
                    words.extend([head, test.key as u32, word(*first)?, word(*second)?]);
                }
            }
        }
        for &root in &self.roots {
            words.push(word(root)?);
        }
        for own in &self.weights {
            words.push(word(own.target)?);
        }
        let weights = words.len();
        for own in &self.weights {
            match double {
                true => words.extend(double_words(own.weight)),
                false => words.push((own.weight as f32).to_bits()),
            }
        }
        words.extend(members);
        Ok(ForestTable { words, roots, weights: word(weights)?.wrapping_sub(word(each * targets)?) })
    }
}

/// The features that a node's first word tells apart.
const MAX_FEATURES: usize = 1 << KIND_SHIFT;
const KIND_SHIFT: u32 = 24;
const NAN_SHIFT: u32 = 26;

/// The kinds of tests in a node's first word; a leaf has 0.
const AT_MOST: u32 = 1;
const EQUAL: u32 = 2;
const MEMBER: u32 = 3;

/// A test of the key of a feature.
struct KeyTest {
    kind: u32,
    key: i64,
    /// Whether the branch holds where the test does not.
    negated: bool,
}

impl KeyTest {
    fn of<F: Feature>(branch: Branch, threshold: f64) -> KeyTest {
        let at_most = || KeyTest { kind: AT_MOST, key: F::key_below(threshold), negated: false };
        let equal = || match F::exact_key(threshold) {
            Some(key) => KeyTest { kind: EQUAL, key, negated: false },
            None => KeyTest { kind: AT_MOST, key: F::LEAST_KEY, negated: false },
        };
        let below = || match F::exact_key(threshold) {
            // The key before that of a number is that of the next smaller number; before -infinity is none.
            Some(key) => KeyTest { kind: AT_MOST, key: (key - 1).max(F::LEAST_KEY), negated: false },
            None => at_most(),
        };
        let negated = |test: KeyTest| KeyTest { negated: true, ..test };
        match branch {
            Branch::AtMost => at_most(),
            Branch::Below => below(),
            Branch::AtLeast => negated(below()),
            Branch::Above => negated(at_most()),
            Branch::Equal | Branch::Member => equal(),
            Branch::Differs => negated(equal()),
        }
    }
}

/// A float32 number as an i32 in the same order; both zeros are 0.
pub(crate) fn order_key(x: f32) -> i32 {
    let size = (x.to_bits() & 0x7fff_ffff) as i32;
    if x.is_sign_negative() { -size } else { size }
}

/// A number as an i64 in the same order; both zeros are 0.
pub(crate) fn order_key_of_double(x: f64) -> i64 {
    let size = (x.to_bits() & (u64::MAX >> 1)) as i64;
    if x.is_sign_negative() { -size } else { size }
}

/// The type of features: the keys of its numbers are whole numbers in their order.
trait Feature {
    /// Below the keys of all numbers.
    const LEAST_KEY: i64;

    /// The key of a number that the type holds.
    fn exact_key(x: f64) -> Option<i64>;

    /// The key of the greatest number of the type that is at most `x`.
    fn key_below(x: f64) -> i64;
}

impl Feature for f32 {
    const LEAST_KEY: i64 = i32::MIN as i64;

    fn exact_key(x: f64) -> Option<i64> {
        (f64::from(x as f32) == x).then(|| order_key(x as f32).into())
    }

    fn key_below(x: f64) -> i64 {
        order_key(round_down(x)).into()
    }
}

impl Feature for f64 {
    const LEAST_KEY: i64 = i64::MIN + 1;

    fn exact_key(x: f64) -> Option<i64> {
        (!x.is_nan()).then(|| f64::key_below(x))
    }

    fn key_below(x: f64) -> i64 {
        order_key_of_double(x)
    }
}

/// The greatest float32 number that is at most `x`.
fn round_down(x: f64) -> f32 {
    let nearest = x as f32;
    if f64::from(nearest) > x { nearest.next_down() } else { nearest }
}
