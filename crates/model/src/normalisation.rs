use crate::Parameters;
use crate::architectures::Gated;
use ndarray::{Array1, ArrayViewMut2, Axis, Zip};

/// The affine map between raw hidden states and the space that training works in: x' = (x − centre) / scale.
///
/// It is measured on the training rows and folded into the weights, so that a saved model takes raw hidden states.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalisation {
    /// Per dimension, in the units of the hidden states, `[d_in]`.
    pub centre: Array1<f32>,
    /// Per dimension, in the units of the hidden states, `[d_in]`, above 0.
    pub scale: Array1<f32>,
}

impl Normalisation {
    /// Centre 0, scale 1.
    pub fn none(d_in: usize) -> Self {
        Self { centre: Array1::zeros(d_in), scale: Array1::ones(d_in) }
    }

    /// Maps raw rows `[n, d_in]` into the training space, in place.
    pub fn apply(&self, mut rows: ArrayViewMut2<f32>) {
        for mut row in rows.axis_iter_mut(Axis(0)) {
            let each = Zip::from(&mut row).and(&self.centre).and(&self.scale);
            each.for_each(|x, &centre, &scale| *x = (*x - centre) / scale);
        }
    }

    /// Parameters that do to raw hidden states what `trained` does to normalised ones (sums in f64). Runs on the
    /// current rayon pool.
    pub fn fold(&self, trained: &Parameters) -> Parameters {
        self.fold_to(self, trained)
    }

    /// [`Normalisation::fold`] where what is made of the hidden states is normalised by a `target` of its own, `[d_out]`.
    pub fn fold_to(&self, target: &Self, trained: &Parameters) -> Parameters {
        let mut folded = trained.clone();
        let mut b_enc = trained.b_enc.mapv(f64::from);
        for ((row, &centre), &scale) in trained.w_enc.axis_iter(Axis(0)).zip(&self.centre).zip(&self.scale) {
            let centre = f64::from(centre) / f64::from(scale);
            if centre != 0.0 {
                Zip::from(&mut b_enc).and(&row).for_each(|b, &w| *b -= centre * f64::from(w));
            }
        }
        folded.b_enc = b_enc.mapv(|b| b as f32);
        Gated::b_enc_moved(&mut folded, &(b_enc - trained.b_enc.mapv(f64::from)));
        Zip::from(folded.w_enc.rows_mut()).and(&self.scale).par_for_each(|mut row, &scale| {
            row.mapv_inplace(|w| (f64::from(w) / f64::from(scale)) as f32);
        });
        Zip::from(folded.w_dec.rows_mut()).par_for_each(|mut row| {
            row.zip_mut_with(&target.scale, |w, &scale| *w = (f64::from(*w) * f64::from(scale)) as f32);
        });
        Zip::from(&mut folded.b_dec).and(&target.centre).and(&target.scale).for_each(|b, &centre, &scale| {
            *b = (f64::from(*b) * f64::from(scale) + f64::from(centre)) as f32;
        });
        folded
    }
}

/// Brings each row to mean 0 and standard deviation 1 (divisor d_in − 1, and 1e-5 added to it), in place, and gives what was
/// taken from it: mean and divisor. No weights can do that; it is what other sparse-autoencoder tools call
/// `normalize_activations: "layer_norm"`, and computed as they do.
pub fn layer_norm(mut rows: ArrayViewMut2<f32>) -> Vec<(f32, f32)> {
    const EPSILON: f64 = 1e-5;
    let d = rows.ncols() as f64;
    let normalise = |mut row: ndarray::ArrayViewMut1<f32>| {
        let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / d.max(1.0);
        let squares: f64 = row.iter().map(|&x| (f64::from(x) - mean) * (f64::from(x) - mean)).sum();
        let divisor = (squares / (d - 1.0).max(1.0)).sqrt() + EPSILON;
        row.mapv_inplace(|x| ((f64::from(x) - mean) / divisor) as f32);
        (mean as f32, divisor as f32)
    };
    rows.axis_iter_mut(Axis(0)).map(normalise).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Architecture, Backend, Cpu, Estimator};
    use ndarray::{Array, Array2};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn folded_weights_do_to_raw_rows_what_trained_ones_do_to_normalised_ones() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut random = move || rng.random::<f32>() - 0.5;
        let raw =
            Array2::from_shape_fn((40, 9), |(_, j)| 5.0 * j as f32 + 3.0f32.powi(j as i32 - 4) * random());
        let trained = Parameters {
            w_enc: Array::from_shape_simple_fn((9, 30), &mut random),
            b_enc: Array::from_shape_simple_fn(30, &mut random),
            w_dec: Array::from_shape_simple_fn((30, 9), &mut random),
            b_dec: Array::from_shape_simple_fn(9, &mut random),
            per_feature: vec![],
        };
        let normalisation = Normalisation {
            centre: Array1::from_shape_fn(9, |j| 5.0 * j as f32),
            scale: Array1::from_shape_fn(9, |j| 3.0f32.powi(j as i32 - 4)),
        };
        let mut normalised = raw.clone();
        normalisation.apply(normalised.view_mut());
        let architecture = Architecture::binary(Estimator::Identity);
        let inner = Cpu::new(&trained, 1);
        let outer = Cpu::new(&normalisation.fold(&trained), 1);
        let codes = inner.encode(&architecture, normalised.view()).unwrap();
        assert_eq!(codes, outer.encode(&architecture, raw.view()).unwrap());
        let inner = inner.decode(&architecture, &codes).unwrap();
        let expected = inner * &normalisation.scale + &normalisation.centre;
        let got = outer.decode(&architecture, &codes).unwrap();
        assert!((&got - &expected).iter().all(|e| e.abs() < 1e-3), "{got} {expected}");
    }

    #[test]
    fn targets_have_a_normalisation_of_their_own() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut random = move || rng.random::<f32>() - 0.5;
        let raw = Array2::from_shape_fn((30, 5), |(_, j)| 7.0 + j as f32 + random());
        let trained = Parameters {
            w_enc: Array::from_shape_simple_fn((5, 20), &mut random),
            w_dec: Array::from_shape_simple_fn((20, 3), &mut random),
            ..Parameters::zeros(5, 20, 3)
        };
        let input = Normalisation { centre: Array1::from_elem(5, 9.0), scale: Array1::from_elem(5, 0.5) };
        let target = Normalisation {
            centre: ndarray::arr1(&[100.0, -3.0, 0.0]),
            scale: ndarray::arr1(&[10.0, 0.1, 1.0]),
        };
        let mut normalised = raw.clone();
        input.apply(normalised.view_mut());
        let architecture = Architecture::binary(Estimator::Identity);
        let (inner, outer) = (Cpu::new(&trained, 1), Cpu::new(&input.fold_to(&target, &trained), 1));
        let codes = inner.encode(&architecture, normalised.view()).unwrap();
        assert_eq!(codes, outer.encode(&architecture, raw.view()).unwrap());
        let expected = inner.decode(&architecture, &codes).unwrap() * &target.scale + &target.centre;
        let got = outer.decode(&architecture, &codes).unwrap();
        assert!((&got - &expected).iter().all(|e| e.abs() < 1e-4), "{got} {expected}");
    }

    #[test]
    fn layer_norm_is_undone_by_what_it_returns() {
        let mut rows =
            Array2::from_shape_fn((4, 6), |(k, j)| (k as f32 + 1.0) * ((j * j) as f32 - 7.0) + 100.0);
        let raw = rows.clone();
        let taken = layer_norm(rows.view_mut());
        for ((row, raw), (mean, divisor)) in rows.rows().into_iter().zip(raw.rows()).zip(taken) {
            assert!(row.sum().abs() < 1e-4 && (row.mapv(|x| x * x).sum() / 5.0 - 1.0).abs() < 1e-4);
            assert!(row.iter().zip(raw).all(|(x, raw)| (x * divisor + mean - raw).abs() < 1e-3));
        }
        let mut constant = Array2::from_elem((1, 3), 7.0);
        assert_eq!(layer_norm(constant.view_mut()), [(7.0, 1e-5)]);
        assert!(constant.iter().all(|&x| x == 0.0));
    }
}
