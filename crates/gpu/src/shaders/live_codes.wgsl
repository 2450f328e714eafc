// Codes without the features that are never or always on, and how many ones that leaves in each row.
@group(0) @binding(1) var<storage, read> codes: array<u32>;
@group(0) @binding(2) var<storage, read> live: array<u32>;
@group(0) @binding(3) var<storage, read_write> live_codes: array<u32>;
@group(0) @binding(4) var<storage, read_write> live_ones: array<atomic<u32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3u) {
  if (at.x >= params.rows) { return; }
  let word = codes[at.y * params.rows + at.x] & live[at.y];
  live_codes[at.y * params.rows + at.x] = word;
  if (word != 0u) { atomicAdd(&live_ones[at.x], countOneBits(word)); }
}
