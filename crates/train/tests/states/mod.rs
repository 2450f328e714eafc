//! Hidden states that can be learnt.

use bae_data::{Dataset, MemorySource};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Sums of a few directions switched on and off, around a mean far from 0.
pub fn states(rows: usize, d_in: usize) -> Dataset {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let directions: Vec<f32> = (0..6 * d_in).map(|_| rng.random::<f32>() - 0.5).collect();
    let mut values = vec![];
    for _ in 0..rows {
        let mut row: Vec<f32> = (0..d_in).map(|at| 20.0 + at as f32 + 0.05 * rng.random::<f32>()).collect();
        for direction in directions.chunks(d_in) {
            if rng.random::<f32>() < 0.3 {
                row.iter_mut().zip(direction).for_each(|(x, d)| *x += 3.0 * d);
            }
        }
        values.extend(row);
    }
    Dataset::new(vec![Box::new(MemorySource::new("memory", values, d_in).unwrap())]).unwrap()
}

/// A cloud without any structure but that some dimensions are wider than others.
#[allow(dead_code, reason = "not every test needs it")]
pub fn cloud(rows: usize, d_in: usize) -> Dataset {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let values = (0..rows * d_in)
        .map(|at| (0..4).map(|_| rng.random::<f32>() - 0.5).sum::<f32>() / (1 + at % d_in) as f32)
        .collect();
    Dataset::new(vec![Box::new(MemorySource::new("cloud", values, d_in).unwrap())]).unwrap()
}
