use std::path::PathBuf;

use bae_data::{training_rows, training_rows_of};
use serde_json::Value;

#[test]
fn a_share_is_rounded_down_and_never_more_than_all() {
    assert_eq!(training_rows(4096, 0.2), 3276);
    assert_eq!(training_rows(10, 0.0), 10);
    assert_eq!(training_rows(10, 1.0), 0);
    assert_eq!(training_rows_of(7.0, 3), 3);
    assert_eq!(training_rows_of(-1.0, 3), 0);
    assert_eq!(training_rows_of(f64::NAN, 3), 0);
}

#[test]
fn parity_split() {
    let folder = std::env::var_os("BAE_PARITY_DIR")
        .map_or(concat!(env!("CARGO_MANIFEST_DIR"), "/../../__test__/parity").into(), PathBuf::from);
    let manifest = std::fs::read(folder.join("cases.json")).expect("the parity manifest");
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let mut checked = 0;
    for case in manifest["cases"].as_array().unwrap().iter().filter(|case| case["kind"] == "split") {
        for row in case["data"]["rows"].as_array().unwrap() {
            let (fraction, rows) = (row[0].as_f64().unwrap(), row[1].as_u64().unwrap() as usize);
            assert_eq!(training_rows_of(fraction, rows) as u64, row[2].as_u64().unwrap(), "{row}");
            checked += 1;
        }
    }
    assert!(checked > 0, "no split case in {}", folder.display());
}
