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
use crate::numbers::{Element, read_values};
use crate::safetensors_file::Header;

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
    /// Pre-activations are multiplied by the norm of the feature's decoder row, and codes divided by it when they are decoded.
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
                let norm = decoder.iter().map(|&w| f64::from(w) * f64::from(w)).sum::<f64>().sqrt();
                let times_norm = |w: f32| (f64::from(w) * norm) as f32;
                parameters.w_enc.column_mut(feature).mapv_inplace(times_norm);
                parameters.b_enc[feature] = times_norm(parameters.b_enc[feature]);
                if norm > 0.0 {
                    decoder.mapv_inplace(|w| (f64::from(w) / norm) as f32);
                }
            }
        }
        if self.centred {
            let mut shift = vec![0.0; parameters.d_sae()];
            for (weights, &centre) in parameters.w_enc.rows().into_iter().zip(&parameters.b_dec) {
                let add = |(sum, &w): (&mut f64, &f32)| *sum += f64::from(centre) * f64::from(w);
                shift.iter_mut().zip(weights).for_each(add);
            }
            let minus = |b: f32, shift: f64| (f64::from(b) - shift) as f32;
            parameters.b_enc.iter_mut().zip(&shift).for_each(|(b, &shift)| *b = minus(*b, shift));
            if let Some(Kind::Gated(_)) = architecture.kind() {
                // its magnitudes take x W_enc without the gates' bias
                let gains = parameters.of_features("r_mag").mapv(|r| libm::exp(f64::from(r)));
                let (_, b_mag) = parameters
                    .per_feature
                    .iter_mut()
                    .find(|(name, _)| *name == "b_mag")
                    .expect("a tensor of its");
                let each = b_mag.iter_mut().zip(shift.iter().zip(&gains));
                each.for_each(|(b, (&shift, &gain))| *b = minus(*b, shift * gain));
            }
        }
    }
}

/// Where the values of a tensor lie.
pub(crate) struct Weights {
    file: Arc<InputFile>,
    name: String,
    element: Element,
    /// Byte of the file where the first one lies.
    offset: u64,
    shape: Vec<usize>,
}

impl Weights {
    fn read(&self, values: &mut [f32]) -> Result<(), DataError> {
        read_values(&self.file, self.element, self.offset, values)?;
        check_tensor(&format!("{}#{}", self.file.path().display(), self.name), &self.shape, values)
    }
}

/// A file of named weights.
pub(crate) struct WeightsFile {
    file: Arc<InputFile>,
    header: Header,
}

impl WeightsFile {
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let file = Arc::new(InputFile::open(path)?);
        let header = Header::read(&file)?;
        Ok(Self { file, header })
    }

    /// A tensor of this shape; `because` completes "but … make it SHAPE".
    pub(crate) fn take(&self, name: &str, shape: &[usize], because: &str) -> Result<Weights, DataError> {
        let path = self.file.path().display();
        let Some(tensor) = self.header.tensor(name) else {
            return Err(DataError::corrupt(format!(
                "{path} has no tensor {name}, only {}; save the model again",
                self.header.listing()
            )));
        };
        let element = Element::of_safetensors(tensor.dtype).filter(|&element| element != Element::F64);
        let Some(element) = element else {
            return Err(DataError::format(format!(
                "{path}#{name} is of type {}; weights are F32, F16 or BF16: convert them",
                tensor.dtype
            )));
        };
        if tensor.shape != shape {
            return Err(DataError::shape(format!(
                "{path}#{name} has shape {:?}, but {because} make it {shape:?}; these files are not of one model",
                tensor.shape
            )));
        }
        Ok(Weights {
            file: self.file.clone(),
            name: name.to_owned(),
            element,
            offset: tensor.offset,
            shape: shape.to_vec(),
        })
    }
}

/// Refuses NaN and infinity, by their place in a tensor.
pub(crate) fn check_tensor(name: &str, shape: &[usize], values: &[f32]) -> Result<(), DataError> {
    let columns = shape.last().copied().unwrap_or(1).max(1);
    let rows = ArrayView2::from_shape((values.len() / columns, columns), values)
        .expect("rows of the last dimension");
    check_finite(rows, name, 0)
}
