use super::{Begin, Coding, Column, Entries, Named, Pass, Pull, Real, Recipe, Settings, Tensors};
use crate::{ModelError, Parameters};
use bae_kernels::{Isa, product::add_product};
use nalgebra::{DMatrix, SymmetricEigen};
use ndarray::{Array1, Array2, ArrayView2, Axis};
use rand_chacha::ChaCha8Rng;

/// h = z = (x − mean) V: the coordinates along the d_sae principal components, the directions of largest variance. No other linear code of
/// that width reconstructs its rows better.
///
/// Not learnt by steps: V are eigenvectors of the rows' covariance, the decoder is Vᵀ, its bias the mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pca;

impl Named for Pca {
    const NAME: &'static str = "pca";
    const RECIPE: Recipe = Recipe { start: Begin::Fitted, ..Recipe::PLAIN };

    fn with(_: &Settings) -> Result<Self, String> {
        Ok(Self)
    }

    fn fit(
        &self,
        rows: ArrayView2<f32>,
        d_sae: usize,
        _: &mut ChaCha8Rng,
        going_on: &dyn Fn(f64) -> bool,
    ) -> Option<Result<Parameters, ModelError>> {
        Some(components(rows, d_sae, going_on))
    }
}

impl<T: Real> Coding<T> for Pca {
    fn encode(&self, z: ArrayView2<T>, _: &Tensors<T>, _: Pass) -> Entries<T> {
        Entries::by_values(z, |_, z| Some(z))
    }

    fn backward(&self, _: &Column<T>, _: &mut [T]) -> Pull<T> {
        Pull::default()
    }
}

fn components(
    rows: ArrayView2<f32>,
    d_sae: usize,
    going_on: &dyn Fn(f64) -> bool,
) -> Result<Parameters, ModelError> {
    let (n, d_in) = rows.dim();
    let most = d_in.min(n.saturating_sub(1));
    if d_sae > most {
        return Err(ModelError::Invalid(format!(
            "pca of {n} rows of width {d_in} has at most {most} components, and {d_sae} features are asked for: take fewer features, or more rows"
        )));
    }
    let (centred, mean) = centre(rows);
    let covariance = second_moment(centred.view(), going_on)?;
    if covariance.iter().any(|value| !value.is_finite()) {
        return Err(ModelError::TooLarge);
    }
    let SymmetricEigen { eigenvectors, eigenvalues } = SymmetricEigen::new(covariance);
    let mut order: Vec<usize> = (0..d_in).collect();
    order.sort_by(|&a, &b| eigenvalues[b].total_cmp(&eigenvalues[a]).then(a.cmp(&b)));
    let w_dec = Array2::from_shape_fn((d_sae, d_in), |(at, dimension)| {
        eigenvectors[(dimension, order[at])]
    });
    let w_dec = w_dec.map_axis(Axis(1), |row| row.to_owned());
    let mut parameters = Parameters::zeros(d_in, d_sae, d_in);
    for (at, row) in w_dec.into_iter().enumerate() {
        // of the two directions that which has its largest entry above 0
        let largest = row.iter().fold(0.0f64, |a, &b| if b.abs() > f64::abs(a) { b } else { a });
        let row = row * if largest < 0.0 { -1.0 } else { 1.0 };
        parameters.b_enc[at] = -row.dot(&mean) as f32;
        parameters.w_dec.row_mut(at).assign(&row.mapv(|v| v as f32));
    }
    parameters.w_enc.assign(&parameters.w_dec.t());
    parameters.b_dec = mean.mapv(|v| v as f32);
    Ok(parameters)
}

/// The rows without their mean, and the mean; sums in f64.
pub(super) fn centre(rows: ArrayView2<f32>) -> (Array2<f32>, Array1<f64>) {
    let mut mean = Array1::<f64>::zeros(rows.ncols());
    for row in rows.rows() {
        mean.zip_mut_with(&row, |sum, &x| *sum += f64::from(x));
    }
    mean /= rows.nrows().max(1) as f64;
    let mut centred = rows.to_owned();
    for mut row in centred.rows_mut() {
        row.zip_mut_with(&mean, |x, &mean| *x = (f64::from(*x) - mean) as f32);
    }
    (centred, mean)
}

/// Rows whose products are summed in f32 before they are added up in f64.
const BLOCK: usize = 512;

/// Σ x xᵀ / n.
fn second_moment(
    rows: ArrayView2<f32>,
    going_on: &dyn Fn(f64) -> bool,
) -> Result<DMatrix<f64>, ModelError> {
    let (n, d) = rows.dim();
    let mut sum = DMatrix::zeros(d, d);
    for (block, part) in rows.axis_chunks_iter(Axis(0), BLOCK).enumerate() {
        if !going_on(block as f64 * BLOCK as f64 / n as f64) {
            return Err(ModelError::Cancelled);
        }
        let mut product = Array2::zeros((d, d));
        add_product(Isa::best(), part.t(), part, product.view_mut());
        sum.iter_mut().zip(&product).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    Ok(sum / n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architectures::Kind;
    use crate::{Architecture, Backend, Sae};
    use rand::{RngExt, SeedableRng};

    fn rows(n: usize, d_in: usize) -> Array2<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        Array2::from_shape_fn((n, d_in), |(_, j)| (rng.random::<f32>() - 0.3) * (1.0 + j as f32))
    }

    fn fitted(rows: &Array2<f32>, d_sae: usize) -> Parameters {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        Kind::Pca(Pca).fit(rows.view(), d_sae, &mut rng, &|_| true).expect("fitted").unwrap()
    }

    /// Mean squared error, all sums plain.
    fn error(rows: &Array2<f32>, parameters: &Parameters) -> f64 {
        let architecture = Architecture::of(Kind::Pca(Pca));
        let sae = Sae::new(parameters, 1);
        let y = sae.decode_values(&architecture, &sae.values(&architecture, rows.view()).unwrap()).unwrap();
        (&y - rows).mapv(|e| f64::from(e) * f64::from(e)).mean().unwrap()
    }

    #[test]
    fn no_turn_of_the_components_reconstructs_better() {
        let rows = rows(700, 7);
        let mut best = fitted(&rows, 3);
        let gram = best.w_dec.dot(&best.w_dec.t());
        assert!((gram - Array2::<f32>::eye(3)).iter().all(|e| e.abs() < 1e-5));
        let least = error(&rows, &best);
        for other in 0..7 {
            for (component, by) in [(0, 0.1f32), (1, -0.1), (2, 0.05)] {
                let mut turned = best.clone();
                let mut basis = turned.w_dec.row(component).mapv(|v| v * by.cos());
                basis[other] += by.sin();
                let length = basis.dot(&basis).sqrt();
                turned.w_dec.row_mut(component).assign(&(basis / length));
                turned.w_enc.assign(&turned.w_dec.t());
                turned.b_enc = -turned.w_dec.dot(&turned.b_dec);
                assert!(error(&rows, &turned) > least - 1e-6, "{component} towards {other}");
            }
        }
        best = fitted(&rows, 7);
        assert!(error(&rows, &best) < 1e-9, "all components give the rows back");
    }

    #[test]
    fn more_components_than_there_are_is_an_error() {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        for (n, d_in, d_sae, most) in [(5, 9, 5, 4), (50, 9, 10, 9), (0, 3, 1, 0)] {
            let fit = Pca.fit(rows(n, d_in).view(), d_sae, &mut rng, &|_| true).expect("fitted");
            let message = fit.unwrap_err().to_string();
            assert!(message.contains(&format!("at most {most} components")), "{message}");
        }
        let cancelled = Pca.fit(rows(5, 2).view(), 1, &mut rng, &|_| false).expect("fitted");
        assert!(matches!(cancelled, Err(ModelError::Cancelled)));
        let large = rows(5, 2) * 1e30;
        let fit = Pca.fit(large.view(), 1, &mut rng, &|_| true).expect("fitted");
        assert!(matches!(fit, Err(ModelError::TooLarge)));
    }
}
