//! GridSample: an invocation computes one sample.

use std::collections::BTreeSet;

use minijinja::context;

use super::expr::Scalar;
use super::fused::Fused;
use super::gather::WORKGROUP;
use super::{Slot, Spec, element, template};

/// The interpolation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Interpolation {
    Nearest,
    Linear,
    Cubic,
}

/// What lies outside the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Padding {
    Zeros,
    Border,
    Reflection,
}

/// Tensors: image, grid, the epilogue's, output. Params: `count`, `channels`, `points` (in the grid of one batch), the image's
/// `size` along each spatial axis, the epilogue's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GridSample {
    pub(crate) scalar: Scalar,
    /// The grid's: float32 or float64.
    pub(crate) grid: Scalar,
    pub(crate) rank: usize,
    pub(crate) mode: Interpolation,
    pub(crate) padding: Padding,
    pub(crate) align_corners: bool,
    pub(crate) epilogue: Fused,
}

impl Spec for GridSample {
    fn label(&self) -> String {
        format!("grid_sample_{:?}{}d", self.mode, self.rank).to_lowercase()
    }

    fn slots(&self) -> Vec<Slot> {
        let mut slots = vec![Slot::read("x", element(self.scalar, false)), Slot::read("grid", self.grid)];
        slots.extend(self.epilogue.slots("e"));
        slots.push(Slot::write("y", element(self.epilogue.output(), false)));
        slots
    }

    fn params(&self) -> Vec<String> {
        let own = ["count", "channels", "points"].map(String::from);
        let sizes = (0..self.rank).map(|d| format!("size{d}"));
        own.into_iter().chain(sizes).chain(self.epilogue.params("e")).collect()
    }

    fn takes_wide(&self) -> bool {
        true
    }

    fn body(&self, used: &mut BTreeSet<&'static str>) -> String {
        // Coordinates and sums are float64 if the image or the grid is.
        let double = [self.scalar, self.grid].contains(&Scalar::F64);
        let [real, is_nan, to_i32, to_u32] = match double {
            true => ["f64", "is_nan_f64", "f64_to_i32", "f64_to_u32"],
            false => ["f32", "is_nan", "f32_to_i32", "f32_to_u32"],
        };
        used.insert(is_nan);
        let result = match (self.mode, self.scalar) {
            (Interpolation::Nearest, _) => "result".into(),
            (_, Scalar::F32) if double => "f32(result)".into(),
            (_, Scalar::F32 | Scalar::F64) => "result".into(),
            (_, Scalar::I32 | Scalar::I64) => {
                used.insert(to_i32);
                format!("{to_i32}(result)")
            }
            (_, Scalar::U32 | Scalar::U64) => {
                used.insert(to_u32);
                format!("{to_u32}(result)")
            }
            (_, Scalar::Bool) => "select(0u, 1u, result >= 1.0)".into(),
        };
        let context = context!(
            workgroup => WORKGROUP,
            rank => self.rank,
            word => self.scalar.word(),
            mode => format!("{:?}", self.mode),
            padding => format!("{:?}", self.padding),
            align => self.align_corners,
            real,
            is_nan,
            result,
        );
        self.epilogue.function("finish", "e", used) + &template::render("grid_sample", context)
    }
}
