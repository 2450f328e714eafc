use ndarray::NdFloat;

/// The numbers that a model computes with.
pub trait Real: NdFloat {
    /// The nearest number of this type.
    fn of(value: f64) -> Self;
    /// Itself in f64.
    fn wide(self) -> f64;
    /// e to this power, by the same polynomial on every machine.
    fn exponential(self) -> Self {
        Self::of(libm::exp(self.wide()))
    }
}

impl Real for f32 {
    fn of(value: f64) -> Self {
        value as f32
    }
    fn wide(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    fn of(value: f64) -> Self {
        value
    }
    fn wide(self) -> f64 {
        self
    }
}
