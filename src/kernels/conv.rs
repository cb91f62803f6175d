//! Convolutions over one to three spatial axes, NCHW. Kernels read the input where it lies: no unfolded copy is made.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::fused::{Fused, Prologue};
use super::shared::{Shared, SharedLeft};
use super::{Kernel, Slot, SlotElement, Spec, element, given, template, whole};

/// Invocations per workgroup of the forms that need no subgroup.
pub(crate) const WORKGROUP: usize = 64;

/// A convolution. Tensors: x, w, the prologue's, the epilogue's, y. Params: [`Conv::params`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Conv {
    pub(crate) scalar: Scalar,
    pub(crate) form: Form,
    /// The prologue of `x`, whose lines are planes: one channel of one image each.
    pub(crate) prologue: Prologue,
    pub(crate) epilogue: Fused,
    /// Whether neighbours are stored together.
    pub(crate) runs: bool,
}

/// What an invocation computes, and how it reads weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// Any window over `rank` axes: an invocation computes `filters` output channels of one place. Weights: `[filters,
    /// channels, taps...]`.
    Any { rank: usize, filters: usize },
    /// Two axes or three, for software devices with a known subgroup size.
    Lanes(LanesForm),
    /// Two axes, for GPUs: for each group, the product of the weights, `[filters, terms]`, and the windows, `[terms, places]`.
    Shared(Shared),
    /// Two axes, groups of one input channel. Weights: `[filters, taps padded to whole vectors]`.
    Depthwise(Depthwise),
}

/// A subgroup computes `rows` output channels, and each lane `places` neighbours of one output row. `kernel`, `stride` and
/// `dilation` are those of the innermost axis. Weights: `[group][filter tile][channel][kernel row][vector][lane][4]`. The vectors
/// of lane `l` hold the taps of filters `l`, `l + lanes`, `l + 2 * lanes`, ..., with the filters of one tap side by side.
///
/// An example: 8 lanes and 32 rows. Lane 1 holds filters 1, 9, 17 and 25, and each of its vectors one tap of these four. With
/// 8 rows lane 1 holds filter 1 alone, and a vector holds four taps of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LanesForm {
    pub(crate) lanes: usize,
    /// Whether there are three axes.
    pub(crate) deep: bool,
    /// `lanes`, `2 * lanes`, `4 * lanes`, or more.
    pub(crate) rows: usize,
    pub(crate) places: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
    /// Whether a window may reach beyond the input.
    pub(crate) padded: bool,
}

/// An invocation computes `places` neighbours of each of some output rows of one channel. How many rows is a param: with 28 rows
/// and 7 places, two invocations compute the left eighth of a plane of 56 by 56.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Depthwise {
    pub(crate) places: usize,
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
    pub(crate) padded: bool,
}

impl LanesForm {
    /// The number of filters whose taps share one vector: 4 filters of a lane that has 4 or more, else all of the lane's.
    pub(crate) fn low_rows(&self) -> usize {
        (self.rows / self.lanes).min(4)
    }

    fn rank(&self) -> usize {
        if self.deep { 3 } else { 2 }
    }

    /// The products of registers that the inner loop adds up.
    pub(crate) fn products(&self) -> usize {
        self.rows * self.places * self.kernel
    }

    /// Vectors of weights that a lane loads for each kernel row.
    pub(super) fn weights(&self) -> usize {
        self.rows / self.lanes / self.low_rows() * self.kernel.div_ceil(4 / self.low_rows())
    }
}

impl Depthwise {
    /// The number of output rows whose sums are begun and not complete at a time: 3 for a kernel of 3 rows and a stride of 1.
    pub(crate) fn depth(&self) -> usize {
        ((self.kernel[0] - 1) * self.dilation[0]) / self.stride[0] + 1
    }
}

impl Conv {
    /// How many neighbours an invocation stores together, if it does.
    fn run(&self) -> Option<usize> {
        match self.form {
            Form::Lanes(LanesForm { places, .. }) | Form::Depthwise(Depthwise { places, .. })
                if self.runs =>
            {
                Some(places)
            }
            _ => None,
        }
    }
}

impl Spec for Conv {
    fn label(&self) -> String {
        match self.form {
            Form::Any { rank, .. } => format!("conv{rank}d"),
            Form::Lanes(form) => format!("conv{}x{}", form.rows, form.places),
            Form::Shared(form) => format!("conv_shared{}x{}", form.block.bm, form.block.bn),
            Form::Depthwise(form) => format!("depthwise{}", form.places),
        }
    }

    fn slots(&self) -> Vec<Slot> {
        let (w, x_vectors, w_vectors) = match self.form {
            Form::Any { .. } => ("w", false, false),
            Form::Shared(form) => ("a", false, form.left.is_vector()),
            Form::Lanes(_) | Form::Depthwise(_) => ("w", true, true),
        };
        let x = self.prologue.scalar("x", self.scalar);
        let mut slots =
            vec![Slot::read("x", element(x, x_vectors)), Slot::read(w, element(self.scalar, w_vectors))];
        slots.extend(self.prologue.slots());
        slots.extend(self.epilogue.slots("e"));
        let result = self.epilogue.output();
        slots.push(Slot::write(
            "y",
            self.run().map_or(result.into(), |places| SlotElement::Run(result, places)),
        ));
        slots
    }

    fn in_runs(&self) -> Option<Kernel> {
        let runs = Conv { runs: true, ..self.clone() };
        runs.run().is_some().then(|| runs.into())
    }

    fn params(&self) -> Vec<String> {
        // `planes` is batch * groups; `filters` and `channels` are those of one group; `first..last` are terms of the sum over
        // channels and taps.
        let (rank, own): (usize, &[&str]) = match self.form {
            Form::Any { rank, .. } => (rank, &["first", "last", "in_size", "out_size", "taps"]),
            Form::Lanes(form) => (form.rank(), &["rows"]),
            Form::Depthwise(_) => (2, &["rows"]),
            Form::Shared(_) => (
                2,
                &[
                    "first", "last", "in_size", "out_size", "taps", "n", "tiles", "blocks", "a_row",
                    "slices", "span", "size",
                ],
            ),
        };
        let fixed = ["planes", "groups", "filters", "channels"].iter().chain(own);
        let axes = (0..rank).flat_map(|d| {
            ["input", "output", "kernel", "stride", "dilation", "begin"].map(|name| format!("{name}{d}"))
        });
        fixed
            .map(|name| name.to_string())
            .chain(axes)
            .chain(self.prologue.params())
            .chain(self.epilogue.params("e"))
            .collect()
    }

    fn fits(&self, params: &[u32]) -> Result<(), &'static str> {
        // The params of an axis are input, output, kernel, stride, dilation and begin.
        let axis =
            |first: usize| params.get(first..first + 6).and_then(|axis| <[u32; 6]>::try_from(axis).ok());
        let window = |first: usize, spec: [usize; 3]| {
            axis(first).is_some_and(|axis| spec.iter().zip(&axis[2..]).all(|(a, b)| *a == *b as usize))
        };
        let inside = |first: usize| {
            let within = |[input, output, kernel, stride, dilation, begin]: [u32; 6]| {
                begin == 0 && (output.max(1) - 1) * stride + (kernel.max(1) - 1) * dilation < input
            };
            axis(first).is_some_and(within)
        };
        match self.form {
            Form::Any { .. } => Ok(()),
            Form::Shared(form) => {
                given("weights of whole vectors", form.left != SharedLeft::Vectors || whole(params, [12]))
            }
            Form::Lanes(form) => {
                let LanesForm { kernel, stride, dilation, padded, .. } = form;
                let mut axes = (0..form.rank()).map(|d| 5 + 6 * d);
                given(
                    "a window",
                    axes.clone().next_back().is_some_and(|x| window(x, [kernel, stride, dilation])),
                )?;
                given("windows inside the input", padded || axes.all(inside))
            }
            Form::Depthwise(Depthwise { kernel, stride, dilation, padded, .. }) => {
                let axis = |d: usize| window(5 + 6 * d, [kernel[d], stride[d], dilation[d]]);
                given("a window", axis(0) && axis(1))?;
                given("windows inside the input", padded || (inside(5) && inside(11)))
            }
        }
    }

    fn takes_wide(&self) -> bool {
        matches!(self.form, Form::Any { .. })
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        let (word, prologue, runs) = (self.scalar.word(), self.prologue.operand(), self.run().is_some());
        let main = match self.form {
            Form::Any { rank, filters } => {
                template::render("conv", context!(workgroup => WORKGROUP, rank, filters, word, prologue))
            }
            Form::Lanes(form) => {
                let LanesForm { lanes, deep, rows, places, kernel, stride, dilation, padded } = form;
                let (low_rows, weights) = (form.low_rows(), form.weights());
                let context = context!(
                    lanes, deep, rows, places, kernel, stride, dilation, padded, word, prologue, low_rows,
                    weights, runs,
                );
                template::render("conv_lanes", context)
            }
            Form::Shared(form) => {
                form.main(self.scalar, &self.epilogue, prologue, ["p.filters", "p.groups", "1u"], runs)
            }
            Form::Depthwise(form) => {
                let Depthwise { places, kernel, stride, dilation, padded } = form;
                let depth = form.depth();
                let ([kernel0, kernel1], [stride0, stride1], [dilation0, dilation1]) =
                    (kernel, stride, dilation);
                let context = context!(
                    workgroup => WORKGROUP, depth, places, kernel0, kernel1, stride0, stride1, dilation0, dilation1,
                    padded, word, prologue, runs,
                );
                template::render("conv_depthwise", context)
            }
        };
        let load = match self.form {
            Form::Any { .. } | Form::Shared(_) => self.prologue.load_function(false),
            // A vector of `x` may lie in two lines, so the prologue takes elements one by one.
            Form::Lanes(_) | Form::Depthwise(_) => String::new(),
        };
        self.prologue.function(used) + &load + &self.epilogue.function("epilogue", "e", used) + &main
    }
}
