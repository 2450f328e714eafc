use std::path::Path;
use std::sync::Arc;

use bae_model::architectures::Kind;
use bae_model::{Architecture, Parameters};
use ndarray::{Array1, ArrayView2, Axis};
use serde_json::{Map, Value};

use crate::dataset::check_finite;
use crate::error::DataError;
use crate::input_file::InputFile;
use crate::layout;
use crate::model_file::LoadedModel;
use crate::numbers::{Element, Number, read_values};
use crate::safetensors_file::{self, Header};
use crate::scratch::Scratch;
use crate::tensor_file::{Place, Tensor, listing};
use crate::torch_file::TorchFile;

/// A model of which everything but the values has been read and found right.
pub(crate) struct StoredModel {
    pub(crate) architecture: Architecture,
    pub(crate) layer_norm: bool,
    /// What `cfg.json` says of it, in our own form.
    pub(crate) config: Map<String, Value>,
    pub(crate) widths: Widths,
    /// In the order of [`Parameters::flat`]; all 0 where a file has none.
    pub(crate) tensors: Vec<Option<Weights>>,
    pub(crate) folds: Folds,
}

/// Widths of a model's tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Widths {
    pub(crate) d_in: usize,
    pub(crate) d_sae: usize,
    pub(crate) d_out: usize,
}

/// What a tool does beside what our architectures do, and what its weights can do for it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Folds {
    /// b_dec is subtracted from what is encoded.
    pub(crate) centred: bool,
    /// Pre-activations are multiplied by the norm of the feature's decoder row (at least 1e-8), and codes divided by it when they are
    /// decoded.
    pub(crate) by_norm: bool,
}

impl StoredModel {
    /// Reads the values, and folds into them what is left to be done.
    pub(crate) fn load(self) -> Result<LoadedModel, DataError> {
        let Self { architecture, layer_norm, config, widths, tensors, folds } = self;
        let mut parameters = zeros(&architecture, widths);
        for (tensor, values) in tensors.iter().zip(parameters.flat_mut()) {
            if let Some(tensor) = tensor {
                tensor.read(values)?;
            }
        }
        if folds != Folds::default() {
            folds.apply(&architecture, &mut parameters);
            for ((name, shape), values) in parameters.shapes().into_iter().zip(parameters.flat()) {
                check_tensor(&format!("{name} with what is folded into it"), &shape, values)?;
            }
        }
        Ok(LoadedModel { parameters, architecture, layer_norm, config })
    }
}

/// Parameters of an architecture, all 0.
fn zeros(architecture: &Architecture, Widths { d_in, d_sae, d_out }: Widths) -> Parameters {
    let mut parameters = Parameters::zeros(d_in, d_sae, d_out);
    let names = layout::tensors_of(architecture).into_iter().skip(parameters.flat().len());
    parameters.per_feature = names.map(|(_, name)| (name, Array1::zeros(d_sae))).collect();
    parameters
}

impl Folds {
    /// In f64, feature by feature.
    fn apply(self, architecture: &Architecture, parameters: &mut Parameters) {
        if self.by_norm {
            for (feature, mut decoder) in parameters.w_dec.axis_iter_mut(Axis(0)).enumerate() {
                let squares: f64 = decoder.iter().map(|&w| f64::from(w) * f64::from(w)).sum();
                let norm = squares.sqrt().max(1e-8);
                let times_norm = |w: f32| (f64::from(w) * norm) as f32;
                parameters.w_enc.column_mut(feature).mapv_inplace(times_norm);
                parameters.b_enc[feature] = times_norm(parameters.b_enc[feature]);
                decoder.mapv_inplace(|w| (f64::from(w) / norm) as f32);
            }
        }
        if self.centred {
            shift_biases(architecture, parameters, -1.0);
        }
    }
}

/// Adds `sign` · b_dec W_enc to what is added to x W_enc, in f64: with −1, models that subtract b_dec from x become such that do not.
pub(crate) fn shift_biases(architecture: &Architecture, parameters: &mut Parameters, sign: f64) {
    let mut shift = vec![0.0; parameters.d_sae()];
    for (weights, &centre) in parameters.w_enc.rows().into_iter().zip(&parameters.b_dec) {
        let add = |(sum, &w): (&mut f64, &f32)| *sum += sign * f64::from(centre) * f64::from(w);
        shift.iter_mut().zip(weights).for_each(add);
    }
    let plus = |b: f32, shift: f64| (f64::from(b) + shift) as f32;
    parameters.b_enc.iter_mut().zip(&shift).for_each(|(b, &shift)| *b = plus(*b, shift));
    if let Some(Kind::Gated(_)) = architecture.kind() {
        // its magnitudes take x W_enc without the gates' bias
        let gains = parameters.of_features("r_mag").mapv(|r| libm::exp(f64::from(r)));
        let mut named = parameters.per_feature.iter_mut();
        let (_, b_mag) = named.find(|(name, _)| *name == "b_mag").expect("a tensor of its");
        let each = b_mag.iter_mut().zip(shift.iter().zip(&gains));
        each.for_each(|(b, (&shift, &gain))| *b = plus(*b, shift * gain));
    }
}

/// Where the values of a tensor lie.
pub(crate) struct Weights {
    place: Place,
    /// As messages have it.
    name: String,
    element: Element,
    shape: Vec<usize>,
    /// Numbers from one index to the next, for each axis.
    strides: Vec<usize>,
    /// Whether what is stored is the logarithm.
    pub(crate) is_log: bool,
}

impl Weights {
    /// The same matrix with rows and columns exchanged.
    pub(crate) fn transposed(mut self) -> Self {
        self.shape.reverse();
        self.strides.reverse();
        self
    }

    /// So many copies of the one number.
    pub(crate) fn repeated(self, count: usize) -> Self {
        Self { shape: vec![count], strides: vec![0], ..self }
    }

    /// The values, row-major, all of them numbers.
    pub(crate) fn read(&self, values: &mut [f32]) -> Result<(), DataError> {
        let Place { file, offset } = &self.place;
        if self.strides == contiguous(&self.shape) {
            read_values(file, self.element, *offset, values)?;
        } else {
            let axes = self.shape.iter().zip(&self.strides);
            let mut stored = vec![0.0; 1 + axes.map(|(&size, &stride)| (size - 1) * stride).sum::<usize>()];
            read_values(file, self.element, *offset, &mut stored)?;
            let columns = *self.shape.last().expect("one axis at least");
            for (row, values) in values.chunks_mut(columns).enumerate() {
                let start = if self.shape.len() == 2 { row * self.strides[0] } else { 0 };
                let stride = *self.strides.last().expect("as many");
                values.iter_mut().enumerate().for_each(|(at, value)| *value = stored[start + at * stride]);
            }
        }
        if self.is_log {
            values.iter_mut().for_each(|value| *value = libm::exp(f64::from(*value)) as f32);
        }
        check_tensor(&self.name, &self.shape, values)
    }
}

/// Strides of a tensor that lies row by row.
fn contiguous(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

/// A file of named weights.
pub(crate) struct WeightsFile {
    path: String,
    described: Vec<Tensor>,
    /// Where each lies, and its strides.
    places: Vec<(Place, Vec<usize>)>,
}

impl WeightsFile {
    /// A safetensors file.
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let file = Arc::new(InputFile::open(path)?);
        let header = Header::read(&file)?;
        let place = |tensor: &safetensors_file::Tensor| {
            (Place { file: file.clone(), offset: tensor.offset }, contiguous(&tensor.shape))
        };
        let places = header.tensors.iter().map(place).collect();
        Ok(Self { path: path.display().to_string(), described: header.described(), places })
    }

    /// What torch.save wrote of a module's state.
    pub(crate) fn torch(path: &Path) -> Result<Self, DataError> {
        let mut torch = TorchFile::open(Arc::new(InputFile::open(path)?))?;
        let (described, mut scratch) = (torch.described(), Scratch::default());
        let mut places = vec![];
        for (index, tensor) in described.iter().enumerate() {
            let stored = &torch.tensors[index].1;
            let strides = if stored.shape.contains(&0) { vec![] } else { stored.strides.clone() };
            if !is_dense(&stored.shape, &strides) || tensor.number.is_none() {
                return Err(DataError::format(format!(
                    "{}#{} ({} {:?}) is no tensor of its own that holds numbers; save the model's state_dict()",
                    path.display(),
                    tensor.name,
                    tensor.dtype,
                    tensor.shape
                )));
            }
            places.push((torch.place(index, &mut scratch)?, strides));
        }
        Ok(Self { path: path.display().to_string(), described, places })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.described.iter().any(|tensor| tensor.name == name)
    }

    /// Names of all tensors.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.described.iter().map(|tensor| &*tensor.name)
    }

    /// Rows and columns of a matrix, both above 0.
    pub(crate) fn matrix(&self, name: &str) -> Result<[usize; 2], DataError> {
        match self.described[self.find(name)?].shape[..] {
            [rows, columns] if rows > 0 && columns > 0 => Ok([rows, columns]),
            ref shape => Err(DataError::shape(format!(
                "{}#{name} has shape {shape:?}; it should be a matrix: save the model again",
                self.path
            ))),
        }
    }

    /// A tensor of this shape; `because` completes "but … make it SHAPE".
    pub(crate) fn take(&self, name: &str, shape: &[usize], because: &str) -> Result<Weights, DataError> {
        let weights = self.weights(name)?;
        if weights.element == Element::F64 {
            return Err(DataError::format(format!(
                "{} is of type {}; weights are F32, F16 or BF16: convert them",
                weights.name,
                self.described[self.find(name)?].dtype
            )));
        }
        if weights.shape != shape {
            return Err(DataError::shape(format!(
                "{} has shape {:?}, but {because} make it {shape:?}; these files are not of one model",
                weights.name, weights.shape
            )));
        }
        Ok(weights)
    }

    /// A tensor of one number without axes.
    pub(crate) fn take_scalar(&self, name: &str) -> Result<Weights, DataError> {
        let weights = self.weights(name)?;
        if !weights.shape.is_empty() {
            return Err(DataError::shape(format!(
                "{} has shape {:?}; it should be one number: save the model again",
                weights.name, weights.shape
            )));
        }
        Ok(weights)
    }

    fn weights(&self, name: &str) -> Result<Weights, DataError> {
        let index = self.find(name)?;
        let Tensor { dtype, number, shape, .. } = &self.described[index];
        let shown = format!("{}#{name}", self.path);
        let &Some(Number::Float(element)) = number else {
            return Err(DataError::format(format!(
                "{shown} is of type {dtype}; weights are F32, F16 or BF16: convert them"
            )));
        };
        let (place, strides) = self.places[index].clone();
        Ok(Weights { place, name: shown, element, shape: shape.clone(), strides, is_log: false })
    }

    fn find(&self, name: &str) -> Result<usize, DataError> {
        self.described.iter().position(|tensor| tensor.name == name).ok_or_else(|| {
            DataError::corrupt(format!(
                "{} has no tensor {name}, only {}; save the model again",
                self.path,
                listing(&self.described)
            ))
        })
    }
}

/// Whether a tensor's numbers fill the memory that they lie in, each in a place of its own: as allocated, perhaps with axes exchanged.
fn is_dense(shape: &[usize], strides: &[usize]) -> bool {
    let mut axes: Vec<_> = strides.iter().zip(shape).filter(|&(_, &size)| size != 1).collect();
    axes.sort();
    let mut expected = 1usize;
    axes.iter().all(|&(&stride, &size)| {
        let fits = stride == expected;
        expected = expected.saturating_mul(size);
        fits
    })
}

/// Refuses NaN and infinity, by their place in a tensor.
pub(crate) fn check_tensor(name: &str, shape: &[usize], values: &[f32]) -> Result<(), DataError> {
    let columns = shape.last().copied().unwrap_or(1).max(1);
    let rows = ArrayView2::from_shape((values.len() / columns, columns), values)
        .expect("rows of the last dimension");
    check_finite(rows, name, 0)
}
