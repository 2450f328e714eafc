// Ands of bits whose ones are counted and added, on registers: four chains of vectors, as in peak_values.wgsl.
@group(0) @binding(1) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) at: vec3u) {
  let mask = vec4u(bitcast<u32>(params.width) ^ at.x);
  var a = vec4u(1u);
  var b = vec4u(2u);
  var c = vec4u(3u);
  var d = vec4u(4u);
  for (var round = 0u; round < params.rows; round++) { rounds(&a, &b, &c, &d, mask); }
  let sum = a + b + c + d;
  out[at.x] = sum.x + sum.y + sum.z + sum.w;
}
