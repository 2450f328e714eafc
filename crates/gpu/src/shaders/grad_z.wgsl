// Gradients by the pre-activations of a block, in their place: [rows, features]. The errors through the transposed decoder,
// the penalties' pulls, and what the estimator makes of their sum.
@group(0) @binding(1) var<storage, read> errors: array<f32>;
@group(0) @binding(2) var<storage, read> w_dec: array<f32>;
@group(0) @binding(3) var<storage, read> pull: array<f32>;
@group(0) @binding(4) var<storage, read> signed_counts: array<i32>;
@group(0) @binding(5) var<storage, read> sums: array<i32>;
@group(0) @binding(6) var<storage, read_write> z: array<f32>;
@group(0) @binding(7) var<storage, read_write> grad_h: array<f32>;

fn shape() -> vec3u { return vec3u(params.rows, params.features, params.d_out); }
fn left(row: u32, k: u32) -> f32 { return errors[row * params.d_out + k]; }
fn lift_left(values: vec4f) -> vec4f { return values * params.lift; }
fn right(k: u32, column: u32) -> f32 { return w_dec[column * params.d_out + k]; }

fn store(row: u32, column: u32, value: f32) {
  let at = row * params.features + column;
  var g = value * params.unlift + pull[params.first + column];
  if (params.covariance_scale != 0.0) {
    let pulls = i32(params.rows) * signed_counts[at] - sums[params.first + column];
    g += params.covariance_scale * f32(pulls);
  }
  if (params.undefined != 0u) { g = bitcast<f32>(params.undefined); }
  if (params.keep == 1u) { grad_h[at] = g; }
  z[at] = estimate(g, z[at]);
}

fn estimate(g: f32, z: f32) -> f32 {
  switch params.activation {
    case SIGMOID_SLOPE: {
      if (abs(z) >= params.window) { return 0.0; }
      let tail = exp(-abs(z) / params.width);
      return g * 4.0 * tail / ((1.0 + tail) * (1.0 + tail));
    }
    case RECTANGLE: { return select(0.0, g, abs(z) < params.width); }
    case REFERENCE_SIGMOID: { return g * (1.0 - g); }
    case SQUAREWAVE: {
      // π cos 2πg = π (1 - 2 sin² πr) with r what g is off a whole number: the built-in cosine is not exact enough
      let r = (g - round(g)) * 3.14159265358979;
      let q = r * r;
      let sine = r * (1.0 + q * (-1.0 / 6.0 + q * (1.0 / 120.0 + q * (-1.0 / 5040.0 + q * (1.0 / 362880.0 - q * (1.0 / 39916800.0))))));
      return 3.14159265358979 * (1.0 - 2.0 * sine * sine);
    }
    default: { return g; }
  }
}
