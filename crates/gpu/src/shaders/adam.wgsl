// One element of Adam (Kingma & Ba 2015, algorithm 1). Nothing is updated by a batch that gave a pre-activation that is not
// a number, nor by those that were sent after it.
fn adam(at: u32, gradient: f32) {
  if (params.update == 0u) {
    parameters[at] = gradient;
    return;
  }
  if (poison[0] != NONE) { return; }
  let old = parameters[at];
  let g = gradient + params.weight_decay * old;
  let m = params.beta1 * first_moment[at] + params.one_minus_beta1 * g;
  let v = params.beta2 * second_moment[at] + params.one_minus_beta2 * g * g;
  first_moment[at] = m;
  second_moment[at] = v;
  parameters[at] = old - params.step_size * m / (sqrt(v) + params.epsilon);
}
