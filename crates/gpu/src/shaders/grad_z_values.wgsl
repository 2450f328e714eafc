// As grad_z.wgsl, for codes that are real values: the errors through the transposed decoder, the L1 penalty, and the
// activation's derivative.
@group(0) @binding(1) var<storage, read> errors: array<f32>;
@group(0) @binding(2) var<storage, read> w_dec: array<f32>;
@group(0) @binding(3) var<storage, read> h: array<f32>;
@group(0) @binding(4) var<storage, read> least: array<f32>;
@group(0) @binding(5) var<storage, read_write> z: array<f32>;
@group(0) @binding(6) var<storage, read_write> grad_h: array<f32>;

fn shape() -> vec3u { return vec3u(params.rows, params.features, params.d_out); }
fn left(row: u32, k: u32) -> f32 { return errors[row * params.d_out + k]; }
fn lift_left(values: vec4f) -> vec4f { return values * params.lift; }
fn right(k: u32, column: u32) -> f32 { return w_dec[column * params.d_out + k]; }

fn store(row: u32, column: u32, value: f32) {
  let at = row * params.features + column;
  let g = value * params.unlift + params.l1_weight * sign(h[at]);
  if (params.keep == 1u) { grad_h[at] = g; }
  var slope = 1.0;
  switch params.activation {
    case RELU: { slope = select(0.0, 1.0, z[at] > 0.0); }
    case SIGMOID: { slope = h[at] * (1.0 - h[at]); }
    case TANH: { slope = 1.0 - h[at] * h[at]; }
    case TOP_K: { slope = select(0.0, 1.0, params.largest > 0u && z[at] >= least[row]); }
    case JUMP_RELU: { slope = select(0.0, 1.0, z[at] > params.width); }
    default: {}
  }
  z[at] = g * slope;
}
