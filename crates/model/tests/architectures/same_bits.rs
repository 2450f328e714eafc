//! The same bits on every instruction set and any number of threads, and after going on from a state.

use crate::oracle::uniform;
use crate::{count, kind, start};
use bae_kernels::Isa;
use bae_model::{Adam, Architecture, Backend, Batch, Objective, Sae, Target, TrainingState};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const STEPS: u64 = 6;

/// Steps from `first` on, each on rows of its own.
fn run(
    sae: &mut Sae,
    architecture: &Architecture,
    [n, d_in, d_out]: [usize; 3],
    clip_norm: f64,
    first: u64,
) -> TrainingState {
    let objective = Objective { sparsity_weight: 1e-2, entropy_weight: 1e-3, ..Objective::default() };
    let adam = Adam { clip_norm, ..Adam::new(3e-3) };
    for step in first..STEPS {
        let mut rng = ChaCha8Rng::seed_from_u64(step);
        let (x, target) = (uniform(&mut rng, n, d_in), uniform(&mut rng, n, d_out));
        let batch = Batch { x: x.view(), target: Target::States(target.view()) };
        sae.step(architecture, &objective, &adam, batch).unwrap();
    }
    sae.state().unwrap()
}

#[test]
fn on_every_instruction_set_and_any_number_of_threads() {
    for which in 0..count() {
        for (shape, clip_norm) in
            [([1, 1, 1, 1], 0.1), ([37, 19, 130, 5], f64::INFINITY), ([65, 33, 70, 40], 0.01)]
        {
            let [n, d_in, d_sae, d_out] = shape;
            let kind = kind(which, 9, 0.4);
            let architecture = Architecture::of(kind);
            let begin = start(&mut ChaCha8Rng::seed_from_u64(1), kind, [d_in, d_sae, d_out]);
            let engine = |threads| {
                let mut sae = Sae::new(&begin.parameters, threads);
                sae.restore(&begin).unwrap();
                sae
            };
            let plain =
                run(&mut engine(1).with_isa(Isa::PORTABLE), &architecture, [n, d_in, d_out], clip_norm, 0);
            assert!(plain.parameters != begin.parameters, "{kind:?} learns");
            let x = uniform(&mut ChaCha8Rng::seed_from_u64(2), n, d_in);
            for isa in Isa::available() {
                for threads in [1, 2, 3] {
                    let mut sae = engine(threads).with_isa(isa);
                    let state = run(&mut sae, &architecture, [n, d_in, d_out], clip_norm, 0);
                    assert!(state == plain, "{kind:?} {shape:?} on {} with {threads} threads", isa.name());
                    let codes = sae.values(&architecture, x.view()).unwrap();
                    let one = sae.with_threads(1).with_isa(Isa::PORTABLE);
                    assert!(codes == one.values(&architecture, x.view()).unwrap(), "{kind:?} {shape:?}");
                    let decoded = |sae: &Sae| sae.decode_values(&architecture, &codes).unwrap();
                    assert!(decoded(&sae) == decoded(&one), "{kind:?} {shape:?}");
                }
            }
        }
    }
}

#[test]
fn going_on_from_a_state_changes_no_bit() {
    for which in 0..count() {
        let kind = kind(which, 9, 0.4);
        let architecture = Architecture::of(kind);
        let shape = [33, 12, 12];
        let begin = start(&mut ChaCha8Rng::seed_from_u64(1), kind, [12, 70, 12]);
        for clip_norm in [0.05, f64::INFINITY] {
            let mut through = Sae::new(&begin.parameters, 2);
            let through = run(&mut through, &architecture, shape, clip_norm, 0);
            let mut first = Sae::new(&begin.parameters, 2);
            let mut states = vec![];
            for step in 0..STEPS {
                states.push(first.state().unwrap());
                let mut rng = ChaCha8Rng::seed_from_u64(step);
                let (x, target) = (uniform(&mut rng, 33, 12), uniform(&mut rng, 33, 12));
                let batch = Batch { x: x.view(), target: Target::States(target.view()) };
                let objective =
                    Objective { sparsity_weight: 1e-2, entropy_weight: 1e-3, ..Objective::default() };
                first.step(&architecture, &objective, &Adam { clip_norm, ..Adam::new(3e-3) }, batch).unwrap();
            }
            for (step, state) in states.iter().enumerate() {
                let mut taken = Sae::new(&begin.parameters, 1);
                taken.restore(state).unwrap();
                assert!(
                    run(&mut taken, &architecture, shape, clip_norm, step as u64) == through,
                    "{kind:?} from {step}"
                );
            }
        }
    }
}
