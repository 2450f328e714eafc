// A_kj = Σ_i h_ki sign(D_ij) without the diagonal, for the features j of a block: [rows, features]. With P and Z the planes
// of signs.wgsl, over live features i: A = 2 |h & P| + |h & Z| - |h|, less the diagonal's own bit. The product runs over P and
// then over Z, and leaves out what of Z is 0.
@group(0) @binding(1) var<storage, read> live_codes: array<u32>;
@group(0) @binding(2) var<storage, read> live_ones: array<u32>;
@group(0) @binding(3) var<storage, read> live: array<u32>;
@group(0) @binding(4) var<storage, read> planes: array<u32>;
@group(0) @binding(5) var<storage, read> zeros: array<u32>;
@group(0) @binding(6) var<storage, read_write> signed_counts: array<i32>;

fn shape() -> vec3u { return vec3u(params.rows, params.features, 2u * params.plane_words); }

fn left(row: u32, k: u32) -> u32 {
  let panel = select(k, k - params.plane_words, k >= params.plane_words);
  if (panel >= params.panels) { return 0u; }
  return live_codes[panel * params.rows + row];
}

fn right(k: u32, column: u32) -> u32 {
  let zero = k >= params.plane_words;
  let panel = select(k, k - params.plane_words, zero);
  if (panel >= params.panels) { return 0u; }
  return planes[select(0u, params.features * params.plane_words, zero) + column * params.plane_words + panel];
}

// Positive signs, which come first, count twice.
fn doubles(k: u32) -> bool { return k == params.plane_words; }

fn skip(group: vec3u, k: u32) -> bool {
  if (k < params.plane_words) { return false; }
  let tiles = (params.d_sae + TILE - 1u) / TILE;
  let begin = (k - params.plane_words) * 32u / TILE;
  let end = min(tiles, begin + max(1u, DEPTH * 32u / TILE));
  var any = 0u;
  for (var tile = begin; tile < end; tile++) { any |= zeros[group.x * tiles + tile]; }
  return any == 0u;
}

fn store4(row: u32, column: u32, counts: vec4u) {
  if (row >= params.rows) { return; }
  let ones = i32(live_ones[row]);
  for (var c = 0u; c < 4u; c++) {
    let j = column + c;
    if (j >= params.features) { break; }
    let feature = params.first + j;
    let own = i32((live_codes[(feature / 32u) * params.rows + row] >> (feature % 32u)) & 1u);
    let is_live = (live[feature / 32u] >> (feature % 32u)) & 1u;
    signed_counts[row * params.features + j] = select(0, i32(counts[c]) - ones - own, is_live == 1u);
  }
}
