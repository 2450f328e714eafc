//! Memory that reading holds does not grow with the number of files.

use std::alloc::System;
use std::fs;
use std::path::Path;

use bae_data::{Source, open_sources};
use cap::Cap;
use ndarray::Array2;
use tempfile::tempdir;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// Reads hidden states and columns of each source; the bytes that are in use when all is read beyond those before.
fn held_after_reading(sources: &[Box<dyn Source>]) -> usize {
    let before = MEMORY.allocated();
    for source in sources {
        source.read(0, Array2::zeros((source.rows(), source.d_in())).view_mut()).unwrap();
        for column in source.columns() {
            source.read_column(column, 0, &mut vec![0; source.rows()]).unwrap();
        }
    }
    MEMORY.allocated().saturating_sub(before)
}

#[test]
fn what_is_decoded_is_kept_of_one_file() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for name in ["lz4.feather", "before_zstd.arrow", "fixed_f32.parquet", "gzip.parquet"] {
        let dir = tempdir().unwrap();
        for file in 0..40 {
            fs::copy(fixtures.join(name), dir.path().join(format!("{file}-{name}"))).unwrap();
        }
        let sources = open_sources(&[dir.path().to_str().unwrap().to_owned()]).unwrap();
        assert_eq!(sources.len(), 40);
        let one = held_after_reading(&sources[..1]);
        assert!(one > 500, "{name}: {one} bytes are too few to tell");
        let more = held_after_reading(&sources[1..]);
        assert!(more < one / 4, "{name}: {more} bytes beyond the {one} of the first file");
    }
}
