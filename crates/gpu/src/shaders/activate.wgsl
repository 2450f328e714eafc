// Codes that are real values, [rows, features], and the sum of their sizes over each workgroup's part.
@group(0) @binding(1) var<storage, read> z: array<f32>;
@group(0) @binding(2) var<storage, read> least: array<f32>;
@group(0) @binding(3) var<storage, read_write> h: array<f32>;
@group(0) @binding(4) var<storage, read_write> sizes: array<f32>;
@group(0) @binding(5) var<storage, read_write> poison: array<atomic<u32>>;

var<workgroup> totals: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) index: u32) {
  let column = group.x * 64u + index;
  let row = group.y;
  var size = 0.0;
  if (column < params.features) {
    let at = row * params.features + column;
    let value = z[at];
    if (is_nan(value)) { atomicMin(&poison[0], at); }
    var code = value;
    switch params.activation {
      case RELU: { code = select(value, 0.0, value < 0.0); }
      case SIGMOID: { code = 1.0 / (1.0 + exp(-value)); }
      case TANH: { code = tanh_of(value); }
      case TOP_K: { code = select(0.0, value, params.largest > 0u && value >= least[row]); }
      case JUMP_RELU: { code = select(0.0, value, value > params.width); }
      default: {}
    }
    h[at] = code;
    size = abs(code);
  }
  totals[index] = size;
  workgroupBarrier();
  for (var half = 32u; half > 0u; half /= 2u) {
    if (index < half) { totals[index] += totals[index + half]; }
    workgroupBarrier();
  }
  if (index == 0u) { sizes[group.y * groups.x + group.x] = totals[0]; }
}
