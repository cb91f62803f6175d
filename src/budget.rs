//! `Limits` and `Budget`: what a model may cost before it runs. A file of 150 bytes can describe a product that takes minutes,
//! or a constant of a terabyte. Import, folding and planning therefore charge a budget before they do the work.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::DType;
use crate::error::{ByteCount, Why, refuse};
use crate::heap;
use crate::shape::{extent, product};

/// What loading and planning a model may cost, beyond what its own tensors need.
///
/// Passes compute the nodes whose inputs are all constants, and planning computes the values that decide shapes. Over a limit,
/// a node is not computed ahead of time: it runs on the device like any other. Where a shape needs its value, or where the
/// model cannot be built at all, the error names the node and the limit. A run on the CPU reference has only the limits that
/// [`SessionOptions::reference_limits`](crate::SessionOptions::reference_limits) sets.
///
/// ```
/// use sardonyx::{LoadOptions, Limits};
/// let options = LoadOptions::new().limits(Limits::new().steps(1 << 30).bytes(1 << 30));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    pub(crate) steps: u64,
    pub(crate) bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { steps: 1 << 26, bytes: 1 << 27 }
    }
}

impl Limits {
    /// Limits that serve most models, and that keep a file below 1 MB below 2 seconds and 256 MB.
    pub fn new() -> Limits {
        Limits::default()
    }

    /// The steps that all passes together may take, and each plan (67,108,864). A step is an element that is read or made, or
    /// eight products that are added to a sum. To these come 32 steps for each byte of the model's own tensors.
    pub fn steps(mut self, steps: u64) -> Limits {
        self.steps = steps;
        self
    }

    /// The bytes of host memory that import, all passes together, and each plan may take for what the file does not hold:
    /// folded values, known values and tables, dense forms of sparse tensors, and the copies of functions (134,217,728). To
    /// these come 16 bytes for each byte of the model's own tensors, and 48 for each of their elements: int4 numbers take half
    /// a byte each, and 44 bytes while they become float32.
    pub fn bytes(mut self, bytes: u64) -> Limits {
        self.bytes = bytes;
        self
    }

    /// The limits of a model whose own tensors take `own` bytes.
    pub(crate) fn beyond(&self, own: usize) -> Limits {
        let with = |limit: u64, each: u64| limit.saturating_add((own as u64).saturating_mul(each));
        Limits { steps: with(self.steps, 32), bytes: with(self.bytes, 16) }
    }

    /// The limits of a model whose own tensors have this many elements, beyond those of their bytes.
    pub(crate) fn beyond_elements(self, own: usize) -> Limits {
        Limits { bytes: self.bytes.saturating_add((own as u64).saturating_mul(48)), ..self }
    }
}

/// The multiply-adds of a plain loop that take at most as long as a step, in which the reference finds an element.
const PRODUCTS: usize = 8;

/// What an operation costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    /// Elements that are read or made, and eighths of the products that are added to sums.
    pub(crate) steps: u64,
    /// The bytes of all arrays that exist at the same time.
    pub(crate) bytes: u64,
}

impl Work {
    /// The work of reading or making an array of this type and shape.
    pub(crate) fn array(dtype: DType, shape: &[usize]) -> Work {
        // Finding an element's coordinates takes longer where there are many axes.
        let each = shape.len().div_ceil(4).max(1) as u64;
        let (steps, elements) = (iterations(shape) as u64, product(shape) as u64);
        Work { steps: steps.saturating_mul(each), bytes: elements.saturating_mul(width(dtype)) }
    }

    /// This work, and as many steps as the product of `factors` in addition.
    pub(crate) fn steps(self, factors: &[usize]) -> Work {
        Work { steps: self.steps.saturating_add(iterations(factors) as u64), ..self }
    }

    /// This work, and as many multiply-adds of plain loops as the product of `factors` in addition.
    pub(crate) fn products(self, factors: &[usize]) -> Work {
        self.steps(&[iterations(factors).div_ceil(PRODUCTS)])
    }

    /// This work, and `count` temporary elements of `width` bytes in addition.
    pub(crate) fn temporary(self, count: usize, width: usize) -> Work {
        let bytes = (count as u64).saturating_mul(width as u64);
        Work { steps: self.steps.saturating_add(count as u64), bytes: self.bytes.saturating_add(bytes) }
    }

    /// This work where each step takes as long as `times` steps.
    pub(crate) fn times(self, times: usize) -> Work {
        Work { steps: self.steps.saturating_mul(times as u64), ..self }
    }
}

impl std::ops::Add for Work {
    type Output = Work;

    fn add(self, other: Work) -> Work {
        Work { steps: self.steps.saturating_add(other.steps), bytes: self.bytes.saturating_add(other.bytes) }
    }
}

impl std::iter::Sum for Work {
    fn sum<I: Iterator<Item = Work>>(all: I) -> Work {
        all.fold(Work::default(), |sum, work| sum + work)
    }
}

/// The bytes of an element of an array on the host, without the text of a string.
fn width(dtype: DType) -> u64 {
    match dtype {
        DType::String => size_of::<String>() as u64,
        dtype if dtype.is_float() => size_of::<f64>() as u64,
        _ => size_of::<i128>() as u64,
    }
}

/// The number of iterations of loops over these sizes. Loops run over the axes beside an empty one.
fn iterations(sizes: &[usize]) -> usize {
    extent(sizes).unwrap_or(usize::MAX)
}

/// What is left of a model's [`Limits`].
#[derive(Debug)]
pub(crate) struct Budget {
    limits: Limits,
    steps: AtomicU64,
    bytes: AtomicU64,
}

impl Budget {
    pub(crate) fn new(limits: &Limits) -> Budget {
        Budget { steps: limits.steps.into(), bytes: limits.bytes.into(), limits: limits.clone() }
    }

    /// Takes the steps of `work`, and `kept` bytes for good; or takes nothing, and says which limit is too low, or that the
    /// host lacks the memory. The bytes of `work` are given back when it is done.
    pub(crate) fn charge(&self, work: Work, kept: u64) -> Result<(), Why> {
        let (steps, bytes) = (self.steps.load(Relaxed), self.bytes.load(Relaxed));
        if work.steps > steps {
            let limit = self.limits.steps;
            refuse!("it takes {} steps, and {steps} of {limit} are left; raise `Limits::steps`", work.steps);
        }
        let wanted = work.bytes.saturating_add(kept);
        if wanted > bytes {
            let limit = self.limits.bytes;
            let [wanted, bytes, limit] = [wanted, bytes, limit].map(ByteCount);
            refuse!("it takes {wanted}, and {bytes} of {limit} are left; raise `Limits::bytes`");
        }
        heap::ask("its work", wanted)?;
        // A budget belongs to one call, so nothing else takes from it meanwhile.
        self.steps.store(steps - work.steps, Relaxed);
        self.bytes.store(bytes - kept, Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::NoMemory;

    #[test]
    fn a_charge_takes_all_or_nothing() {
        let budget = Budget::new(&Limits::new().steps(100).bytes(1000));
        let work = |steps, bytes| Work { steps, bytes };
        assert!(
            budget
                .charge(work(101, 0), 0)
                .unwrap_err()
                .to_string()
                .contains("101 steps, and 100 of 100 are left")
        );
        assert!(
            budget
                .charge(work(1, 900), 101)
                .unwrap_err()
                .to_string()
                .contains("1001 bytes, and 1000 bytes of 1000 bytes are left")
        );
        budget.charge(work(40, 1000), 0).unwrap();
        budget.charge(work(60, 0), 600).unwrap();
        assert!(budget.charge(work(0, 401), 0).is_err());
        assert!(budget.charge(work(1, 0), 0).is_err());
        budget.charge(work(0, 400), 0).unwrap();
    }

    #[test]
    fn memory_that_the_host_does_not_give() {
        let budget = Budget::new(&Limits::new().bytes(u64::MAX));
        let why = budget.charge(Work { steps: 0, bytes: 1 << 62 }, 0).unwrap_err();
        assert!(matches!(why, Why::NoMemory(NoMemory { bytes, .. }) if bytes == 1 << 62), "{why}");
    }

    #[test]
    fn own_tensors_widen_a_budget() {
        let budget = Budget::new(&Limits::new().steps(0).bytes(0).beyond(10));
        budget.charge(Work { steps: 320, bytes: 160 }, 0).unwrap();
        assert!(budget.charge(Work { steps: 1, bytes: 0 }, 0).is_err());
        let budget = Budget::new(&Limits::new().bytes(0).beyond(10).beyond_elements(20));
        budget.charge(Work { steps: 0, bytes: 160 + 960 }, 0).unwrap();
        assert!(budget.charge(Work { steps: 0, bytes: 1121 }, 0).is_err());
    }

    #[test]
    fn loops_beside_an_empty_axis_take_steps_and_no_bytes() {
        assert_eq!(Work::array(DType::I32, &[1 << 20, 0, 1 << 20]), Work { steps: 1 << 40, bytes: 0 });
        assert_eq!(Work::array(DType::I32, &[usize::MAX, 0, 2]).bytes, 0);
    }

    #[test]
    fn work_that_does_not_fit_a_number_is_refused() {
        let work = Work::array(DType::F32, &[usize::MAX, 2]).steps(&[usize::MAX, usize::MAX]).times(7);
        assert_eq!(work, Work { steps: u64::MAX, bytes: u64::MAX });
    }
}
