// Σ g² of a tensor's gradient, one sum for each workgroup.
@group(0) @binding(1) var<storage, read> gradient: array<f32>;
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;

var<workgroup> sums: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) index: u32) {
  var sum = 0.0;
  for (var at = group.x * 256u + index; at < params.count; at += groups.x * 256u) {
    sum = fma(gradient[at], gradient[at], sum);
  }
  sums[index] = sum;
  workgroupBarrier();
  for (var half = 128u; half > 0u; half /= 2u) {
    if (index < half) { sums[index] += sums[index + half]; }
    workgroupBarrier();
  }
  if (index == 0u) { partials[group.x] = sums[0]; }
}
