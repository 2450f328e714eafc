// What every shader knows of a step; `Params` in mod.rs is the same, field by field.
struct Params {
  // rows of the batch
  rows: u32,
  d_in: u32,
  d_sae: u32,
  d_out: u32,
  // features in this block of parameters: `first` and as many as `features` from there on
  first: u32,
  features: u32,
  last_block: u32,
  // words of 32 features, of 32 rows
  panels: u32,
  row_words: u32,
  activation: u32,
  width: f32,
  window: f32,
  output: u32,
  // 2 / (rows · d_out)
  error_scale: f32,
  // threshold of the entropy in units of 2^-40 bits: two words
  threshold_low: u32,
  threshold_high: u32,
  // entropy weight / rows
  entropy_scale: f32,
  // 2 · covariance weight / (rows · (rows - 1))
  covariance_scale: f32,
  l1_weight: f32,
  // the bits of NaN where the objective is undefined, else 0
  undefined: u32,
  // whether parameters are updated; else gradients are stored in their place
  update: u32,
  // whether what a trace shows is kept
  keep: u32,
  largest: u32,
  partials: u32,
  beta1: f32,
  beta2: f32,
  one_minus_beta1: f32,
  one_minus_beta2: f32,
  step_size: f32,
  epsilon: f32,
  weight_decay: f32,
  // words of a plane of signs, rounded up so that two planes can follow one another in a product
  plane_words: u32,
  // powers of two that gradients are multiplied by on their way into products, and sums on their way out
  lift: f32,
  unlift: f32,
  // values of the tensor that is clipped, and the norm of all of them at most
  count: u32,
  clip_norm: f32,
}

@group(0) @binding(0) var<uniform> params: Params;

const NONE = 0xffffffffu;
const NO_NORM = 0xfffffffeu;

// WGSL lets a compiler assume that there is no NaN: only the bits can tell.
fn is_nan(value: f32) -> bool {
  return (bitcast<u32>(value) & 0x7fffffffu) > 0x7f800000u;
}

fn is_infinite(value: f32) -> bool {
  return (bitcast<u32>(value) & 0x7fffffffu) == 0x7f800000u;
}

// Activations of the code, as numbered in mod.rs.
const IDENTITY = 0u;
const SIGMOID_SLOPE = 1u;
const RECTANGLE = 2u;
const REFERENCE_SIGMOID = 3u;
const SQUAREWAVE = 4u;
const NO_ACTIVATION = 5u;
const RELU = 6u;
const SIGMOID = 7u;
const TANH = 8u;
const TOP_K = 9u;
const JUMP_RELU = 10u;
