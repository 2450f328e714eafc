// As grad_decoder.wgsl, for codes that are real values.
@group(0) @binding(1) var<storage, read> h: array<f32>;
@group(0) @binding(2) var<storage, read> errors: array<f32>;
@group(0) @binding(3) var<storage, read> poison: array<u32>;
@group(0) @binding(4) var<storage, read_write> parameters: array<f32>;
@group(0) @binding(5) var<storage, read_write> first_moment: array<f32>;
@group(0) @binding(6) var<storage, read_write> second_moment: array<f32>;

fn shape() -> vec3u { return vec3u(params.features, params.d_out, params.rows); }
fn left(row: u32, k: u32) -> f32 { return h[k * params.features + row]; }
fn right(k: u32, column: u32) -> f32 { return errors[k * params.d_out + column]; }
fn lift_right(values: vec4f) -> vec4f { return values * params.lift; }
fn store(row: u32, column: u32, value: f32) { adam(row * params.d_out + column, value * params.unlift); }
