// The scalars of a step, from what its workgroups left: squared errors (or cross-entropies and hits, or sizes of codes).
@group(0) @binding(1) var<storage, read> partials: array<f32>;
@group(0) @binding(2) var<storage, read_write> results: array<u32>;

var<workgroup> sums: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) index: u32) {
  var sum = 0.0;
  for (var at = index; at < count(); at += 256u) { sum += partials[begin() + at]; }
  sums[index] = sum;
  workgroupBarrier();
  for (var half = 128u; half > 0u; half /= 2u) {
    if (index < half) { sums[index] += sums[index + half]; }
    workgroupBarrier();
  }
  if (index == 0u) { results[place()] = bitcast<u32>(sums[0]); }
}
