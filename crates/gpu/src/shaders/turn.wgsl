// Codes by feature: bit r of word [feature][row word] is the code of row 32 · row word + r. Counts the ones of each feature.
@group(0) @binding(1) var<storage, read> codes: array<u32>;
@group(0) @binding(2) var<storage, read_write> columns: array<u32>;
@group(0) @binding(3) var<storage, read_write> ones: array<atomic<u32>>;

@compute @workgroup_size(32, 4)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) at: vec3u) {
  let panel = group.x;
  let row_word = group.y * 4u + at.y;
  if (row_word >= params.row_words) { return; }
  let begin = row_word * 32u;
  let end = min(begin + 32u, params.rows);
  var word = 0u;
  for (var row = begin; row < end; row++) {
    word |= ((codes[panel * params.rows + row] >> at.x) & 1u) << (row - begin);
  }
  let feature = panel * 32u + at.x;
  columns[feature * params.row_words + row_word] = word;
  if (word != 0u) { atomicAdd(&ones[feature], countOneBits(word)); }
}
