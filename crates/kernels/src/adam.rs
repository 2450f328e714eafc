//! One step of the Adam optimiser over a flat array.

/// The numbers of one step, the same for every element.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// 1 − beta1, subtracted before rounding to f32: 1 − 0.999 in f32 is off by 5e-5.
    pub one_minus_beta1: f32,
    /// 1 − beta2, likewise.
    pub one_minus_beta2: f32,
    /// Learning rate · √(1 − beta2^t) / (1 − beta1^t).
    pub step_size: f32,
    /// Added to the root of the second moment: ε · √(1 − beta2^t).
    pub epsilon: f32,
    /// L2 penalty added to the gradient (not decoupled).
    pub weight_decay: f32,
}

crate::isa::per_isa! {
    /// Updates `parameters` and both moments from `gradient`, element by element (Kingma & Ba 2015, algorithm 1, with
    /// the second correction moved out of the root: one division an element).
    ///
    /// Panics if the lengths differ.
    pub fn update[simd: S](numbers: AdamStep, parameters: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32]) {
        let length = parameters.len();
        assert_eq!((first.len(), second.len(), gradient.len()), (length, length, length), "lengths of moments");
        let AdamStep { beta1, beta2, one_minus_beta1, one_minus_beta2, .. } = numbers;
        let AdamStep { step_size, epsilon, weight_decay, .. } = numbers;
        let moments = first.iter_mut().zip(second.iter_mut());
        for ((parameter, (m, v)), &gradient) in parameters.iter_mut().zip(moments).zip(gradient) {
            let gradient = gradient + weight_decay * *parameter;
            *m = beta1 * *m + one_minus_beta1 * gradient;
            *v = beta2 * *v + one_minus_beta2 * gradient * gradient;
            *parameter -= step_size * *m / (v.sqrt() + epsilon);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn same_bits_on_every_instruction_set_and_near_f64() {
        let numbers = AdamStep {
            beta1: 0.9,
            beta2: 0.999,
            one_minus_beta1: 0.1,
            one_minus_beta2: 1e-3,
            step_size: 1e-3 / 0.1 * 1e-3f32.sqrt(),
            epsilon: 1e-8 * 1e-3f32.sqrt(),
            weight_decay: 0.01,
        };
        let gradient: Vec<f32> = (0..1003).map(|at| (at as f32 - 500.0) * 1e-3).collect();
        let run = |isa| {
            let (mut p, mut m, mut v) = (vec![0.5f32; 1003], vec![0f32; 1003], vec![0f32; 1003]);
            update(isa, numbers, &mut p, &mut m, &mut v, &gradient);
            (p, m, v)
        };
        let plain = run(Isa::PORTABLE);
        for isa in Isa::available() {
            assert_eq!(run(isa), plain, "{}", isa.name());
        }
        for (at, &p) in plain.0.iter().enumerate() {
            let g = f64::from(gradient[at]) + 0.01 * 0.5;
            if g.abs() < 1e-6 {
                continue; // rounding of the gradient, divided by itself
            }
            let want = 0.5 - 1e-3 * g / (g.abs() + 1e-8);
            assert!((f64::from(p) - want).abs() < 1e-6, "{p} {want}");
        }
    }
}
