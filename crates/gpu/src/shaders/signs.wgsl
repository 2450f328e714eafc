// Of every pair of a block's features (rows) and all features (columns): the sign of the covariance's integer
// D_ij = n c_ij - s_i s_j as bits of two planes, positive and zero; the sum of |D| off the diagonal; for each row
// Σ_i s_i sign(D_ij). A block of all features makes only the tiles on and above the diagonal, and from each its mirror image.
// Pairs with a feature that is not live are neither; the diagonal counts as positive in the plane.
@group(0) @binding(1) var<storage, read> turned: array<u32>;
@group(0) @binding(2) var<storage, read> ones: array<u32>;
@group(0) @binding(3) var<storage, read_write> planes: array<u32>;
@group(0) @binding(4) var<storage, read_write> zeros: array<atomic<u32>>;
@group(0) @binding(5) var<storage, read_write> sums: array<atomic<i32>>;
@group(0) @binding(6) var<storage, read_write> partial: array<u32>;

const WORDS = TILE / 32u;
var<workgroup> positive: array<atomic<u32>, TILE * WORDS>;
var<workgroup> zero: array<atomic<u32>, TILE * WORDS>;
var<workgroup> row_sums: array<atomic<i32>, TILE>;
var<workgroup> absolute: array<atomic<u32>, 2>;

fn shape() -> vec3u { return vec3u(params.features, params.d_sae, params.row_words); }
fn left(row: u32, k: u32) -> u32 { return turned[(params.first + row) * params.row_words + k]; }
fn right(k: u32, column: u32) -> u32 { return turned[column * params.row_words + k]; }

fn store4(row: u32, column: u32, counts: vec4u) {
  if (row >= params.features) { return; }
  let i = params.first + row;
  let n = i32(params.rows);
  let ones_i = i32(ones[i]);
  let live_i = ones_i > 0 && ones_i < n;
  var plus = 0u;
  var none = 0u;
  var sum = 0;
  var low = 0u;
  var high = 0u;
  for (var c = 0u; c < 4u; c++) {
    let j = column + c;
    if (j >= params.d_sae) { break; }
    let ones_j = i32(ones[j]);
    let d = n * i32(counts[c]) - ones_i * ones_j;
    plus |= u32(d > 0) << c;
    if (i == j) { continue; }
    none |= u32(d == 0 && live_i && ones_j > 0 && ones_j < n) << c;
    sum += sign(d) * ones_j;
    let size = u32(abs(d));
    low += size & 0xffffu;
    high += size >> 16u;
  }
  let word = (row % TILE) * WORDS + (column % TILE) / 32u;
  atomicOr(&positive[word], plus << (column % 32u));
  atomicOr(&zero[word], none << (column % 32u));
  atomicAdd(&row_sums[row % TILE], sum);
  atomicAdd(&absolute[0], low);
  atomicAdd(&absolute[1], high);
}

fn symmetric() -> bool { return params.features == params.d_sae; }

fn left_out(group: vec3u, groups: vec3u, index: u32) -> bool {
  for (var at = index; at < TILE * WORDS; at += 256u) {
    atomicStore(&positive[at], 0u);
    atomicStore(&zero[at], 0u);
  }
  for (var at = index; at < TILE; at += 256u) { atomicStore(&row_sums[at], 0); }
  if (index < 2u) { atomicStore(&absolute[index], 0u); }
  if (!symmetric() || group.x >= group.y) { return false; }
  if (index == 0u) {
    partial[2u * (group.y * groups.x + group.x)] = 0u;
    partial[2u * (group.y * groups.x + group.x) + 1u] = 0u;
  }
  return true;
}

fn finish(group: vec3u, groups: vec3u, index: u32) {
  let mirrored = symmetric() && group.x != group.y;
  workgroupBarrier();
  for (var at = index; at < TILE * WORDS; at += 256u) {
    let place = vec2u(group.y * TILE + at / WORDS, group.x * WORDS + at % WORDS);
    let words = vec2u(atomicLoad(&positive[at]), atomicLoad(&zero[at]));
    write(place, words, group.y * groups.x + group.x);
    if (mirrored) { mirror(group, groups, at / WORDS, at % WORDS); }
  }
  for (var at = index; at < TILE; at += 256u) {
    let row = group.y * TILE + at;
    if (row < params.features) { atomicAdd(&sums[params.first + row], atomicLoad(&row_sums[at])); }
  }
  if (index == 0u) {
    let times = select(1u, 2u, mirrored);
    partial[2u * (group.y * groups.x + group.x)] = times * atomicLoad(&absolute[0]);
    partial[2u * (group.y * groups.x + group.x) + 1u] = times * atomicLoad(&absolute[1]);
  }
}

// Writes a word of both planes; notes the tile if it has zeros.
fn write(place: vec2u, words: vec2u, tile: u32) {
  if (place.x >= params.features || place.y >= params.panels) { return; }
  let at = place.x * params.plane_words + place.y;
  planes[at] = words.x;
  planes[params.features * params.plane_words + at] = words.y;
  if (words.y != 0u) { atomicOr(&zeros[tile], 1u); }
}

// The word of the mirror image for a column of the tile, over 32 of its rows, and the column's share of the sums.
fn mirror(group: vec3u, groups: vec3u, column: u32, rows: u32) {
  let j = group.x * TILE + column;
  if (j >= params.d_sae) { return; }
  let n = params.rows;
  let live_j = ones[j] > 0u && ones[j] < n;
  var words = vec2u();
  var sum = 0;
  for (var bit = 0u; bit < 32u; bit++) {
    let row = rows * 32u + bit;
    let i = group.y * TILE + row;
    if (i >= params.d_sae) { break; }
    let at = row * WORDS + column / 32u;
    let plus = (atomicLoad(&positive[at]) >> (column % 32u)) & 1u;
    let none = (atomicLoad(&zero[at]) >> (column % 32u)) & 1u;
    words |= vec2u(plus, none) << vec2u(bit);
    let minus = live_j && ones[i] > 0u && ones[i] < n && (plus | none) == 0u;
    sum += select(0, i32(ones[i]), plus == 1u) - select(0, i32(ones[i]), minus);
  }
  write(vec2u(j, group.y * WORDS + rows), words, group.x * groups.x + group.y);
  atomicAdd(&sums[j], sum);
}
