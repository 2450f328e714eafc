// The gradient of a bias from partial column sums, passed on to Adam.
@group(0) @binding(1) var<storage, read> column_partials: array<f32>;
@group(0) @binding(2) var<storage, read> poison: array<u32>;
@group(0) @binding(3) var<storage, read_write> parameters: array<f32>;
@group(0) @binding(4) var<storage, read_write> first_moment: array<f32>;
@group(0) @binding(5) var<storage, read_write> second_moment: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3u) {
  let columns = columns();
  if (at.x >= columns) { return; }
  var gradient = 0.0;
  for (var part = 0u; part < (params.rows + 63u) / 64u; part++) {
    gradient += column_partials[part * columns + at.x];
  }
  adam(at.x, gradient);
}
