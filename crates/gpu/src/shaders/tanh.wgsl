// Some drivers' tanh overflows where e^2x does.
fn tanh_of(x: f32) -> f32 {
  let size = abs(x);
  if (size < 0.1) { return x - x * x * x * (1.0 / 3.0 - x * x * (2.0 / 15.0 - x * x * (17.0 / 315.0))); }
  let tail = exp(-2.0 * size);
  return sign(x) * (1.0 - tail) / (1.0 + tail);
}
