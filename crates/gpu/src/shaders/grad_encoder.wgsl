// The encoder's gradient xᵀ · grad_z of a block, [d_in, features], passed on to Adam.
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> grad_z: array<f32>;
@group(0) @binding(3) var<storage, read> poison: array<u32>;
@group(0) @binding(4) var<storage, read_write> parameters: array<f32>;
@group(0) @binding(5) var<storage, read_write> first_moment: array<f32>;
@group(0) @binding(6) var<storage, read_write> second_moment: array<f32>;

fn shape() -> vec3u { return vec3u(params.d_in, params.features, params.rows); }
fn left(row: u32, k: u32) -> f32 { return x[k * params.d_in + row]; }
fn right(k: u32, column: u32) -> f32 { return grad_z[k * params.features + column]; }
fn lift_right(values: vec4f) -> vec4f { return values * params.lift; }
fn store(row: u32, column: u32, value: f32) { adam(row * params.features + column, value * params.unlift); }
