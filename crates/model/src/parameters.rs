use crate::architectures::{Kind, Real};
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
    /// What an architecture has beside these for each feature, `[d_sae]` each, by name: thresholds, gains. A Binary Autoencoder
    /// has none.
    pub per_feature: Vec<(&'static str, Array1<T>)>,
}

impl<T: Copy + Default> Parameters<T> {
    /// All values 0.
    pub fn zeros(d_in: usize, d_sae: usize, d_out: usize) -> Self {
        Self {
            w_enc: Array2::default((d_in, d_sae)),
            b_enc: Array1::default(d_sae),
            w_dec: Array2::default((d_sae, d_out)),
            b_dec: Array1::default(d_out),
            per_feature: vec![],
        }
    }

    /// All values 0, in the shapes of `self`.
    pub fn zeros_like(&self) -> Self {
        let mut zeros = Self::zeros(self.d_in(), self.d_sae(), self.d_out());
        zeros.per_feature =
            self.per_feature.iter().map(|(name, values)| (*name, Array1::default(values.len()))).collect();
        zeros
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
            per_feature: self.per_feature.iter().map(|(name, values)| (*name, values.mapv(&mut f))).collect(),
        }
    }

    /// Adds what the architecture has for each feature, at the values it starts at.
    pub fn add_per_feature(&mut self, kind: Kind)
    where
        T: Real,
    {
        let start = |&(name, value): &(&'static str, f32)| {
            (name, Array1::from_elem(self.d_sae(), T::of(f64::from(value))))
        };
        self.per_feature = kind.coding::<T>().per_feature().iter().map(start).collect();
    }

    /// What the architecture has under this name, `[d_sae]`.
    ///
    /// # Panics
    /// If it has nothing of this name.
    pub fn of_features(&self, name: &str) -> &Array1<T> {
        let found = self.per_feature.iter().find(|(of, _)| *of == name);
        &found.unwrap_or_else(|| panic!("the parameters have a tensor {name}")).1
    }

    /// Names and shapes of all tensors, in the order of [`Parameters::flat`]: [`TENSORS`], then those that the architecture has
    /// for each feature.
    pub fn shapes(&self) -> Vec<(&'static str, Vec<usize>)> {
        let (d_in, d_sae, d_out) = (self.d_in(), self.d_sae(), self.d_out());
        let four = [vec![d_in, d_sae], vec![d_sae], vec![d_sae, d_out], vec![d_out]];
        let more = self.per_feature.iter().map(|(name, _)| (*name, vec![d_sae]));
        TENSORS.into_iter().zip(four).chain(more).collect()
    }

    /// The values of all tensors, row-major, in the order of [`Parameters::shapes`].
    pub fn flat(&self) -> Vec<&[T]> {
        let four =
            [self.w_enc.as_slice(), self.b_enc.as_slice(), self.w_dec.as_slice(), self.b_dec.as_slice()];
        let more = self.per_feature.iter().map(|(_, values)| values.as_slice());
        four.into_iter().chain(more).map(|values| values.expect(ROW_MAJOR)).collect()
    }

    /// [`Parameters::flat`], to write to.
    pub fn flat_mut(&mut self) -> Vec<&mut [T]> {
        let four = [
            self.w_enc.as_slice_mut(),
            self.b_enc.as_slice_mut(),
            self.w_dec.as_slice_mut(),
            self.b_dec.as_slice_mut(),
        ];
        let more = self.per_feature.iter_mut().map(|(_, values)| values.as_slice_mut());
        four.into_iter().chain(more).map(|values| values.expect(ROW_MAJOR)).collect()
    }
}

/// Names of the four tensors in files.
pub const TENSORS: [&str; 4] = ["W_enc", "b_enc", "W_dec", "b_dec"];

const ROW_MAJOR: &str = "parameters are stored in row-major order";
