use bae_model::*; use ndarray::*; use rand::{RngExt, SeedableRng}; use rand_chacha::ChaCha8Rng; use std::time::Instant;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let g = |i: usize, d: usize| a.get(i).map_or(d, |s| s.parse().unwrap());
    let (d_in, d_sae, n, threads) = (g(1, 576), g(2, 2304), g(3, 512), g(4, 2));
    let density: f64 = a.get(5).map_or(0.1, |s| s.parse().unwrap());
    let est = match a.get(6).map(|s| s.as_str()) { Some("rect") => Estimator::Rectangle { width: 0.5 }, Some("sig") => Estimator::Sigmoid { width: 0.25 }, _ => Estimator::ReferenceSigmoid };
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut u = |r: usize, c: usize, s: f32| Array2::from_shape_simple_fn((r, c), || (rng.random::<f32>() * 2.0 - 1.0) * s);
    let x = u(n, d_in, 1.7); let s = (3.0 / d_in as f32).sqrt();
    let mut p = Parameters { w_enc: u(d_in, d_sae, s), b_enc: Array1::zeros(d_sae), w_dec: u(d_sae, d_in, 0.05), b_dec: Array1::zeros(d_in) };
    // z ~ N(0,1)
    let q = { let mut lo = -6.0f64; let mut hi = 6.0; for _ in 0..60 { let m = 0.5 * (lo + hi); let t = 0.5 * libm::erfc(m / 2f64.sqrt()); if t > density { lo = m } else { hi = m } } lo };
    p.b_enc.fill(-q as f32);
    let mut cpu = Cpu::new(&p, threads);
    let arch = Architecture::binary(est);
    let obj = Objective { entropy_weight: 1e-4, covariance_weight: 1e-6, ..Objective::default() };
    let steps = g(7, 10);
    let mut t = vec![];
    let batch = Batch { x: x.view(), target: Target::Input };
    cpu.step(&arch, &obj, &Adam::new(1e-6), batch).unwrap();
    let s0 = cpu.stages();
    for _ in 0..steps { let b = Instant::now(); cpu.step(&arch, &obj, &Adam::new(1e-6), batch).unwrap(); t.push(b.elapsed().as_secs_f64() * 1e3); }
    let s1 = cpu.stages();
    t.sort_by(f64::total_cmp);
    println!("{} {d_in}x{d_sae}x{n} t{threads} rho {density}: {:.2} ms [{:.2} - {:.2}]", bae_kernels::Isa::best().name(), t[t.len() / 2], t[0], t[t.len() - 1]);
    let f = |name: &str, a: f64, b: f64| print!("{name} {:.2}  ", (b - a) * 1e3 / steps as f64);
    f("pack", s0.pack, s1.pack); f("encode", s0.encode, s1.encode); f("turn", s0.turn, s1.turn); f("decode", s0.decode, s1.decode); f("errors", s0.errors, s1.errors); f("cov", s0.covariance, s1.covariance);
    f("grad_h", s0.grad_h, s1.grad_h); f("pen", s0.penalties, s1.penalties); f("est", s0.estimator, s1.estimator); f("grad_enc", s0.grad_encoder, s1.grad_encoder); f("grad_dec", s0.grad_decoder, s1.grad_decoder); f("adam", s0.adam, s1.adam); println!();
}
