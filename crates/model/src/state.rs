use crate::{ModelError, Moments, Parameters, check_width};

/// All that steps leave behind in an engine: another one that takes it over goes on as this one would have.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingState {
    /// The parameters.
    pub parameters: Parameters,
    /// The optimiser's moments.
    pub moments: Moments,
    /// For each feature the steps since it was last on, `[d_sae]`: 0 where it was on for a row of the last step's batch.
    pub idle: Vec<u32>,
}

impl TrainingState {
    /// Refuses a state that is not of a model of these widths, or whose parts are of different ones.
    ///
    /// # Errors
    /// [`ModelError::Shape`].
    pub fn check(&self, d_in: usize, d_sae: usize, d_out: usize) -> Result<(), ModelError> {
        let Self { parameters, moments: Moments { first, second, .. }, idle } = self;
        for (what, tensors) in [
            ("the state's parameters", parameters),
            ("the state's first moments", first),
            ("the state's second moments", second),
        ] {
            check_width(what, d_in, tensors.w_enc.nrows())?;
            check_width(what, d_sae, tensors.w_enc.ncols())?;
            check_width(what, d_sae, tensors.b_enc.len())?;
            check_width(what, d_sae, tensors.w_dec.nrows())?;
            check_width(what, d_out, tensors.w_dec.ncols())?;
            check_width(what, d_out, tensors.b_dec.len())?;
        }
        check_width("the state's idle features", d_sae, idle.len())
    }
}

/// Counts a step: features that were on for a row of its batch begin again at 0.
pub(crate) fn count_idle(idle: &mut [u32], on: impl Fn(usize) -> bool) {
    for (feature, idle) in idle.iter_mut().enumerate() {
        *idle = if on(feature) { 0 } else { idle.saturating_add(1) };
    }
}
