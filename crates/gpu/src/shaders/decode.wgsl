// Outputs y = h W_dec + b_dec of codes that are bits, [rows, d_out]: a block's share is added to that of the blocks before.
@group(0) @binding(1) var<storage, read> codes: array<u32>;
@group(0) @binding(2) var<storage, read> w_dec: array<f32>;
@group(0) @binding(3) var<storage, read> b_dec: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

fn left(row: u32, k: u32) -> f32 {
  let feature = params.first + k;
  return f32((codes[(feature / 32u) * params.rows + row] >> (feature % 32u)) & 1u);
}
