// Counts a step: features that were on for a row of its batch begin again at 0. A batch that changes nothing does not count.
@group(0) @binding(2) var<storage, read> poison: array<u32>;
@group(0) @binding(3) var<storage, read_write> idle: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3u) {
  if (at.x >= params.d_sae || poison[0] != NONE) { return; }
  if (on(at.x)) {
    idle[at.x] = 0u;
  } else {
    // at most the largest number
    idle[at.x] = max(idle[at.x], idle[at.x] + 1u);
  }
}
