//! Support vector machines: distances to support vectors, votes of pairs of classes, and probabilities of classes out of those
//! of pairs.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::gather::WORKGROUP;
use super::{Slot, Spec, template};

/// One step. Pairs of classes are in the order (0, 1), (0, 2), ..., (1, 2), ...
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Svm {
    /// Squared distances. Tensors: rows, vectors, distances. Params: `count` (rows x vectors), `vectors`, `columns`.
    Distances,
    /// Finds the class with the most votes; a pair votes for its first class if its score is positive. Tensors: scores of
    /// pairs, places. Params: `count` (rows), `classes`.
    Votes,
    /// Makes the matrix of pairwise coupling. Tensors: scores of pairs, the numbers `a` and then `b` of each pair's
    /// probability, matrices. Params: `count` (rows x classes x classes), `classes`.
    Matrix,
    /// Some rounds towards the probabilities of classes. Tensors: matrices, products (for these rounds alone), probabilities.
    /// Params: `count` (rows), `classes`, `rounds`.
    Couple { first: bool },
}

/// Workgroups for `count` invocations.
pub(crate) fn groups(count: usize) -> usize {
    count.div_ceil(WORKGROUP)
}

impl Spec for Svm {
    fn label(&self) -> String {
        match self {
            Svm::Distances => "svm_distances",
            Svm::Votes => "svm_votes",
            Svm::Matrix => "svm_matrix",
            Svm::Couple { .. } => "svm_couple",
        }
        .into()
    }

    fn slots(&self) -> Vec<Slot> {
        let read = |name: &str| Slot::read(name, Scalar::F32);
        let write = |name: &str| Slot::write(name, Scalar::F32);
        match self {
            Svm::Distances => vec![read("x"), read("vectors"), write("y")],
            Svm::Votes => vec![read("scores"), Slot::write("places", Scalar::I32)],
            Svm::Matrix => vec![read("scores"), read("table"), write("q")],
            Svm::Couple { .. } => vec![read("q"), write("products"), write("y")],
        }
    }

    fn params(&self) -> Vec<String> {
        let names: &[&str] = match self {
            Svm::Distances => &["count", "vectors", "columns"],
            Svm::Votes | Svm::Matrix => &["count", "classes"],
            Svm::Couple { .. } => &["count", "classes", "rounds"],
        };
        names.iter().map(|name| name.to_string()).collect()
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let (step, first) = match self {
            Svm::Distances => ("distances", false),
            Svm::Votes => ("votes", false),
            Svm::Matrix => {
                used.insert("sigmoid");
                ("matrix", false)
            }
            Svm::Couple { first } => ("couple", *first),
        };
        template::render("svm", context!(workgroup => WORKGROUP, step, first))
    }
}
