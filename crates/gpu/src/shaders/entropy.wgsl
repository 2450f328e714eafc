// From the ones of each feature: the entropy of the batch, its gradient, and which features are live (neither never nor
// always on). `tables` holds for each count the entropy in units of 2^-40 (low words, then high words) and its derivative.
@group(0) @binding(1) var<storage, read> ones: array<u32>;
@group(0) @binding(2) var<storage, read> tables: array<u32>;
@group(0) @binding(3) var<storage, read_write> pull: array<f32>;
@group(0) @binding(4) var<storage, read_write> live: array<u32>;
@group(0) @binding(5) var<storage, read_write> results: array<u32>;

var<workgroup> low: array<u32, 256>;
var<workgroup> high: array<u32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) index: u32) {
  let counts = params.rows + 1u;
  var sum_low = 0u;
  var sum_high = 0u;
  for (var j = index; j < params.d_sae; j += 256u) {
    let add = tables[ones[j]];
    sum_low += add;
    sum_high += tables[counts + ones[j]] + u32(sum_low < add);
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
  let total_low = low[0];
  let total_high = high[0];
  if (index == 0u) {
    results[ENTROPY_LOW] = total_low;
    results[ENTROPY_HIGH] = total_high;
  }
  // below the threshold, or exactly 0, the entropy sends no gradient
  let below = total_high < params.threshold_high
    || (total_high == params.threshold_high && total_low < params.threshold_low);
  let pulls = !below && (total_low | total_high) != 0u && params.entropy_scale != 0.0;
  for (var panel = index; panel < params.panels; panel += 256u) {
    var word = 0u;
    for (var bit = 0u; bit < 32u; bit++) {
      let j = panel * 32u + bit;
      if (j >= params.d_sae) { break; }
      let count = ones[j];
      word |= u32(count > 0u && count < params.rows) << bit;
      var value = 0.0;
      if (pulls) { value = params.entropy_scale * bitcast<f32>(tables[2u * counts + count]); }
      pull[j] = value;
    }
    live[panel] = word;
  }
}
