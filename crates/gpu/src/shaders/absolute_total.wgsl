// The sum of |D| over a block's workgroups of signs.wgsl, added to that of the blocks before: 64 bits in two words.
@group(0) @binding(1) var<storage, read> partial: array<u32>;
@group(0) @binding(2) var<storage, read_write> results: array<u32>;

var<workgroup> low: array<u32, 256>;
var<workgroup> high: array<u32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) index: u32) {
  var sum_low = 0u;
  var sum_high = 0u;
  for (var at = index; at < params.partials; at += 256u) {
    // the parts are halves of 16 bits, each summed in a word
    let upper = partial[2u * at + 1u];
    let add = partial[2u * at];
    sum_low += add;
    sum_high += u32(sum_low < add);
    let shifted = upper << 16u;
    sum_low += shifted;
    sum_high += (upper >> 16u) + u32(sum_low < shifted);
  }
  low[index] = sum_low;
  high[index] = sum_high;
  workgroupBarrier();
  for (var half = 128u; half > 0u; half /= 2u) {
    if (index < half) {
      let add = low[index + half];
      let sum = low[index] + add;
      low[index] = sum;
      high[index] += high[index + half] + u32(sum < add);
    }
    workgroupBarrier();
  }
  if (index == 0u) {
    let sum = results[ABSOLUTE_LOW] + low[0];
    results[ABSOLUTE_HIGH] += high[0] + u32(sum < low[0]);
    results[ABSOLUTE_LOW] = sum;
  }
}
