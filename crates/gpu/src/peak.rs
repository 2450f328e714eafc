//! What a device's arithmetic allows: small shaders that do nothing else.

use crate::device::Device;
use crate::memory::floats;
use crate::recording::Recording;
use crate::shaders::{PEAK_BITS, PEAK_OPERATIONS, PEAK_VALUES, Params, Shader};
use bae_model::ModelError;
use std::sync::Arc;
use std::time::Instant;

/// Rates that a device reaches on registers alone, a second.
#[derive(Clone, Copy, Debug)]
pub struct Peak {
    /// Multiply-adds of f32.
    pub multiply_adds: f64,
    /// Ands of words of 32 bits whose ones are counted and added.
    pub popcounts: f64,
}

/// Invocations of a workgroup, and workgroups.
const INVOCATIONS: usize = 256;
const GROUPS: usize = 1024;

impl Peak {
    /// Measures both rates: the best of five runs that each take some milliseconds.
    ///
    /// # Errors
    /// Those of a device.
    pub fn measure(device: &Arc<Device>) -> Result<Self, ModelError> {
        Ok(Self { multiply_adds: rate(device, &PEAK_VALUES)?, popcounts: rate(device, &PEAK_BITS)? })
    }
}

fn rate(device: &Device, shader: &Shader) -> Result<f64, ModelError> {
    let out = floats(device, "peak", INVOCATIONS * GROUPS)?;
    let mut settings = None;
    let mut time = |rounds: usize| {
        let began = Instant::now();
        let mut recording = Recording::new(device);
        // the number of rounds and the factor are not known to the compiler
        recording.params(&Params { rows: rounds as u32, width: 1.0, ..Params::default() });
        recording.run(shader, [GROUPS, 1, 1], &[&out])?;
        recording.submit(&mut settings, None)?;
        device.wait(None)?;
        Ok::<f64, ModelError>(began.elapsed().as_secs_f64())
    };
    time(1)?;
    // as many rounds as take about 20 ms: sending and waiting must not count
    let mut rounds = 1;
    while rounds < 1 << 20 && time(rounds)? < 0.02 {
        rounds *= 2;
    }
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        best = best.min(time(rounds)?);
    }
    Ok((rounds * PEAK_OPERATIONS * INVOCATIONS * GROUPS) as f64 / best)
}
