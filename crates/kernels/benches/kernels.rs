//! Every kernel of a step on one thread and on two, for each instruction set of this CPU, beside what the CPU can do at
//! best: `cargo bench -p bae-kernels`. Operations are floating-point operations, or bits for the counts.

use bae_kernels::batch::{BatchCodes, PANEL};
use bae_kernels::bf16::{self, PackedPairs};
use bae_kernels::columns::ColumnPanels;
use bae_kernels::product::{self, PackedRows};
use bae_kernels::sparse::{self, Sparse};
use bae_kernels::{Isa, adam, counts, gather, pairs, peak};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use ndarray::Array2;
use rayon::prelude::*;

fn main() {
    divan::main();
}

const ROWS: usize = 512;
/// d_in, d_sae.
const SHAPES: [(usize, usize); 2] = [(576, 2304), (2048, 8192)];

/// An instruction set, a shape, threads.
#[derive(Clone, Copy)]
struct Case(Isa, (usize, usize), usize);

impl std::fmt::Display for Case {
    fn fmt(&self, to: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Case(isa, (d_in, d_sae), threads) = self;
        write!(to, "{} ({d_in}, {d_sae}), {threads} t", isa.name())
    }
}

impl Case {
    fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.2).build().expect("threads");
        pool.install(work)
    }
}

fn cases() -> Vec<Case> {
    let fast = Isa::available().into_iter().filter(|isa| *isa != Isa::PORTABLE);
    fast.flat_map(|isa| SHAPES.map(|shape| [1, 2].map(|threads| Case(isa, shape, threads))))
        .flatten()
        .collect()
}

fn isas() -> Vec<&'static str> {
    Isa::available().into_iter().map(Isa::name).collect()
}

fn isa(name: &str) -> Isa {
    Isa::available().into_iter().find(|isa| isa.name() == name).expect("listed")
}

fn values(rows: usize, columns: usize) -> Array2<f32> {
    Array2::from_shape_fn((rows, columns), |(i, j)| ((i * 31 + j * 17) % 97) as f32 * 0.01 - 0.48)
}

/// Codes with about this share of bits on, differently in every feature.
fn codes(d_sae: usize, density: f64) -> BatchCodes {
    let limit = (density * f64::from(u32::MAX)) as u32;
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(99);
        (state >> 32) as u32
    };
    let words = (0..d_sae / PANEL * ROWS)
        .map(|_| (0..32).fold(0, |word, bit| word | u32::from(next() < limit) << bit));
    BatchCodes::new(ROWS, d_sae, words.collect())
}

#[divan::bench(args = isas())]
fn peak_multiply_adds(bencher: Bencher, name: &str) {
    let (operations, _) = peak::multiply_adds(isa(name), 100_000);
    bencher.counter(ItemsCount::new(operations)).bench(|| peak::multiply_adds(isa(name), 100_000));
}

#[divan::bench(args = isas())]
fn peak_counts(bencher: Bencher, name: &str) {
    let (bits, _) = peak::counts(isa(name), 100_000);
    bencher.counter(ItemsCount::new(bits)).bench(|| peak::counts(isa(name), 100_000));
}

#[divan::bench(args = cases(), sample_count = 10)]
fn product(bencher: Bencher, case: Case) {
    let Case(isa, (d_in, d_sae), _) = case;
    let (mut x, b) = (PackedRows::default(), values(d_sae / PANEL * d_in, PANEL));
    x.pack(isa, values(ROWS, d_in).view());
    let mut z = vec![0f32; ROWS * d_sae];
    let b = b.as_slice().expect("row-major");
    bencher.counter(ItemsCount::new(2 * ROWS * d_in * d_sae)).bench_local(|| {
        case.run(|| {
            let panels = b.par_chunks(d_in * PANEL).zip(z.par_chunks_mut(ROWS * PANEL));
            panels.for_each(|(b, z)| product::add_panel(isa, &x, b, z));
        });
    });
}

#[divan::bench(args = cases(), sample_count = 10)]
fn product_bf16(bencher: Bencher, case: Case) {
    let Case(isa, (d_in, d_sae), _) = case;
    let (mut x, b) = (PackedPairs::default(), values(d_sae / PANEL * d_in, PANEL));
    x.pack(isa, values(ROWS, d_in).view());
    let mut z = vec![0f32; ROWS * d_sae];
    let b = b.as_slice().expect("row-major");
    bencher.counter(ItemsCount::new(2 * ROWS * d_in * d_sae)).bench_local(|| {
        case.run(|| {
            let panels = b.par_chunks(d_in * PANEL).zip(z.par_chunks_mut(ROWS * PANEL));
            panels.for_each_init(Vec::new, |rounded, (b, z)| {
                bf16::pack_panel_pairs(isa, b, rounded);
                bf16::add_panel(isa, &x, rounded, z);
            });
        });
    });
}

#[divan::bench(args = cases(), sample_count = 10)]
fn covariance(bencher: Bencher, case: Case) {
    let Case(isa, (_, d_sae), _) = case;
    let codes = codes(d_sae, 0.1);
    let bits = ItemsCount::new(d_sae * d_sae / 2 * ROWS);
    bencher.counter(bits).bench_local(|| case.run(|| pairs::covariance(isa, &codes)));
}

#[divan::bench(args = cases(), sample_count = 10)]
fn covariance_gradient(bencher: Bencher, case: Case) {
    let Case(isa, (_, d_sae), _) = case;
    let codes = codes(d_sae, 0.1);
    let covariance = pairs::covariance(isa, &codes);
    let bits = ItemsCount::new(d_sae * d_sae * ROWS);
    bencher.counter(bits).bench_local(|| {
        case.run(|| {
            let signs = covariance.signed_counts(isa);
            (0..codes.panels()).into_par_iter().for_each_init(Vec::new, |counts, panel| {
                signs.of_panel(isa, panel, counts);
            });
        });
    });
}

#[divan::bench(args = cases(), consts = [2, 10, 50], sample_count = 10)]
fn decode<const PERCENT: usize>(bencher: Bencher, case: Case) {
    let Case(isa, (d_in, d_sae), _) = case;
    let codes = codes(d_sae, PERCENT as f64 / 100.0);
    let (weights, bias) = (values(d_sae, d_in), vec![0f32; d_in]);
    let weights = weights.as_slice().expect("row-major");
    let mut y = ColumnPanels::default();
    bencher.bench_local(|| case.run(|| gather::decode(isa, &codes, weights, &bias, &mut y)));
}

#[divan::bench(args = cases(), consts = [2, 10, 50], sample_count = 10)]
fn decoder_gradient<const PERCENT: usize>(bencher: Bencher, case: Case) {
    let Case(isa, (d_in, d_sae), _) = case;
    let codes = codes(d_sae, PERCENT as f64 / 100.0);
    let errors = ColumnPanels::from_rows(values(ROWS, d_in).view());
    let total = vec![0f32; d_in];
    bencher.bench_local(|| {
        case.run(|| {
            (0..d_sae).into_par_iter().step_by(128).for_each_init(
                || vec![0f32; 128 * d_in],
                |out, first| {
                    gather::decoder_gradient(isa, &codes, first..first + 128, &errors, &total, out);
                },
            );
        });
    });
}

#[divan::bench(args = cases(), sample_count = 10)]
fn adam_update(bencher: Bencher, case: Case) {
    let Case(isa, (d_in, d_sae), _) = case;
    let numbers = adam::AdamStep {
        beta1: 0.9,
        beta2: 0.999,
        one_minus_beta1: 0.1,
        one_minus_beta2: 1e-3,
        step_size: 1e-4,
        epsilon: 1e-8,
        weight_decay: 0.0,
    };
    let length = d_in * d_sae;
    let (mut p, mut m, mut v, g) =
        (vec![0.5f32; length], vec![0f32; length], vec![0f32; length], vec![0.01f32; length]);
    bencher.counter(ItemsCount::new(length)).bench_local(|| {
        case.run(|| {
            let chunk = 1 << 16;
            let parts = p.par_chunks_mut(chunk).zip(m.par_chunks_mut(chunk)).zip(v.par_chunks_mut(chunk));
            parts
                .zip(g.par_chunks(chunk))
                .for_each(|(((p, m), v), g)| adam::update(isa, numbers, p, m, v, g));
        });
    });
}

/// Numbers between −1 and 1, as pre-activations might be.
fn pre_activations(d_sae: usize) -> Vec<f32> {
    let mut state = 1u64;
    let next = || {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(99);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(ROWS * d_sae).collect()
}

/// Entries of a row of codes that holds 32, or a share of all features.
fn entries(isa: Isa, d_sae: usize, percent: usize) -> Sparse {
    let k = if percent == 0 { 32 } else { d_sae * percent / 100 };
    sparse::largest_of_rows(isa, &pre_activations(d_sae), d_sae, k)
}

fn by_feature(isa: Isa, d_sae: usize, percent: usize) -> sparse::Transposed<1> {
    let codes = entries(isa, d_sae, percent);
    sparse::transposed(&codes.ends, &codes.indices, [&codes.values], d_sae)
}

/// Where the entries of a feature are.
fn of_feature(ends: &[usize], feature: usize) -> std::ops::Range<usize> {
    let start = if feature == 0 { 0 } else { ends[feature - 1] };
    start..ends[feature]
}

/// Codes with 32 entries (0), or this percentage of all.
#[divan::bench(args = cases(), consts = [0, 10, 30], sample_count = 20)]
fn sparse_decode<const PERCENT: usize>(bencher: Bencher, case: Case) {
    let Case(isa, (d_in, d_sae), _) = case;
    let codes = entries(isa, d_sae, PERCENT);
    let weights = values(d_sae, d_in);
    let weights = weights.as_slice().expect("row-major");
    let mut out = vec![0f32; ROWS * d_in];
    bencher
        .counter(ItemsCount::new(2 * codes.ends[codes.ends.len() - 1] * d_in))
        .bench_local(|| case.run(|| sparse::add_decoded(isa, codes.lists(), weights, d_in, &mut out)));
}

#[divan::bench(args = cases(), consts = [0, 10, 30], sample_count = 20)]
fn sparse_turned<const PERCENT: usize>(bencher: Bencher, case: Case) {
    let Case(isa, (_, d_sae), _) = case;
    let codes = entries(isa, d_sae, PERCENT);
    bencher.counter(ItemsCount::new(codes.len())).bench_local(|| {
        case.run(|| sparse::transposed(&codes.ends, &codes.indices, [&codes.values, &codes.values], d_sae))
    });
}

/// The products with every feature's decoder row.
#[divan::bench(args = cases(), consts = [0, 10, 30], sample_count = 20)]
fn sparse_dots<const PERCENT: usize>(bencher: Bencher, case: Case) {
    let Case(isa, (d_in, d_sae), _) = case;
    let codes = by_feature(isa, d_sae, PERCENT);
    let (weights, errors) = (values(d_sae, d_in), values(ROWS, d_in));
    let errors = errors.as_slice().expect("row-major");
    let weights = weights.as_slice().expect("row-major");
    bencher.counter(ItemsCount::new(2 * codes.ends[codes.ends.len() - 1] * d_in)).bench_local(|| {
        case.run(|| {
            weights.par_chunks(d_in).enumerate().for_each_init(Vec::new, |out, (feature, row)| {
                let samples = &codes.rows[of_feature(&codes.ends, feature)];
                out.resize(samples.len(), 0.0);
                sparse::dots(isa, samples, errors, row, out);
            });
        });
    });
}

/// The gradient of every feature's row.
#[divan::bench(args = cases(), consts = [0, 10, 30], sample_count = 20)]
fn sparse_scaled_rows<const PERCENT: usize>(bencher: Bencher, case: Case) {
    let Case(isa, (d_in, d_sae), _) = case;
    let codes = by_feature(isa, d_sae, PERCENT);
    let errors = values(ROWS, d_in);
    let errors = errors.as_slice().expect("row-major");
    bencher.counter(ItemsCount::new(2 * codes.ends[codes.ends.len() - 1] * d_in)).bench_local(|| {
        case.run(|| {
            (0..d_sae).into_par_iter().for_each_init(
                || vec![0f32; d_in],
                |out, feature| {
                    let here = of_feature(&codes.ends, feature);
                    let (samples, factors) = (&codes.rows[here.clone()], &codes.values[0][here]);
                    sparse::add_scaled_rows(isa, samples, factors, errors, out);
                },
            );
        });
    });
}

#[divan::bench(args = cases(), consts = [32, 256], sample_count = 20)]
fn largest_of_rows<const K: usize>(bencher: Bencher, case: Case) {
    let Case(isa, (_, d_sae), _) = case;
    let values = pre_activations(d_sae);
    bencher
        .counter(BytesCount::of_slice(&values))
        .bench_local(|| case.run(|| sparse::largest_of_rows(isa, &values, d_sae, K)));
}

#[divan::bench(args = cases(), consts = [32, 256], sample_count = 20)]
fn largest_of_batch<const K: usize>(bencher: Bencher, case: Case) {
    let Case(isa, (_, d_sae), _) = case;
    let values = pre_activations(d_sae);
    bencher
        .counter(BytesCount::of_slice(&values))
        .bench_local(|| case.run(|| sparse::largest_of_batch(isa, &values, d_sae, K * ROWS)));
}

/// Half of all values.
#[divan::bench(args = cases(), sample_count = 20)]
fn sparse_above_zero(bencher: Bencher, case: Case) {
    let Case(isa, (_, d_sae), _) = case;
    let values = pre_activations(d_sae);
    bencher
        .counter(BytesCount::of_slice(&values))
        .bench_local(|| case.run(|| Sparse::above_zero(isa, &values, d_sae)));
}

/// Rows of a data set.
const MANY: usize = 100_000;

/// Packed rows of 2,304 features, each feature on at this rate on average.
fn packed(rows: usize, density: f64) -> Vec<u64> {
    // every bit is on at the share that the digits of the limit say, sixteen of them
    let limit = (density * 65536.0) as u32;
    let mut state = 1u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut word =
        || (0..16).fold(0, |word, digit| if limit >> digit & 1 == 1 { word | next() } else { word & next() });
    (0..rows * 36).map(|_| word()).collect()
}

fn counting_cases() -> Vec<Case> {
    cases().into_iter().filter(|Case(_, shape, _)| *shape == SHAPES[0]).collect()
}

/// What counting is held against: the same bytes, only read.
#[divan::bench(args = [1, 2])]
fn read_100_000_codes(bencher: Bencher, threads: usize) {
    let words = packed(MANY, 0.1);
    let case = Case(Isa::PORTABLE, SHAPES[0], threads);
    bencher.counter(BytesCount::of_slice(&words)).bench_local(|| {
        case.run(|| {
            words
                .par_chunks(1 << 17)
                .map(|part| part.iter().fold(0, |all, word| all ^ word))
                .reduce(|| 0, |a, b| a ^ b)
        })
    });
}

#[divan::bench(args = counting_cases())]
fn ones_of_100_000_codes(bencher: Bencher, case: Case) {
    let words = packed(MANY, 0.1);
    let mut ones = vec![0; 2304];
    bencher
        .counter(BytesCount::of_slice(&words))
        .bench_local(|| case.run(|| counts::ones_with(case.0, &words, MANY, 2304, &mut ones)));
}

#[divan::bench(args = counting_cases(), consts = [1, 4, 10, 50], sample_count = 10)]
fn pairs_of_100_000_codes<const PERCENT: usize>(bencher: Bencher, case: Case) {
    let words = packed(MANY, PERCENT as f64 / 100.0);
    let mut pairs = vec![0; 2304 * 2303 / 2];
    bencher.bench_local(|| case.run(|| counts::pairs_with(case.0, &words, MANY, 2304, &mut pairs)));
}
