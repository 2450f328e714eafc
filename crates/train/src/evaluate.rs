use crate::TrainError;
use bae_codes::{BitMatrix, Statistics};
use bae_data::Dataset;
use bae_model::{Architecture, Backend};
use ndarray::{Array2, Axis};
use serde::Serialize;

/// Rows that are read and encoded at once, at most ...
const CHUNK: usize = 2048;
/// ... and their pre-activations, at most (64 MiB).
const CHUNK_VALUES: usize = 1 << 24;

/// Rows that the covariance is measured on, at most: its cost grows with rows · d_sae².
const COVARIANCE_ROWS: usize = 16_384;

/// What a model makes of rows of hidden states, over all rows named.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Evaluation {
    /// Rows measured.
    pub rows: usize,
    /// Mean over rows and dimensions of (x − x̂)², in the squared units of the hidden states.
    pub mse: f64,
    /// Share of the variance that is not explained: E|x − x̂|² / (E|x|² − |E x|²).
    pub fvu: f64,
    /// 1 − fvu.
    pub explained_variance: f64,
    /// Σ_{i≠j} |Cov_ij| of the codes (of the first 16,384 rows where there are more).
    pub covariance: f64,
    /// What was counted on the codes.
    #[serde(flatten)]
    pub codes: Codes,
}

/// What is counted on codes alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Codes {
    /// Σ_j H(p_j), in bits a row.
    pub entropy_bits: f64,
    /// Mean features on in a row.
    pub l0: f64,
    /// l0 / d_sae.
    pub density: f64,
    /// Share of features never on.
    pub dead_fraction: f64,
    /// Share of features on in every row.
    pub always_on_fraction: f64,
    /// Share of features on in more than half of the rows.
    pub dense_fraction: f64,
}

impl From<&Statistics> for Codes {
    fn from(statistics: &Statistics) -> Self {
        Self {
            entropy_bits: statistics.entropy_bits(),
            l0: statistics.l0(),
            density: statistics.density(),
            dead_fraction: statistics.dead_fraction(),
            always_on_fraction: statistics.always_on_fraction(),
            dense_fraction: statistics.dense_fraction(),
        }
    }
}

/// Reads `rows` of the data (all, if `None`) and encodes them chunk by chunk: `each` gets the rows' position, the
/// hidden states and their codes, and says whether to go on.
///
/// # Errors
/// Those of reading and encoding; [`TrainError::Cancelled`] if `each` says stop.
pub fn encode_chunks(
    model: &dyn Backend,
    architecture: &Architecture,
    data: &Dataset,
    rows: Option<&[usize]>,
    mut each: impl FnMut(usize, &Array2<f32>, BitMatrix) -> Result<bool, TrainError>,
) -> Result<(), TrainError> {
    let total = rows.map_or(data.rows(), <[usize]>::len);
    let chunk = CHUNK.min(CHUNK_VALUES.div_ceil(model.d_sae()));
    let mut start = 0;
    while start < total {
        let end = total.min(start + chunk);
        let mut x = Array2::zeros((end - start, data.d_in()));
        match rows {
            Some(rows) => data.read_rows(&rows[start..end], x.view_mut())?,
            None => data.read(start..end, x.view_mut())?,
        }
        let codes = model.encode(architecture, x.view())?;
        if !each(start, &x, codes)? {
            return Err(TrainError::Cancelled);
        }
        start = end;
    }
    Ok(())
}

/// Measures a model that takes raw hidden states on `rows` of the data (all, if `None`). `progress` gets the rows
/// done and says whether to go on.
///
/// # Errors
/// As [`encode_chunks`].
pub fn evaluate(
    model: &dyn Backend,
    architecture: &Architecture,
    data: &Dataset,
    rows: Option<&[usize]>,
    mut progress: impl FnMut(usize) -> bool,
) -> Result<Evaluation, TrainError> {
    let mut moments = Moments::new(data.d_in());
    let mut statistics = Statistics::new(model.d_sae());
    let mut kept = BitMatrix::zeros(0, model.d_sae());
    let mut squared_error = 0.0;
    encode_chunks(model, architecture, data, rows, |start, x, codes| {
        let decoded = model.decode(architecture, &codes)?;
        let error = |(x, y): (&f32, &f32)| (f64::from(*x) - f64::from(*y)) * (f64::from(*x) - f64::from(*y));
        squared_error += x.iter().zip(&decoded).map(error).sum::<f64>();
        moments.add(x);
        statistics.add(&codes).expect("codes of one model");
        if kept.rows() < COVARIANCE_ROWS {
            kept.append(&codes).expect("codes of one model");
        }
        Ok(progress(start + x.nrows()))
    })?;
    let rows = statistics.rows() as usize;
    let variance = moments.squared_deviation();
    let fvu = if variance > 0.0 { squared_error / variance } else { f64::NAN };
    Ok(Evaluation {
        rows,
        mse: squared_error / (rows * data.d_in()).max(1) as f64,
        fvu,
        explained_variance: 1.0 - fvu,
        covariance: model.covariance(&kept)?,
        codes: Codes::from(&statistics),
    })
}

/// Sums for the variance, of values shifted by the first row so that a large mean costs no digits.
struct Moments {
    shift: Vec<f64>,
    sums: Vec<f64>,
    squares: f64,
    rows: usize,
}

impl Moments {
    fn new(d_in: usize) -> Self {
        Self { shift: vec![], sums: vec![0.0; d_in], squares: 0.0, rows: 0 }
    }

    fn add(&mut self, x: &Array2<f32>) {
        for row in x.axis_iter(Axis(0)) {
            if self.rows == 0 {
                self.shift = row.iter().map(|&x| f64::from(x)).collect();
            }
            for ((&x, shift), sum) in row.iter().zip(&self.shift).zip(&mut self.sums) {
                let value = f64::from(x) - shift;
                *sum += value;
                self.squares += value * value;
            }
            self.rows += 1;
        }
    }

    /// Σ over rows of |x − mean|².
    fn squared_deviation(&self) -> f64 {
        let n = self.rows.max(1) as f64;
        (self.squares - self.sums.iter().map(|s| s * s / n).sum::<f64>()).max(0.0)
    }
}
