// The step function, packed: bit j of word [panel][row] is the code of feature 32 · panel + j. One invocation a word.
@group(0) @binding(1) var<storage, read> z: array<f32>;
@group(0) @binding(2) var<storage, read_write> codes: array<u32>;
@group(0) @binding(3) var<storage, read_write> poison: array<atomic<u32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) at: vec3u) {
  let row = at.x;
  if (row >= params.rows) { return; }
  let begin = at.y * 32u;
  let end = min(begin + 32u, params.features);
  var word = 0u;
  for (var j = begin; j < end; j++) {
    let value = z[row * params.features + j];
    if (is_nan(value) || (params.activation == SQUAREWAVE && is_infinite(value))) {
      atomicMin(&poison[0], row * params.d_sae + params.first + j);
    }
    var on = value > 0.0;
    if (params.activation == SQUAREWAVE) {
      // z mod 2 < 1, rounding as f32 does; every operation but the addition is exact
      var remainder = value - 2.0 * trunc(value * 0.5);
      if (remainder < 0.0) { remainder += 2.0; }
      on = remainder < 1.0;
    }
    word |= u32(on) << (j - begin);
  }
  codes[(params.first / 32u + at.y) * params.rows + row] = word;
}
