//! Same seed and data, same weights: on every instruction set, on any number of threads, and on every machine. The digests
//! were made on x86-64 and hold for arm64 and plain Rust alike.

use bae_kernels::Isa;
use bae_model::{
    Adam, Architecture, Backend, Batch, Cpu, Estimator, Objective, Parameters, Precision, Target,
};
use ndarray::{Array1, Array2};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Rows, d_in, d_sae; the estimator; precision of the products; norm that gradients are clipped to; FNV-1a of the weights
/// after 50 steps.
type Case = (usize, usize, usize, Estimator, Precision, f64, u64);

fn uniform(rng: &mut ChaCha8Rng, rows: usize, columns: usize, scale: f32) -> Array2<f32> {
    Array2::from_shape_simple_fn((rows, columns), || (rng.random::<f32>() * 2.0 - 1.0) * scale)
}

/// Fifty steps on rows of their own, then the codes and the reconstruction of the last ones.
fn weights_after_fifty_steps(case: &Case, isa: Isa, threads: usize) -> Vec<u8> {
    let &(n, d_in, d_sae, estimator, precision, clip_norm, _) = case;
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let start = Parameters {
        w_enc: uniform(&mut rng, d_in, d_sae, 1.0),
        // some features are always on, some never
        b_enc: Array1::from_shape_fn(d_sae, |feature| [0.0, -0.5, 40.0, -40.0, -1.0][feature % 5]),
        w_dec: uniform(&mut rng, d_sae, d_in, 0.3),
        b_dec: Array1::zeros(d_in),
        per_feature: vec![],
    };
    let architecture = Architecture::binary(estimator);
    let objective = Objective { entropy_weight: 1e-3, covariance_weight: 1e-4, ..Objective::default() };
    let mut cpu = Cpu::new(&start, threads).with_isa(isa).with_precision(precision);
    let adam = Adam { clip_norm, ..Adam::new(3e-3) };
    let mut norms = vec![];
    let mut x = Array2::zeros((0, d_in));
    for _ in 0..50 {
        x = uniform(&mut rng, n, d_in, 1.0);
        let batch = Batch { x: x.view(), target: Target::Input };
        norms.extend(cpu.step(&architecture, &objective, &adam, batch).expect("a step").gradient_norm);
    }
    let codes = cpu.encode(&architecture, x.view()).expect("finite rows");
    let decoded = cpu.decode(&architecture, &codes).expect("codes of this model");
    let parameters = cpu.parameters();
    let values = parameters.flat().into_iter().flatten().chain(decoded.iter());
    let mut bytes: Vec<u8> = values.flat_map(|value| value.to_le_bytes()).collect();
    bytes.extend(codes.to_bytes(0..n));
    bytes.extend(norms.iter().flat_map(|norm| norm.to_le_bytes()));
    bytes
}

fn digest(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, step)
}

#[test]
fn fifty_steps_give_the_same_weights_everywhere() {
    let sigmoid = Estimator::Sigmoid { width: 0.3 };
    let few_open = Estimator::Rectangle { width: 0.1 };
    let f32 = Precision::F32;
    let bf16 = Precision::Bf16;
    let none = f64::INFINITY;
    let cases: [Case; 15] = [
        (1, 1, 1, sigmoid, f32, none, 0x77D0_5456_0925_99B6),
        (15, 17, 33, sigmoid, f32, none, 0x3B69_890B_3736_59BA),
        (33, 31, 130, Estimator::ReferenceSigmoid, f32, none, 0x86BB_2DDD_32B4_14A1),
        (70, 9, 64, Estimator::Identity, f32, none, 0x65A8_EEEA_10EF_DED1),
        (64, 70, 97, few_open, f32, none, 0x0DFE_6F72_4A27_5486),
        (100, 130, 200, few_open, f32, none, 0x7774_2D67_C7BF_21C7),
        (513, 33, 40, sigmoid, f32, none, 0x7317_1A60_F4DC_9BB5),
        (40, 600, 65, few_open, f32, none, 0xCF5D_1910_6FE9_F2FB),
        // several panels to a task, as many as threads leave
        (40, 12, 1100, few_open, f32, none, 0xD5AF_B62C_1900_44C2),
        (33, 31, 130, sigmoid, bf16, none, 0xB66A_6EB2_6833_B2FD),
        (70, 65, 40, few_open, bf16, none, 0xD642_3548_3F6B_B58B),
        (15, 17, 33, sigmoid, f32, 0.1, 0xE2AF_80F6_2382_1A37),
        (33, 31, 130, Estimator::ReferenceSigmoid, f32, 1.0, 0xF888_F134_D0E7_D6CF),
        (9, 5, 1100, few_open, f32, 9.0, 0xAA3E_2C01_CE03_F24B),
        (33, 31, 130, sigmoid, bf16, 0.1, 0xE80A_5125_7073_EBE1),
    ];
    let mut wrong = vec![];
    for case in &cases {
        let plain = weights_after_fifty_steps(case, Isa::PORTABLE, 1);
        let found = digest(&plain);
        if found != case.6 {
            wrong.push(format!("{case:?}: {found:#018X}"));
        }
        for isa in Isa::available() {
            for threads in [1, 2, 3, 8] {
                let same = weights_after_fifty_steps(case, isa, threads) == plain;
                assert!(same, "{case:?} on {} with {threads} threads", isa.name());
            }
        }
    }
    assert!(wrong.is_empty(), "weights are not those of other machines:\n{}", wrong.join("\n"));
}
