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
    /// Tensors: the key, the numbers, which are float32 or float64. Params: `count`, and the bits of two float32 numbers `a` and `b`: the
    /// numbers are `a + b * x`, where `x` has the standard normal distribution, or lie from `a` to `b`, without `b`.
    Draw { normal: bool, scalar: Scalar },
}

impl Spec for Random {
    fn label(&self) -> String {
        match self {
            Random::Advance => "random_key",
            Random::Draw { normal: true, .. } => "random_normal",
            Random::Draw { normal: false, .. } => "random_uniform",
        }
        .into()
    }

    fn slots(&self) -> Vec<Slot> {
        match self {
            Random::Advance => vec![Slot::write("counter", Scalar::U32), Slot::write("key", Scalar::U32)],
            Random::Draw { scalar, .. } => vec![Slot::read("key", Scalar::U32), Slot::write("y", *scalar)],
        }
    }

    fn params(&self) -> Vec<String> {
        let names: &[&str] = match self {
            Random::Advance => &["count"],
            Random::Draw { .. } => &["count", "a", "b"],
        };
        names.iter().map(|name| name.to_string()).collect()
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let (step, normal, double) = match self {
            Random::Advance => ("advance", false, false),
            Random::Draw { normal, scalar } => ("draw", *normal, *scalar == Scalar::F64),
        };
        if normal {
            used.extend(if double { &["log_f64", "cos_f64"][..] } else { &["log_full"] });
        }
        template::render("random", context!(step, normal, double, workgroup => WORKGROUP))
    }
}
