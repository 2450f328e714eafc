use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What random numbers are for: each purpose has sequences of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Which rows are held out.
    Split,
    /// The order of a pass's blocks.
    Blocks,
    /// The order of the rows in a window.
    Rows,
    /// What training starts from.
    Start,
    /// The noise of a step.
    Noise,
    /// The features that are drawn again at a step.
    Resample,
    /// Synthetic hidden states.
    Synthetic,
    /// Which rows probes are trained on, and what they are compared with.
    Probe,
}

/// The generator for one purpose and number (of a pass, a step): what it gives depends on nothing that came before it,
/// so that a run can go on anywhere.
pub fn generator(seed: u64, purpose: Purpose, number: u64) -> ChaCha8Rng {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    // a generator has 2⁶⁴ streams; no run has 2⁵⁶ steps
    generator.set_stream((purpose as u64) << 56 | number);
    generator
}
