// The end of both decoders: bias, the blocks before, and the output's activation.
fn shape() -> vec3u { return vec3u(params.rows, params.d_out, params.features); }
fn right(k: u32, column: u32) -> f32 { return w_dec[k * params.d_out + column]; }

fn store(row: u32, column: u32, value: f32) {
  let at = row * params.d_out + column;
  var sum = value;
  if (params.first == 0u) { sum += b_dec[column]; } else { sum += y[at]; }
  if (params.last_block == 1u) {
    switch params.output {
      case 1u: { if (sum < 0.0) { sum = 0.0; } }
      case 2u: { sum = 1.0 / (1.0 + exp(-sum)); }
      case 3u: { sum = tanh_of(sum); }
      default: {}
    }
  }
  y[at] = sum;
}
