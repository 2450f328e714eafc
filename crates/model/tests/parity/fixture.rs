//! Reads the manifest and its tensors, and compares.

use bae_model::{Backend, Parameters};
use ndarray::{Array1, Array2, ArrayBase, Axis, Data, Dimension};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::path::PathBuf;

pub fn folder() -> PathBuf {
    match std::env::var_os("BAE_PARITY_DIR") {
        Some(folder) => folder.into(),
        None => concat!(env!("CARGO_MANIFEST_DIR"), "/../../__test__/parity").into(),
    }
}

fn manifest() -> Vec<Value> {
    let path = folder().join("cases.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let manifest: Value = serde_json::from_str(&text).expect("cases.json is JSON");
    manifest["cases"].as_array().expect("a list of cases").clone()
}

pub fn kinds() -> std::collections::BTreeSet<String> {
    manifest().iter().map(|case| case["kind"].as_str().expect("a kind").to_string()).collect()
}

pub fn cases(kind: &str) -> Vec<Case> {
    manifest().into_iter().filter(|case| case["kind"] == kind).map(Case::open).collect()
}

/// Runs every case of one kind and reports all that fail at once.
pub fn every(kind: &str, check: impl Fn(&Case)) {
    let cases = cases(kind);
    assert!(!cases.is_empty(), "the manifest has no case of kind {kind}");
    let failed: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(case)));
            let cause = outcome.err()?;
            let message = cause.downcast_ref::<String>().cloned();
            let message = message.or_else(|| cause.downcast_ref::<&str>().map(ToString::to_string));
            Some(format!("{}: {}", case.name(), message.unwrap_or_default()))
        })
        .collect();
    println!("{kind}: {} of {} cases pass", cases.len() - failed.len(), cases.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

pub struct Case {
    pub json: Value,
    file: Vec<u8>,
}

impl Case {
    fn open(json: Value) -> Self {
        let file =
            std::fs::read(folder().join(json["file"].as_str().expect("a file"))).expect("a readable file");
        Self { json, file }
    }

    pub fn name(&self) -> &str {
        self.json["name"].as_str().expect("a name")
    }

    pub fn has(&self, tensor: &str) -> bool {
        self.json["tensors"].get(tensor).is_some()
    }

    pub fn number(&self, setting: &str, default: f64) -> f64 {
        self.json["settings"][setting].as_f64().unwrap_or(default)
    }

    pub fn text(&self, setting: &str, default: &str) -> String {
        self.json["settings"][setting].as_str().unwrap_or(default).to_string()
    }

    /// Shape and values of a tensor of any type.
    pub fn values(&self, tensor: &str) -> (Vec<usize>, Vec<f64>) {
        let all = SafeTensors::deserialize(&self.file).expect("safetensors");
        let view = all.tensor(tensor).unwrap_or_else(|_| panic!("no tensor {tensor}"));
        let bytes = view.data();
        fn each<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> f64) -> Vec<f64> {
            bytes.chunks_exact(N).map(|c| f(c.try_into().expect("N bytes"))).collect()
        }
        let values = match view.dtype() {
            Dtype::F32 => each(bytes, |b| f64::from(f32::from_le_bytes(b))),
            Dtype::F64 => each(bytes, f64::from_le_bytes),
            Dtype::F16 => each(bytes, |b| half_to_f64(u16::from_le_bytes(b))),
            Dtype::U8 => each(bytes, |[b]| f64::from(b)),
            Dtype::I32 => each(bytes, |b| f64::from(i32::from_le_bytes(b))),
            Dtype::I64 => each(bytes, |b| i64::from_le_bytes(b) as f64),
            other => panic!("{tensor} has type {other:?}"),
        };
        (view.shape().to_vec(), values)
    }

    pub fn vector(&self, tensor: &str) -> Array1<f32> {
        self.values(tensor).1.into_iter().map(|v| v as f32).collect()
    }

    pub fn matrix(&self, tensor: &str) -> Array2<f32> {
        let (shape, values) = self.values(tensor);
        let values = values.into_iter().map(|v| v as f32).collect();
        Array2::from_shape_vec((shape[0], shape[1]), values).expect("a matrix")
    }

    /// Weights are stored output-major; ours are input-major.
    pub fn parameters(&self) -> Parameters {
        let turned = |tensor| self.matrix(tensor).t().as_standard_layout().into_owned();
        let w_dec = turned("param.decoder.weight");
        let b_dec = if self.has("param.decoder.bias") {
            self.vector("param.decoder.bias")
        } else {
            Array1::zeros(w_dec.ncols())
        };
        Parameters {
            w_enc: turned("param.encoder.weight"),
            b_enc: self.vector("param.encoder.bias"),
            w_dec,
            b_dec,
            per_feature: vec![],
        }
    }

    /// Engines with these parameters, by name: all must pass.
    pub fn backends(&self) -> Vec<(&'static str, Box<dyn Backend>)> {
        crate::engines(&self.parameters())
    }

    /// Compares with an expected tensor as the manifest says; without such a tensor there is nothing to compare.
    pub fn expect<'a>(&self, who: &str, tensor: &str, got: impl IntoIterator<Item = &'a f64>) {
        let entry = &self.json["tensors"][tensor];
        if entry["role"] != "expect" || entry["compare"] == "record" {
            return;
        }
        let got: Vec<f64> = got.into_iter().copied().collect();
        let (shape, want) = self.values(tensor);
        assert_eq!(got.len(), want.len(), "{who}: {tensor} {shape:?}");
        let tolerance = |key: &str| entry[key].as_f64().unwrap_or(0.0);
        let (atol, rtol) = (tolerance("atol"), tolerance("rtol"));
        let exact = entry["compare"] == "exact";
        for (at, (&got, &want)) in got.iter().zip(&want).enumerate() {
            let same = got == want || got.is_nan() && want.is_nan();
            let near = !exact && want.is_finite() && (got - want).abs() <= atol + rtol * want.abs();
            assert!(
                same || near,
                "{who}: {tensor}[{at}] is {got}, expected {want} (atol {atol}, rtol {rtol})"
            );
        }
    }

    /// [`Case::expect`] for a matrix stored output-major.
    pub fn expect_turned(&self, who: &str, tensor: &str, got: &Array2<f64>) {
        self.expect(who, tensor, got.t().as_standard_layout().iter());
    }

    /// The four tensors `{prefix}encoder.weight` and so on.
    pub fn expect_parameters(&self, who: &str, prefix: &str, got: &Parameters<f64>) {
        self.expect_turned(who, &format!("{prefix}encoder.weight"), &got.w_enc);
        self.expect(who, &format!("{prefix}encoder.bias"), &got.b_enc);
        self.expect_turned(who, &format!("{prefix}decoder.weight"), &got.w_dec);
        self.expect(who, &format!("{prefix}decoder.bias"), &got.b_dec);
    }
}

/// Rows of several arrays under each other.
pub fn stacked<S: Data<Elem = f64>>(parts: &[ArrayBase<S, ndarray::Ix2>]) -> Array2<f64> {
    let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
    ndarray::concatenate(Axis(0), &views).expect("equal widths")
}

/// In f64.
pub fn wide<D: Dimension>(values: &ndarray::Array<f32, D>) -> ndarray::Array<f64, D> {
    values.mapv(f64::from)
}

fn half_to_f64(bits: u16) -> f64 {
    let (sign, exponent, fraction) = (bits >> 15, i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let size = match exponent {
        0 => fraction / 1024.0 * 2f64.powi(-14),
        31 => panic!("an infinite half in a fixture"),
        _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
    };
    if sign == 1 { -size } else { size }
}
