// From the ones of each feature: the entropy of the batch, its gradient, and which features are live (neither never nor
// always on). `tables` holds for each count the entropy in units of 2^-40 (low words, then high words) and its derivative.
@group(0) @binding(1) var<storage, read> ones: array<u32>;
@group(0) @binding(2) var<storage, read> tables: array<u32>;
@group(0) @binding(3) var<storage, read_write> pull: array<f32>;
@group(0) @binding(4) var<storage, read_write> live: array<u32>;
@group(0) @binding(5) var<storage, read_write> results: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) index: u32) {
  let counts = params.rows + 1u;
  var own = vec2u();
  for (var j = index; j < params.d_sae; j += 256u) {
    own = wide_add(own, vec2u(tables[ones[j]], tables[counts + ones[j]]));
  }
  let total = wide_sum(index, own);
  if (index == 0u) {
    results[ENTROPY_LOW] = total.x;
    results[ENTROPY_HIGH] = total.y;
  }
  // below the threshold, or exactly 0, the entropy sends no gradient
  let below = total.y < params.threshold_high
    || (total.y == params.threshold_high && total.x < params.threshold_low);
  let pulls = !below && (total.x | total.y) != 0u && params.entropy_scale != 0.0;
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
