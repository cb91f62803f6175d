//! Bounds of a value's elements, and the error that a device may have.

/// Two units in the last place of a float32: the rounding of a device's operation, and that of the reference.
pub(super) const ROUNDING: f64 = 1.0 / (1 << 22) as f64;

/// The error of a software device's functions: `Tolerance::TRANSCENDENTAL` for results of order one.
pub(super) const FUNCTION: f64 = 3e-4;

/// What holds for the elements of a value in every run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The greatest magnitude.
    pub(super) size: f64,
    /// A power of two that divides all elements, if they are exact.
    pub(super) unit: f64,
    /// The error that a device may have; 0 if the elements are exact.
    pub(crate) error: f64,
}

impl Bounds {
    /// The bounds of a result that takes `roundings` roundings, if it is not exact.
    pub(super) fn new(size: f64, unit: f64, error: f64, roundings: f64) -> Bounds {
        let exact = error == 0.0 && size / unit <= (1 << 24) as f64;
        Bounds { size, unit, error: if exact { 0.0 } else { error + roundings * ROUNDING * size } }
    }

    pub(super) fn rounded(size: f64, error: f64) -> Bounds {
        Bounds { size, unit: 1.0, error: (error + ROUNDING * size).max(f64::MIN_POSITIVE) }
    }

    pub(super) fn is_exact(self) -> bool {
        self.error == 0.0
    }

    pub(super) fn join(self, other: Bounds) -> Bounds {
        let (size, error) = (self.size.max(other.size), self.error.max(other.error));
        Bounds { size, unit: self.unit.min(other.unit), error }
    }

    pub(super) fn sum(self, other: Bounds) -> Bounds {
        let (size, error) = (self.size + other.size, self.error + other.error);
        Bounds::new(size, self.unit.min(other.unit), error, 1.0)
    }

    /// The bounds of a sum of `n` elements.
    pub(super) fn times(self, n: usize) -> Bounds {
        let n = n.max(1) as f64;
        Bounds::new(n * self.size, self.unit, n * self.error, n)
    }

    pub(super) fn product(self, other: Bounds) -> Bounds {
        let error = self.size * other.error + other.size * self.error + self.error * other.error;
        Bounds::new(self.size * other.size, self.unit * other.unit, error, 1.0)
    }
}

/// Constants and inputs are multiples of a quarter, up to 2.
pub(super) const GRID: Bounds = Bounds { size: 2.0, unit: 0.25, error: 0.0 };
