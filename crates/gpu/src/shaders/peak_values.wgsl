// Multiply-adds on registers: four chains of vectors. `rounds` is written out in peak.rs, so that loops cost next to nothing.
@group(0) @binding(1) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) at: vec3u) {
  let factor = vec4f(params.width);
  let step = vec4f(f32(at.x) * 1e-9);
  var a = vec4f(1.0);
  var b = vec4f(2.0);
  var c = vec4f(3.0);
  var d = vec4f(4.0);
  for (var round = 0u; round < params.rows; round++) { rounds(&a, &b, &c, &d, factor, step); }
  let sum = a + b + c + d;
  out[at.x] = sum.x + sum.y + sum.z + sum.w;
}
