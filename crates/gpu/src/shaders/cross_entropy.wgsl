// From outputs [rows, d_out] and labels: the gradient of the mean softmax cross-entropy by what was decoded, and for each row
// its cross-entropy and whether its largest output is the label. One workgroup a row.
@group(0) @binding(1) var<storage, read> y: array<f32>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read_write> errors: array<f32>;
@group(0) @binding(4) var<storage, read_write> grad_y: array<f32>;
@group(0) @binding(5) var<storage, read_write> partials: array<f32>;

var<workgroup> values: array<f32, 64>;
var<workgroup> places: array<u32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
  let row = group.x;
  let begin = row * params.d_out;
  let label = labels[row];
  // the first of the largest
  var largest = y[begin];
  var place = 0u;
  for (var at = index; at < params.d_out; at += 64u) {
    if (y[begin + at] > largest || (y[begin + at] == largest && at < place)) {
      largest = y[begin + at];
      place = at;
    }
  }
  values[index] = largest;
  places[index] = place;
  workgroupBarrier();
  for (var half = 32u; half > 0u; half /= 2u) {
    if (index < half) {
      let other = values[index + half];
      if (other > values[index] || (other == values[index] && places[index + half] < places[index])) {
        values[index] = other;
        places[index] = places[index + half];
      }
    }
    workgroupBarrier();
  }
  largest = values[0];
  place = places[0];
  workgroupBarrier();
  var sum = 0.0;
  for (var at = index; at < params.d_out; at += 64u) { sum += exp(y[begin + at] - largest); }
  values[index] = sum;
  workgroupBarrier();
  for (var half = 32u; half > 0u; half /= 2u) {
    if (index < half) { values[index] += values[index + half]; }
    workgroupBarrier();
  }
  sum = values[0];
  let rows = f32(params.rows);
  for (var at = index; at < params.d_out; at += 64u) {
    let output = y[begin + at];
    let gradient = (exp(output - largest) / sum - select(0.0, 1.0, at == label)) / rows;
    if (params.keep == 1u) { grad_y[begin + at] = gradient; }
    errors[begin + at] = gradient * output_slope(output);
  }
  if (index == 0u) {
    partials[row] = log(sum) + largest - y[begin + label];
    partials[params.rows + row] = select(0.0, 1.0, place == label);
  }
}
