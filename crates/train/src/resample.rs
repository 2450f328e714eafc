//! Features that are never on are given something to say.

use bae_model::{Architecture, Backend, Cpu, Estimator, ModelError, TrainingState};
use ndarray::{Array2, Axis};
use rand::distr::weighted::WeightedIndex;
use rand::prelude::Distribution;
use rand_chacha::ChaCha8Rng;

/// Draws the features that were on in none of the last `steps` steps anew, from rows `x [n, d_in]` and, where they have some, `targets
/// [n, d_out]` of the training space: each gets the residual e of a row, drawn by its squared length as in
/// Bricken et al. 2023 ("Towards Monosemanticity", neuron resampling). Its decoder row is e; it is on where the projection of a row
/// on e (on that row, where e is of a target) passes half the way to that row, so for this row and those like it. Its moments start
/// at 0. Gives how many were drawn.
///
/// # Errors
/// Those of encoding.
pub(crate) fn resample(
    state: &mut TrainingState,
    x: &Array2<f32>,
    targets: Option<&Array2<f32>>,
    steps: usize,
    threads: &Cpu,
    random: &mut ChaCha8Rng,
) -> Result<usize, ModelError> {
    let idle: Vec<usize> = (0..state.idle.len()).filter(|&at| state.idle[at] as usize >= steps).collect();
    if idle.is_empty() {
        return Ok(0);
    }
    let model = threads.with_parameters(&state.parameters);
    let architecture = Architecture::binary(Estimator::Identity);
    let codes = model.encode(&architecture, x.view())?;
    let residuals = targets.unwrap_or(x) - &model.decode(&architecture, &codes)?;
    let squares: Vec<f64> = residuals
        .axis_iter(Axis(0))
        .map(|row| row.iter().map(|&e| f64::from(e) * f64::from(e)).sum())
        .collect();
    // nothing is left to say
    let Ok(by_square) = WeightedIndex::new(&squares) else { return Ok(0) };
    for &feature in &idle {
        let row = by_square.sample(random);
        let residual = residuals.row(row);
        let along = if targets.is_some() { x.row(row) } else { residual };
        let square: f64 = along.iter().map(|&e| f64::from(e) * f64::from(e)).sum();
        // pre-activations of other features are in steps of about 1 where they matter: so is this one's
        let encoder = along.mapv(|e| (f64::from(e) / square.max(f64::MIN_POSITIVE)) as f32);
        let projection: f64 =
            x.row(row).iter().zip(&encoder).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum();
        let TrainingState { parameters, moments, idle } = &mut *state;
        parameters.w_enc.column_mut(feature).assign(&encoder);
        parameters.b_enc[feature] = (0.5 - projection) as f32;
        parameters.w_dec.row_mut(feature).assign(&residual);
        for moment in [&mut moments.first, &mut moments.second] {
            moment.w_enc.column_mut(feature).fill(0.0);
            moment.b_enc[feature] = 0.0;
            moment.w_dec.row_mut(feature).fill(0.0);
        }
        idle[feature] = 0;
    }
    Ok(idle.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bae_model::{Moments, Parameters};
    use rand::SeedableRng;

    #[test]
    fn a_feature_that_was_never_on_learns_the_residual_of_a_row() {
        let x = Array2::from_shape_fn((10, 4), |(k, j)| if k == 7 && j == 2 { 9.0 } else { 0.0 });
        let parameters =
            Parameters { b_enc: ndarray::arr1(&[-1.0, -1.0, 1.0]), ..Parameters::zeros(4, 3, 4) };
        let mut moments = Moments::new(&parameters);
        moments.first.b_enc.fill(3.0);
        let mut state = TrainingState { parameters, moments, idle: vec![4, 5, 0] };
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let threads = Cpu::new(&Parameters::zeros(0, 0, 0), 1);
        assert_eq!(resample(&mut state, &x, None, 5, &threads, &mut random).unwrap(), 1);
        assert_eq!(state.idle, [4, 0, 0]);
        assert_eq!(state.moments.first.b_enc.to_vec(), [3.0, 0.0, 3.0]);
        let model = threads.with_parameters(&state.parameters);
        let architecture = Architecture::binary(Estimator::Identity);
        let codes = model.encode(&architecture, x.view()).unwrap();
        assert!((0..10).all(|row| codes.get(row, 1) == (row == 7) && !codes.get(row, 0)));
        let decoded = model.decode(&architecture, &codes).unwrap();
        assert!((decoded - &x).iter().all(|&e| e == 0.0));
        // rows without a residual ask for nothing
        state.idle[0] = 9;
        assert_eq!(resample(&mut state, &x, None, 5, &threads, &mut random).unwrap(), 0);
    }
}
