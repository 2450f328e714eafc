use std::fs;

use bae_codes::BitMatrix;
use bae_data::{CodesWriter, inspect, save_model};
use bae_model::Parameters;
use safetensors::Dtype;
use serde_json::{Map, json};
use tempfile::tempdir;

use crate::common::{assert_error, bae, npy_bytes, write_npy, write_safetensors};

#[test]
fn everything_is_described() {
    let root = tempdir().unwrap();
    let path = |name: &str| root.path().join(name).to_str().unwrap().to_owned();

    let model = path("model");
    save_model(model.as_ref(), &bae(), &Parameters::zeros(3, 5, 3), &Map::new(), false).unwrap();
    let described = inspect(&model).unwrap();
    assert_eq!(
        (&described["kind"], &described["dIn"], &described["dSae"]),
        (&json!("model"), &json!(3), &json!(5))
    );
    assert_eq!(described["files"], json!(["cfg.json", "sae_weights.safetensors"]));
    assert_eq!(described["cfg"]["architecture"], "bae");

    let codes = path("codes.safetensors");
    let mut writer = CodesWriter::create(codes.as_ref(), 5, 2, "the model", false).unwrap();
    writer.append(&BitMatrix::zeros(2, 5)).unwrap();
    writer.finish().unwrap();
    let expected = json!({ "kind": "codes", "rows": 2, "dSae": 5, "model": "the model" });
    assert_eq!(inspect(&codes).unwrap(), expected);

    fs::create_dir(path("data")).unwrap();
    let (a, b) = (path("data/a.safetensors"), path("data/b.npy"));
    write_safetensors(
        a.as_ref(),
        &[
            ("x", Dtype::BF16, &[4, 2], &[0; 16]),
            ("ids", Dtype::I64, &[1], &[0; 8]),
            ("token_ids", Dtype::U8, &[4], &[0; 4]),
            ("group", Dtype::U8, &[4], &[0; 4]),
        ],
    );
    write_npy(b.as_ref(), [1, 2], &[0.0; 2]);
    fs::write(path("data/b.group_id.npy"), npy_bytes(1, "|u1", "False", "(1,)", &[0])).unwrap();
    let a_file = json!({ "path": a, "tensor": "x", "rows": 4, "dtype": "bfloat16" });
    let b_file = json!({ "path": b, "tensor": null, "rows": 1, "dtype": "float32" });
    let expected = json!({
        "kind": "hidden_states", "rows": 5, "dIn": 2, "dtype": "mixed", "tensors": ["x"], "columns": ["group"],
        "files": [a_file, b_file]
    });
    assert_eq!(inspect(&path("data")).unwrap(), expected);
    assert_eq!(inspect(&path("data/*")).unwrap(), expected);
    let one = inspect(&format!("{a}#x")).unwrap();
    assert_eq!((&one["dtype"], &one["columns"]), (&json!("bfloat16"), &json!(["token", "group"])));

    let layers = path("layers.safetensors");
    write_safetensors(layers.as_ref(), &[("x", Dtype::F32, &[1, 3, 2], &[0; 24])]);
    let layer = inspect(&format!("{layers}#:layer=2")).unwrap();
    assert_eq!(layer["columns"], json!(["position", "sequence", "layer"]));
    let file = json!({ "path": layers, "tensor": "x", "layer": 2, "rows": 1, "dtype": "float32" });
    assert_eq!(layer["files"], json!([file]));

    assert_error(inspect(&path("nothing")), "IO", &["nothing"]);
    fs::remove_file(path("model/sae_weights.safetensors")).unwrap();
    assert_error(inspect(&model), "IO", &["sae_weights.safetensors"]);
}
