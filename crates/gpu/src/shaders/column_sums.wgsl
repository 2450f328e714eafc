// Sums of the columns of a matrix [rows, columns], 64 rows at a time: [rows / 64, columns]. `columns` is the block's features,
// or d_out for errors (`sums_errors`).
@group(0) @binding(1) var<storage, read> values: array<f32>;
@group(0) @binding(2) var<storage, read_write> column_partials: array<f32>;

var<workgroup> totals: array<f32, 256>;

@compute @workgroup_size(32, 8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) at: vec3u,
        @builtin(local_invocation_index) index: u32) {
  let columns = columns();
  let column = group.x * 32u + at.x;
  var total = 0.0;
  if (column < columns) {
    for (var each = 0u; each < 8u; each++) {
      let row = group.y * 64u + at.y * 8u + each;
      if (row >= params.rows) { break; }
      total += values[row * columns + column];
    }
  }
  totals[index] = total;
  workgroupBarrier();
  if (at.y == 0u && column < columns) {
    for (var each = 1u; each < 8u; each++) { total += totals[each * 32u + at.x]; }
    column_partials[group.y * columns + column] = total;
  }
}
