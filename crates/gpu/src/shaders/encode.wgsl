// Pre-activations z = x W_enc + b_enc of a block: [rows, features].
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w_enc: array<f32>;
@group(0) @binding(3) var<storage, read> b_enc: array<f32>;
@group(0) @binding(4) var<storage, read_write> z: array<f32>;

fn shape() -> vec3u { return vec3u(params.rows, params.features, params.d_in); }
fn left(row: u32, k: u32) -> f32 { return x[row * params.d_in + k]; }
fn right(k: u32, column: u32) -> f32 { return w_enc[k * params.features + column]; }
fn store(row: u32, column: u32, value: f32) {
  z[row * params.features + column] = value + b_enc[column];
}
