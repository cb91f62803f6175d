//! TreeModel.

use std::collections::HashSet;
use std::rc::Rc;

use super::converter::Converter;
use super::forest::{Branch, Forest, Leaf, Split};
use super::model::{Classes, Outcome, class_place};
use super::predicate::{Compare, Test};
use super::scope::Scope;
use super::value::Value;
use super::xml::{Element, short};
use crate::{Error, Result};

/// What becomes of a row where a predicate is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    /// The predicate does not hold.
    Fails,
    /// The node's own score.
    Last,
    /// No score.
    Null,
    /// The child that the node names.
    Default,
}

/// A tree that is being added to a forest.
struct Tree<'a, 'x> {
    forest: &'a mut Forest,
    scope: &'a Scope<'x>,
    missing: Missing,
    /// Whether a node whose children all refuse a row gives its own score.
    last_counts: bool,
    classes: Option<&'a Rc<Vec<String>>>,
}

impl<'x> Converter<'x> {
    /// One tree by itself.
    pub(super) fn tree_model(
        &mut self,
        model: Element<'x>,
        scope: &Scope<'x>,
        classes: Option<Rc<Vec<String>>>,
    ) -> Result<Outcome> {
        if !self.is_tree(model) {
            return self.several_branches(model, scope, classes);
        }
        let mut forest = Forest::default();
        self.plant(model, scope, classes.as_ref(), &mut forest)?;
        let said = self.walked(forest);
        let Some((classes, shares)) = classes.zip(said.shares) else {
            return Ok(Outcome::of(Value::double(said.scores)));
        };
        // The one tree's shares [n, 1, classes] as a row.
        let axes = self.graph.ints(&[1], &[1]);
        let probabilities = self.graph.op("Squeeze", &[&shares, &axes]);
        let data_type = self.class_type(model)?;
        let value = Value::places(said.scores, &classes, data_type);
        Ok(Outcome { classes: Some(Classes { texts: classes, probabilities }), ..Outcome::of(value) })
    }

    /// Whether a model is a tree of which each row reaches one leaf.
    pub(super) fn is_tree(&self, model: Element<'x>) -> bool {
        let strategy = model.attribute("missingValueStrategy");
        model.name() == "TreeModel" && !matches!(strategy, Some("weightedConfidence" | "aggregateNodes"))
    }

    /// Adds the model's tree to a forest.
    pub(super) fn plant(
        &mut self,
        model: Element<'x>,
        scope: &Scope<'x>,
        classes: Option<&Rc<Vec<String>>>,
        forest: &mut Forest,
    ) -> Result<()> {
        let missing = match model.attribute("missingValueStrategy") {
            None | Some("none") => Missing::Fails,
            Some("lastPrediction") => Missing::Last,
            Some("nullPrediction") => Missing::Null,
            Some("defaultChild") => Missing::Default,
            Some(other) => return Err(model.unknown("missingValueStrategy", other)),
        };
        let last_counts = last_counts(model)?;
        let root = model.needs("Node")?;
        let mut tree = Tree { forest, scope, missing, last_counts, classes };
        let known = HashSet::new();
        let test = self.predicate_of(scope, root)?;
        let branch = match test {
            Test::Always => tree.node(self, root, &known)?,
            _ => {
                // No node is around the first: where its predicate fails or is unknown, there is no score.
                let (within, none) = (tree.node(self, root, &known)?, tree.null());
                tree.branch(&test, within, none, false)
            }
        };
        forest.roots.push(branch);
        Ok(())
    }
}

impl<'x> Tree<'_, 'x> {
    /// A node whose predicate holds. `known` are the columns that are not missing here.
    fn node(
        &mut self,
        converter: &mut Converter<'x>,
        node: Element<'x>,
        known: &HashSet<usize>,
    ) -> Result<Branch> {
        if self.forest.splits.len() + self.forest.leaves.len() > MOST {
            return Err(Error::TooLarge { limit: MOST, of: "nodes of trees" });
        }
        converter.graph.room(self.forest.splits.len() + self.forest.leaves.len())?;
        let children: Vec<Element<'x>> = node.all("Node").collect();
        if let Some(embedded) =
            node.children().find(|child| matches!(child.name(), "Regression" | "DecisionTree"))
        {
            return Err(
                embedded.wrong("models within nodes are not supported; use a MiningModel with segments")
            );
        }
        if children.is_empty() {
            return self.own(converter, node);
        }
        // Each child has a set of columns of its own.
        converter.graph.room(children.len().saturating_mul(children.len() + known.len()))?;
        let mut tests = Vec::new();
        for child in &children {
            tests.push(converter.predicate_of(self.scope, *child)?);
        }
        let default = match self.missing {
            Missing::Default => default_child(node, &children)?,
            _ => None,
        };
        // From the last child to the first: where a predicate fails, the next decides.
        let known_before = self.known_before(&tests, default, known);
        let mut next = if self.last_counts { self.own(converter, node)? } else { self.null() };
        for (at, (child, test)) in children.iter().zip(&tests).enumerate().rev() {
            next = match test {
                Test::Never => next,
                Test::Always => self.node(converter, *child, &known_before[at])?,
                Test::Compare { column, .. } => {
                    let column = self.forest.column(column);
                    let is_known = known_before[at].contains(&column);
                    let along = !is_known && default == Some(at);
                    let after = at > 0 && tests[at - 1].is_opposite(test) && (is_known || along);
                    let mut below = known_before[at].clone();
                    if !along {
                        below.insert(column);
                    }
                    let within = self.node(converter, *child, &below)?;
                    if after {
                        next = within;
                        continue;
                    }
                    let instead = match self.missing {
                        _ if is_known => None,
                        Missing::Fails => None,
                        Missing::Last => Some(self.own(converter, node)?),
                        Missing::Null => Some(self.null()),
                        Missing::Default => match default {
                            None => Some(self.null()),
                            Some(to) if to == at || self.flows(&tests, at, to) => None,
                            Some(to) => Some(self.node(converter, children[to], &known_before[at])?),
                        },
                    };
                    let decided = self.branch(test, within, next, along);
                    match instead {
                        None => decided,
                        Some(instead) => self.forest.split(Split {
                            column,
                            compare: Compare::LessOrEqual,
                            value: f64::INFINITY,
                            holds: decided,
                            fails: instead,
                            missing_holds: false,
                        }),
                    }
                }
            };
        }
        Ok(next)
    }

    /// For each child, the columns that are not missing where its predicate is asked for.
    fn known_before(
        &mut self,
        tests: &[Test],
        default: Option<usize>,
        known: &HashSet<usize>,
    ) -> Vec<HashSet<usize>> {
        let (mut known, mut before) = (known.clone(), Vec::new());
        for (at, test) in tests.iter().enumerate() {
            before.push(known.clone());
            let Test::Compare { column, .. } = test else { continue };
            let leaves = match (self.missing, default) {
                (Missing::Fails, _) => false,
                // A missing value goes on to the child that it is meant for.
                (Missing::Default, Some(to)) => to == at || !self.flows(tests, at, to),
                _ => true,
            };
            if leaves {
                known.insert(self.forest.column(column));
            }
        }
        before
    }

    /// Whether a value that is missing at one child reaches another by failing on the way.
    fn flows(&self, tests: &[Test], from: usize, to: usize) -> bool {
        let Test::Compare { column: own, .. } = &tests[from] else { return false };
        let same = |test: &Test| {
            matches!(test, Test::Compare { column, .. } if column == own) || *test == Test::Never
        };
        to > from && tests[from..to].iter().all(same) && (same(&tests[to]) || tests[to] == Test::Always)
    }

    /// Compares; `along` says that a missing value goes where the test holds, and otherwise it goes where it fails.
    fn branch(&mut self, test: &Test, within: Branch, next: Branch, along: bool) -> Branch {
        match test {
            Test::Always => within,
            Test::Never => next,
            Test::Compare { column, compare, value, negated } => {
                let column = self.forest.column(column);
                let (holds, fails) = if *negated { (next, within) } else { (within, next) };
                let missing_holds = along != *negated;
                self.forest.split(Split {
                    column,
                    compare: *compare,
                    value: *value,
                    holds,
                    fails,
                    missing_holds,
                })
            }
        }
    }

    fn null(&mut self) -> Branch {
        let shares = vec![f64::NAN; self.classes.map_or(0, |classes| classes.len())];
        self.forest.leaf(Leaf { score: f64::NAN, shares })
    }

    /// A leaf with what the node itself says.
    fn own(&mut self, converter: &Converter<'x>, node: Element<'x>) -> Result<Branch> {
        let classes = self.classes.map_or(0, |classes| classes.len());
        converter.graph.room(self.forest.leaves.len().saturating_mul(classes))?;
        Ok(self.forest.leaf(leaf(node, self.classes)?))
    }
}

/// What a node says: its score, and the share of each class.
pub(super) fn leaf<'x>(node: Element<'x>, classes: Option<&Rc<Vec<String>>>) -> Result<Leaf> {
    let Some(classes) = classes else {
        return Ok(Leaf { score: node.number::<f64>("score")?.unwrap_or(f64::NAN), shares: vec![] });
    };
    let mut given = node.all("ScoreDistribution").peekable();
    let has_shares = given.peek().is_some();
    let by_probability = has_shares && given.all(|each| each.attribute("probability").is_some());
    let mut shares = counts(node, classes, if by_probability { "probability" } else { "recordCount" })?;
    let sum: f64 = shares.iter().sum();
    if !by_probability && sum > 0.0 {
        shares.iter_mut().for_each(|share| *share /= sum);
    }
    let score = match node.attribute("score") {
        Some(text) => class_place(classes, text, node)? as f64,
        None if !has_shares => f64::NAN,
        None => {
            (1..shares.len()).fold(0, |best, at| if shares[at] > shares[best] { at } else { best }) as f64
        }
    };
    if !has_shares {
        match score.is_nan() {
            true => shares.fill(f64::NAN),
            false => shares[score as usize] = 1.0,
        }
    }
    Ok(Leaf { score, shares })
}

/// What a node says of each class by an attribute of its distribution.
pub(super) fn counts<'x>(node: Element<'x>, classes: &[String], name: &str) -> Result<Vec<f64>> {
    let mut counts = vec![0.0; classes.len()];
    for each in node.all("ScoreDistribution") {
        let count = each.number::<f64>(name)?;
        counts[class_place(classes, each.required("value")?, each)?] =
            count.ok_or_else(|| each.wrong(format!("it needs the attribute {name}")))?;
    }
    Ok(counts)
}

/// The records of a node.
pub(super) fn records(node: Element) -> Result<f64> {
    if let Some(records) = node.number::<f64>("recordCount")? {
        return Ok(records);
    }
    let counts = node.all("ScoreDistribution").map(|each| each.number::<f64>("recordCount"));
    let counts = counts.collect::<Result<Option<Vec<f64>>>>()?.filter(|counts| !counts.is_empty());
    counts.map(|counts| counts.iter().sum()).ok_or_else(|| node.wrong("it needs the attribute recordCount"))
}

/// Whether a node whose children all refuse a row gives its own score.
pub(super) fn last_counts(model: Element) -> Result<bool> {
    match model.attribute("noTrueChildStrategy") {
        None | Some("returnNullPrediction") => Ok(false),
        Some("returnLastPrediction") => Ok(true),
        Some(other) => Err(model.unknown("noTrueChildStrategy", other)),
    }
}

/// The most nodes and leaves of the trees that are walked together.
const MOST: usize = 1 << 24;

/// The place of the child that a node's `defaultChild` names.
fn default_child(node: Element, children: &[Element]) -> Result<Option<usize>> {
    let Some(id) = node.attribute("defaultChild") else { return Ok(None) };
    match children.iter().position(|child| child.attribute("id") == Some(id)) {
        Some(place) => Ok(Some(place)),
        None => Err(node.wrong(format!("no child has the id '{}' of defaultChild", short(id)))),
    }
}
