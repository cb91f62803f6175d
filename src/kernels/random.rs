//! Random numbers that no seed decides. A counter on the device goes on from run to run, so that each run draws others; a number
//! is a hash of the counter and of its own place.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::gather::WORKGROUP;
use super::{Slot, Spec, template};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Random {
    /// Tensors: the counter, two words which it reads and writes; the key of this run, two words. Params: `count`, which is 1.
    Advance,
    /// Tensors: the key, the numbers. Params: `count`, and the bits of two floats `a` and `b`: the numbers are `a + b * x`, where
    /// `x` is from 0 to 1, without 1, or has the standard normal distribution.
    Draw { normal: bool },
}

impl Spec for Random {
    fn label(&self) -> String {
        match self {
            Random::Advance => "random_key",
            Random::Draw { normal: true } => "random_normal",
            Random::Draw { normal: false } => "random_uniform",
        }
        .into()
    }

    fn slots(&self) -> Vec<Slot> {
        match self {
            Random::Advance => vec![Slot::write("counter", Scalar::U32), Slot::write("key", Scalar::U32)],
            Random::Draw { .. } => vec![Slot::read("key", Scalar::U32), Slot::write("y", Scalar::F32)],
        }
    }

    fn params(&self) -> Vec<String> {
        let names: &[&str] = match self {
            Random::Advance => &["count"],
            Random::Draw { .. } => &["count", "a", "b"],
        };
        names.iter().map(|name| name.to_string()).collect()
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let (step, normal) = match self {
            Random::Advance => ("advance", false),
            Random::Draw { normal } => ("draw", *normal),
        };
        if normal {
            used.insert("log_full");
        }
        template::render("random", context!(step, normal, workgroup => WORKGROUP))
    }
}
