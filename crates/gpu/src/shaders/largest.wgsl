// The k-th largest pre-activation of each row, [rows]. One workgroup a row: its bits are found from the highest on, by counting.
@group(0) @binding(1) var<storage, read> z: array<f32>;
@group(0) @binding(2) var<storage, read_write> least: array<f32>;

var<workgroup> count: atomic<u32>;

// Unsigned numbers in the order of the values.
fn ordered(value: f32) -> u32 {
  let bits = bitcast<u32>(value + 0.0);
  return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
  let k = min(params.largest, params.features);
  var found = 0u;
  for (var bit = 0u; bit < 32u; bit++) {
    let wanted = found | (0x80000000u >> bit);
    var here = 0u;
    for (var j = index; j < params.features; j += 64u) {
      here += u32(ordered(z[group.x * params.features + j]) >= wanted);
    }
    if (index == 0u) { atomicStore(&count, 0u); }
    workgroupBarrier();
    atomicAdd(&count, here);
    workgroupBarrier();
    if (atomicLoad(&count) >= k) { found = wanted; }
    workgroupBarrier();
  }
  if (index == 0u) {
    least[group.x] = bitcast<f32>(select(~found, found & 0x7fffffffu, (found & 0x80000000u) != 0u));
  }
}
