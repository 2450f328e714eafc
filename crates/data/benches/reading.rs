//! How fast files are read: `cargo bench -p bae-data --bench reading -- [--passes N] FILE…`.
//!
//! Each file is read from start to end, as training reads it, once to warm up and then N times. One line of JSON for each:
//! format, bytes of the file, rows, width, and the seconds of each pass.

use std::path::Path;
use std::time::Instant;

use bae_data::Dataset;
use ndarray::{Array2, s};
use serde_json::json;

const ROWS: usize = 2048;

fn main() {
    let mut passes = 3;
    let mut paths = Vec::new();
    // cargo adds --bench
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        if argument == "--passes" {
            passes = arguments.next().and_then(|count| count.parse().ok()).expect("--passes N");
        } else {
            paths.push(argument);
        }
    }
    for path in paths {
        let data = Dataset::open(std::slice::from_ref(&path)).unwrap_or_else(|error| panic!("{error}"));
        let mut chunk = Array2::zeros((ROWS, data.d_in()));
        let mut pass = || {
            let start = Instant::now();
            for first in (0..data.rows()).step_by(ROWS) {
                let end = (first + ROWS).min(data.rows());
                let out = chunk.slice_mut(s![..end - first, ..]);
                data.read(first..end, out).unwrap_or_else(|error| panic!("{error}"));
            }
            start.elapsed().as_secs_f64()
        };
        pass();
        let seconds: Vec<f64> = (0..passes).map(|_| pass()).collect();
        let bytes = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
        let format = Path::new(&path).extension().unwrap_or_default().to_string_lossy();
        let (rows, d_in) = (data.rows(), data.d_in());
        let line = json!({ "path": path, "format": format, "bytes": bytes, "rows": rows, "dIn": d_in, "seconds": seconds });
        println!("{line}");
    }
}
