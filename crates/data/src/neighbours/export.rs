//! Models of our own in the folders of other tools.

use std::path::Path;
use std::str::FromStr;

use bae_model::architectures::{Kind, TopK};
use bae_model::{Activation, Estimator, Parameters};
use serde_json::{Map, Value, json};

use super::{dictionary_learning, published, sparsify};
use crate::error::DataError;
use crate::folder::write_folder;
use crate::model_file::{CONFIG, LoadedModel, WEIGHTS, write_file, write_model};
use crate::stored_model::{check_tensor, shift_biases};
use crate::tensors_out::{Values, write_tensors};
use crate::torch_out::{Numbers, StateTensor, write_state};

/// Whose files a model is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// SAELens: our own layout, where it has the architecture.
    SaeLens,
    /// sparsify.
    Sparsify,
    /// dictionary_learning.
    DictionaryLearning,
    /// The published Binary Autoencoder.
    Published,
}

impl Format {
    /// All of them, by name.
    pub const ALL: [(&'static str, Self); 4] = [
        ("saelens", Self::SaeLens),
        ("sparsify", Self::Sparsify),
        ("dictionary_learning", Self::DictionaryLearning),
        ("published", Self::Published),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, format)| *format == self).expect("one of all").0
    }
}

impl FromStr for Format {
    type Err = DataError;

    fn from_str(name: &str) -> Result<Self, DataError> {
        match Self::ALL.iter().find(|(of, _)| *of == name) {
            Some((_, format)) => Ok(*format),
            None => Err(DataError::argument(format!(
                "format is \"{name}\": it may be {}",
                Self::ALL.map(|(name, _)| name).join(", ")
            ))),
        }
    }
}

/// Writes a model as a folder that another tool reads and computes the same with, all or nothing. What the tool does beside encoder and
/// decoder is taken out of the weights again.
///
/// # Errors
/// As [`crate::save_model`]; `UNSUPPORTED_FORMAT` for what the tool's files cannot express, by its name.
pub fn export_model(
    dir: &Path,
    format: Format,
    model: &LoadedModel,
    overwrite: bool,
) -> Result<(), DataError> {
    let written = match format {
        Format::SaeLens => WEIGHTS,
        Format::Sparsify => sparsify::WEIGHTS,
        Format::DictionaryLearning => dictionary_learning::WEIGHTS,
        Format::Published => published::WEIGHTS,
    };
    no_other_model(dir, written)?;
    let cannot = |what: String| {
        DataError::format(format!("{what}, which {} has no way to say: choose another format", format.name()))
    };
    expressible(format, model).map_err(cannot)?;
    write_folder(dir, overwrite, |new| match format {
        Format::SaeLens => write_model(new, &model.architecture, &model.parameters, &model.config),
        Format::Sparsify => write_sparsify(new, model),
        Format::DictionaryLearning => write_dictionary_learning(new, model),
        Format::Published => write_published(new, model),
    })
}

/// Refuses a folder that holds a model of a tool whose files are called otherwise: they would stay, and be read in place of these.
pub(crate) fn no_other_model(dir: &Path, written: &str) -> Result<(), DataError> {
    let others = [WEIGHTS, sparsify::WEIGHTS, dictionary_learning::WEIGHTS, published::WEIGHTS];
    match others.into_iter().find(|other| *other != written && dir.join(other).exists()) {
        None => Ok(()),
        Some(other) => Err(DataError::refused(format!(
            "{} holds {other}, another tool's model, which would be read in place of this one; choose another --out",
            dir.display()
        ))),
    }
}

/// What a format cannot say of this model, if there is something.
fn expressible(format: Format, model: &LoadedModel) -> Result<(), String> {
    let name = model.config.get("architecture").and_then(Value::as_str).unwrap_or_default();
    let (kind, is_transcoder) = (model.architecture.kind(), is_transcoder(model));
    let fits = match format {
        Format::SaeLens => matches!(
            name,
            "bae" | "standard" | "topk" | "jumprelu" | "gated" | "transcoder" | "jumprelu_transcoder"
        ),
        Format::Sparsify => {
            let same_width = model.parameters.d_in() == model.parameters.d_out();
            matches!(kind, Some(Kind::TopK(_))) && same_width
        }
        Format::DictionaryLearning => {
            !is_transcoder
                && matches!(kind, Some(Kind::Relu(_) | Kind::TopK(_) | Kind::Threshold(_) | Kind::Gated(_)))
        }
        Format::Published => kind.is_none() && !is_transcoder,
    };
    if !fits {
        let (d_in, d_out) = (model.parameters.d_in(), model.parameters.d_out());
        let widths = if is_transcoder { format!(" from width {d_in} to {d_out}") } else { String::new() };
        return Err(format!("the model is of architecture {name}{widths}"));
    }
    if format != Format::SaeLens && model.layer_norm {
        return Err("the model layer-normalises its rows".to_owned());
    }
    if format == Format::Published
        && model.architecture.activation == Activation::Binary(Estimator::Squarewave)
    {
        return Err("the model's bits follow a square wave".to_owned());
    }
    Ok(())
}

fn is_transcoder(model: &LoadedModel) -> bool {
    model.config.contains_key("d_out") || model.parameters.d_in() != model.parameters.d_out()
}

/// The parameters of a tool that subtracts b_dec before it encodes.
fn centred(path: &Path, model: &LoadedModel) -> Result<Parameters, DataError> {
    let mut parameters = model.parameters.clone();
    shift_biases(&model.architecture, &mut parameters, 1.0);
    check(path, &parameters)?;
    Ok(parameters)
}

fn check(path: &Path, parameters: &Parameters) -> Result<(), DataError> {
    for ((name, shape), values) in parameters.shapes().into_iter().zip(parameters.flat()) {
        check_tensor(&format!("{}#{name}", path.display()), &shape, values)?;
    }
    Ok(())
}

fn write_config(path: &Path, config: &Value) -> Result<(), DataError> {
    write_file(path, |file| std::io::Write::write_fmt(file, format_args!("{config:#}\n")))
}

fn write_sparsify(new: &Path, model: &LoadedModel) -> Result<(), DataError> {
    let path = new.join(sparsify::WEIGHTS);
    let is_transcoder = is_transcoder(model);
    let Some(Kind::TopK(TopK { k, .. })) = model.architecture.kind() else {
        unreachable!("looked at before")
    };
    let parameters = if is_transcoder {
        check(&path, &model.parameters)?;
        model.parameters.clone()
    } else {
        centred(&path, model)?
    };
    let (d_in, d_sae) = (parameters.d_in(), parameters.d_sae());
    let encoder: Vec<f32> = parameters.w_enc.t().iter().copied().collect();
    let [_, b_enc, w_dec, b_dec] = parameters.flat()[..] else { unreachable!("four tensors") };
    let tensors = [
        ("W_dec", &[d_sae, d_in][..], Values::F32(w_dec)),
        ("b_dec", &[d_in], Values::F32(b_dec)),
        ("encoder.bias", &[d_sae], Values::F32(b_enc)),
        ("encoder.weight", &[d_sae, d_in], Values::F32(&encoder)),
    ];
    // as PyTorch's own writer of the format has it: some readers ask for it
    let metadata = [("format", "pt".to_owned())];
    write_file(&path, |file| write_tensors(file, &metadata, &tensors))?;
    let config = json!({
        "activation": "topk",
        "num_latents": d_sae,
        "k": k,
        "normalize_decoder": false,
        "multi_topk": false,
        "skip_connection": false,
        "transcode": is_transcoder,
        "d_in": d_in,
    });
    write_config(&new.join(CONFIG), &config)
}

fn write_dictionary_learning(new: &Path, model: &LoadedModel) -> Result<(), DataError> {
    let path = new.join(dictionary_learning::WEIGHTS);
    let kind = model.architecture.kind().expect("looked at before");
    let is_centred = matches!(kind, Kind::TopK(_) | Kind::Gated(_));
    let parameters = if is_centred {
        centred(&path, model)?
    } else {
        check(&path, &model.parameters)?;
        model.parameters.clone()
    };
    let (d_in, d_sae) = (parameters.d_in(), parameters.d_sae());
    let flat = parameters.flat();
    let (w_enc, b_enc, w_dec, b_dec) = (flat[0], flat[1], flat[2], flat[3]);
    let encoder = |name| StateTensor::matrix(name, w_enc, [d_in, d_sae]);
    let decoder = |name| StateTensor::matrix(name, w_dec, [d_sae, d_in]);
    let mut trainer = Map::new();
    let (class, tensors) = match kind {
        Kind::TopK(TopK { k, .. }) => {
            trainer.insert("k".to_owned(), json!(k));
            let count =
                i32::try_from(k).map_err(|_| DataError::format(format!("k is {k}, beyond 32 bits")))?;
            let tensors = vec![
                StateTensor::vector("b_dec", b_dec),
                StateTensor::scalar("k", Numbers::Integer(count)),
                // below 0: it has none
                StateTensor::scalar("threshold", Numbers::Floats(&[-1.0])),
                decoder("decoder.weight").transposed(),
                encoder("encoder.weight").transposed(),
                StateTensor::vector("encoder.bias", b_enc),
            ];
            ("AutoEncoderTopK", tensors)
        }
        Kind::Threshold(_) => {
            let tensors = vec![
                encoder("W_enc"),
                StateTensor::vector("b_enc", b_enc),
                decoder("W_dec"),
                StateTensor::vector("b_dec", b_dec),
                StateTensor::vector("threshold", flat[4]),
            ];
            ("JumpReluAutoEncoder", tensors)
        }
        Kind::Gated(_) => {
            let tensors = vec![
                StateTensor::vector("decoder_bias", b_dec),
                StateTensor::vector("r_mag", flat[4]),
                StateTensor::vector("gate_bias", b_enc),
                StateTensor::vector("mag_bias", flat[5]),
                encoder("encoder.weight").transposed(),
                decoder("decoder.weight").transposed(),
            ];
            ("GatedAutoEncoder", tensors)
        }
        // relu; not `AutoEncoder`, whose loader moves the norms of the decoder's vectors into the encoder
        _ => {
            let tensors = vec![
                encoder("encoder.weight").transposed(),
                StateTensor::vector("encoder.bias", b_enc),
                decoder("decoder.weight").transposed(),
                StateTensor::vector("decoder.bias", b_dec),
            ];
            ("AutoEncoderNew", tensors)
        }
    };
    write_file(&path, |file| write_state(file, "ae", &tensors))?;
    trainer.insert("dict_class".to_owned(), json!(class));
    trainer.insert("activation_dim".to_owned(), json!(d_in));
    trainer.insert("dict_size".to_owned(), json!(d_sae));
    write_config(&new.join(dictionary_learning::CONFIG), &json!({ "trainer": trainer }))
}

fn write_published(new: &Path, model: &LoadedModel) -> Result<(), DataError> {
    let path = new.join(published::WEIGHTS);
    let parameters = &model.parameters;
    check(&path, parameters)?;
    let (d_in, d_sae) = (parameters.d_in(), parameters.d_sae());
    let flat = parameters.flat();
    let tensors = [
        StateTensor::matrix("encoder.weight", flat[0], [d_in, d_sae]).transposed(),
        StateTensor::vector("encoder.bias", flat[1]),
        StateTensor::matrix("decoder.weight", flat[2], [d_sae, d_in]).transposed(),
        StateTensor::vector("decoder.bias", flat[3]),
    ];
    write_file(&path, |file| write_state(file, "model", &tensors))
}
