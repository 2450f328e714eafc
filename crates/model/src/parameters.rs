use ndarray::{Array1, Array2};

/// Weights of an autoencoder, or anything of the same shapes: gradients, moments.
///
/// pre-activations = x · w_enc + b_enc, reconstruction = h · w_dec + b_dec.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters<T = f32> {
    /// Encoder, `[d_in, d_sae]`.
    pub w_enc: Array2<T>,
    /// Encoder bias, `[d_sae]`.
    pub b_enc: Array1<T>,
    /// Decoder, `[d_sae, d_in]` (`[d_sae, d_out]` where the target is not the input).
    pub w_dec: Array2<T>,
    /// Decoder bias, `[d_in]` (`[d_out]`).
    pub b_dec: Array1<T>,
}

impl<T: Copy + Default> Parameters<T> {
    /// All values 0.
    pub fn zeros(d_in: usize, d_sae: usize, d_out: usize) -> Self {
        Self {
            w_enc: Array2::default((d_in, d_sae)),
            b_enc: Array1::default(d_sae),
            w_dec: Array2::default((d_sae, d_out)),
            b_dec: Array1::default(d_out),
        }
    }

    /// All values 0, in the shapes of `self`.
    pub fn zeros_like(&self) -> Self {
        Self::zeros(self.d_in(), self.d_sae(), self.d_out())
    }

    /// Width of a hidden state.
    pub fn d_in(&self) -> usize {
        self.w_enc.nrows()
    }

    /// Number of features.
    pub fn d_sae(&self) -> usize {
        self.w_enc.ncols()
    }

    /// Width of a reconstruction.
    pub fn d_out(&self) -> usize {
        self.w_dec.ncols()
    }

    /// The same parameters in another number type.
    pub fn map<U>(&self, mut f: impl FnMut(T) -> U) -> Parameters<U> {
        Parameters {
            w_enc: self.w_enc.mapv(&mut f),
            b_enc: self.b_enc.mapv(&mut f),
            w_dec: self.w_dec.mapv(&mut f),
            b_dec: self.b_dec.mapv(&mut f),
        }
    }

    /// The values of the four tensors, row-major, in the order of [`TENSORS`].
    pub fn flat(&self) -> [&[T]; 4] {
        [self.w_enc.as_slice(), self.b_enc.as_slice(), self.w_dec.as_slice(), self.b_dec.as_slice()]
            .map(|values| values.expect(ROW_MAJOR))
    }

    /// [`Parameters::flat`], to write to.
    pub fn flat_mut(&mut self) -> [&mut [T]; 4] {
        [
            self.w_enc.as_slice_mut(),
            self.b_enc.as_slice_mut(),
            self.w_dec.as_slice_mut(),
            self.b_dec.as_slice_mut(),
        ]
        .map(|values| values.expect(ROW_MAJOR))
    }
}

/// Names of the four tensors in files.
pub const TENSORS: [&str; 4] = ["W_enc", "b_enc", "W_dec", "b_dec"];

const ROW_MAJOR: &str = "parameters are stored in row-major order";
