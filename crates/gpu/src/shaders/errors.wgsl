// From outputs and targets [rows, d_out]: the gradient of the mean squared error by what was decoded; its column sums over 64
// rows at a time; the squared errors, summed over each workgroup's part.
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read> states: array<f32>;
@group(0) @binding(3) var<storage, read_write> errors: array<f32>;
@group(0) @binding(4) var<storage, read_write> grad_y: array<f32>;
@group(0) @binding(5) var<storage, read_write> column_partials: array<f32>;
@group(0) @binding(6) var<storage, read_write> partials: array<f32>;

var<workgroup> totals: array<f32, 256>;
var<workgroup> squares: array<f32, 256>;

@compute @workgroup_size(32, 8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_id) at: vec3u, @builtin(local_invocation_index) index: u32) {
  let column = group.x * 32u + at.x;
  var total = 0.0;
  var square = 0.0;
  if (column < params.d_out) {
    for (var each = 0u; each < 8u; each++) {
      let row = group.y * 64u + at.y * 8u + each;
      if (row >= params.rows) { break; }
      let output = y[row * params.d_out + column];
      let error = output - states[row * params.d_out + column];
      var gradient = params.error_scale * error;
      if (params.keep == 1u) { grad_y[row * params.d_out + column] = gradient; }
      gradient *= output_slope(output);
      errors[row * params.d_out + column] = gradient;
      total += gradient;
      square += error * error;
    }
  }
  totals[index] = total;
  squares[index] = square;
  workgroupBarrier();
  if (at.y == 0u && column < params.d_out) {
    for (var each = 1u; each < 8u; each++) { total += totals[each * 32u + at.x]; }
    column_partials[group.y * params.d_out + column] = total;
  }
  for (var half = 128u; half > 0u; half /= 2u) {
    if (index < half) { squares[index] += squares[index + half]; }
    workgroupBarrier();
  }
  if (index == 0u) { partials[group.y * groups.x + group.x] = squares[0]; }
}
