// Derivative of the output's activation, by the output.
fn output_slope(y: f32) -> f32 {
  switch params.output {
    case 1u: { return select(0.0, 1.0, y > 0.0); }
    case 2u: { return y * (1.0 - y); }
    case 3u: { return 1.0 - y * y; }
    default: { return 1.0; }
  }
}
