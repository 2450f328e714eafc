// The sum of |D| over a block's workgroups of signs.wgsl, added to that of the blocks before: 64 bits in two words.
@group(0) @binding(1) var<storage, read> partial: array<u32>;
@group(0) @binding(2) var<storage, read_write> results: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) index: u32) {
  var own = vec2u();
  for (var at = index; at < params.partials; at += 256u) {
    // the parts are halves of 16 bits, each summed in a word
    let upper = partial[2u * at + 1u];
    own = wide_add(own, vec2u(partial[2u * at], 0u));
    own = wide_add(own, vec2u(upper << 16u, upper >> 16u));
  }
  let sum = wide_sum(index, own);
  if (index == 0u) {
    let total = wide_add(vec2u(results[ABSOLUTE_LOW], results[ABSOLUTE_HIGH]), sum);
    results[ABSOLUTE_LOW] = total.x;
    results[ABSOLUTE_HIGH] = total.y;
  }
}
