// Σ g² over the workgroups of gradient_squares.wgsl, added to that of the tensors before. A sum that is not finite is noted:
// neither this batch nor those that were sent after it are to change anything.
@group(0) @binding(1) var<storage, read> partials: array<f32>;
@group(0) @binding(2) var<storage, read_write> results: array<u32>;
@group(0) @binding(3) var<storage, read_write> poison: array<u32>;

var<workgroup> sums: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) index: u32) {
  var sum = 0.0;
  for (var at = index; at < params.partials; at += 256u) { sum += partials[at]; }
  sums[index] = sum;
  workgroupBarrier();
  for (var half = 128u; half > 0u; half /= 2u) {
    if (index < half) { sums[index] += sums[index + half]; }
    workgroupBarrier();
  }
  if (index != 0u) { return; }
  let total = bitcast<f32>(results[GRADIENT]) + sums[0];
  results[GRADIENT] = bitcast<u32>(total);
  if (poison[0] == NONE && (is_nan(total) || is_infinite(total))) { poison[0] = NO_NORM; }
}
