// Outputs y = h W_dec + b_dec of codes that are real values, [rows, d_out].
@group(0) @binding(1) var<storage, read> h: array<f32>;
@group(0) @binding(2) var<storage, read> w_dec: array<f32>;
@group(0) @binding(3) var<storage, read> b_dec: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

fn left(row: u32, k: u32) -> f32 { return h[row * params.features + k]; }
