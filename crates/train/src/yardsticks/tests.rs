use super::*;
use bae_data::{Dataset, MemorySource, Order, RowSet};
use bae_model::architectures::{Kind, Relu};
use bae_model::{Architecture, Cpu, Estimator, Parameters, Sae};
use ndarray::{Array1, Axis, array, concatenate};
use proptest::prelude::*;
use rand::RngExt;
use serde_json::{Value, json};

/// One bit: the first column above 0. It switches `w_dec` on top of `b_dec`.
fn one_bit(w_dec: Array1<f32>, b_dec: Array1<f32>, layer_norm: bool) -> Applied {
    let mut parameters = Parameters::zeros(b_dec.len(), 1, b_dec.len());
    parameters.w_enc[[0, 0]] = 1.0;
    parameters.w_dec.row_mut(0).assign(&w_dec);
    parameters.b_dec = b_dec;
    let architecture = Architecture::binary(Estimator::Identity);
    Applied { backend: Box::new(Cpu::new(&parameters, 2)), architecture, layer_norm }
}

/// Makes the same of every row: nothing says what.
fn constant(d_in: usize, value: f32) -> Applied {
    one_bit(Array1::zeros(d_in), Array1::from_elem(d_in, value), false)
}

fn of(model: &Applied, rows: &Array2<f32>) -> Yardsticks {
    with_memory(model, rows, 1 << 30)
}

fn with_memory(model: &Applied, rows: &Array2<f32>, memory: usize) -> Yardsticks {
    let source = MemorySource::new("memory", rows.iter().copied().collect(), rows.ncols()).unwrap();
    let data = Dataset::new(vec![Box::new(source)]).unwrap();
    let all = RowSet::all(data.rows());
    yardsticks(model, &Feed::new(&data, &all, Order::Stored, memory), |_| true).unwrap()
}

fn random(rows: usize, d_in: usize, seed: u64) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Array2::from_shape_fn((rows, d_in), |(_, j)| (rng.random::<f32>() - 0.3) * (1.0 + (j % 5) as f32))
}

fn close(found: Option<f64>, expected: f64, tolerance: f64) {
    let found = found.expect("a figure");
    assert!((found - expected).abs() <= tolerance * expected.abs().max(1.0), "{found} instead of {expected}");
}

/// Which features are on does not give back what values make: their bits are not held against the Gaussian's.
#[test]
fn codes_that_hold_values_are_not_held_against_a_gaussian() {
    let mut parameters = Parameters::zeros(3, 3, 3);
    (0..3).for_each(|j| (parameters.w_enc[[j, j]], parameters.w_dec[[j, j]]) = (1.0, 1.0));
    let model = Applied {
        backend: Box::new(Sae::new(&parameters, 1)),
        architecture: Architecture::of(Kind::Relu(Relu { by_norm: true })),
        layer_norm: false,
    };
    let figures = of(&model, &random(50, 3, 1));
    assert!(figures.gaussian.bits.unwrap() > 0.0 && figures.entropy_bits > 0.0);
    assert_eq!(figures.gaussian.ratio, None);
    assert!(figures.missing["gaussian.ratio"].contains("hold values"), "{:?}", figures.missing);
}

#[test]
fn three_rows_on_the_axes() {
    let figures = of(&constant(3, 0.0), &array![[3.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]]);
    close(figures.raw.renyi2_bits, 1.0, 1e-14);
    close(figures.raw.participation_ratio, 2.0, 1e-14);
    close(figures.raw.rank_me, 2.749_459_273_997_205, 1e-14);
    let [half, third, sixth] = [9.0 / 14.0, 4.0 / 14.0, 1.0 / 14.0f64];
    close(
        figures.raw.von_neumann_bits,
        -[half, third, sixth].iter().map(|p| p * p.log2()).sum::<f64>(),
        1e-14,
    );
    // everything is error, 14 / 3 a row: I + d/ε² M is diag(1 + 27/14, 1 + 12/14, 1 + 3/14)
    assert_eq!(figures.squared_error, 14.0 / 3.0);
    close(figures.raw.coding_rate_bits, 0.5 * (41.0 * 26.0 * 17.0 / 2744.0f64).log2(), 1e-14);
    assert_eq!((figures.raw.rank, figures.centred.rank), (3, 2));
    // 0 makes more error than the mean: no bit is needed for that
    assert_eq!(figures.gaussian, Gaussian { bits: Some(0.0), ratio: None });
    assert!(figures.missing["gaussian.ratio"].contains("takes no bits"), "{:?}", figures.missing);
}

#[test]
fn figures_are_those_of_numpy() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/yardsticks.json");
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for (name, case) in cases.as_object().unwrap() {
        let vector = |value: &Value| -> Array1<f32> {
            value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
        };
        let rows: Vec<Array1<f32>> = case["rows"].as_array().unwrap().iter().map(vector).collect();
        let rows = ndarray::stack(Axis(0), &rows.iter().map(|row| row.view()).collect::<Vec<_>>()).unwrap();
        let figures = of(&one_bit(vector(&case["wDec"]), vector(&case["bDec"]), false), &rows);
        let found = serde_json::to_value(&figures).unwrap();
        agree(&case["figures"], &found, name);
        assert!(figures.missing.is_empty(), "{name}: {:?}", figures.missing);
    }
}

/// Every figure of `expected` is in `found`.
fn agree(expected: &Value, found: &Value, at: &str) {
    match expected {
        Value::Object(fields) => {
            for (name, expected) in fields {
                agree(expected, &found[name], &format!("{at}, {name}"));
            }
        }
        _ => {
            let (expected, found) = (expected.as_f64().unwrap(), found.as_f64().expect(at));
            let difference = (found - expected).abs();
            assert!(difference <= 1e-7 * expected.abs().max(1e-3), "{at}: {found} instead of {expected}");
        }
    }
}

#[test]
fn what_is_not_defined_is_null_with_a_reason() {
    let source = MemorySource::new("memory", vec![1.0; 8], 4).unwrap();
    let data = Dataset::new(vec![Box::new(source)]).unwrap();
    let none = RowSet::none(2);
    let feed = Feed::new(&data, &none, Order::Stored, 1 << 20);
    let figures = yardsticks(&constant(4, 1.0), &feed, |_| true).unwrap();
    assert_eq!((figures.rows, figures.raw.rank, figures.fvu), (0, 0, None));
    for name in ["fvu", "raw", "centred", "gaussian"] {
        assert_eq!(figures.missing[name], "there are no rows");
    }
    let figures = of(&constant(4, 1.0), &array![[1.0, 2.0, 3.0, 4.0]]);
    assert_eq!((figures.raw.rank, figures.centred.rank), (1, 0));
    close(figures.raw.rank_me, 1.0, 0.0);
    close(figures.raw.von_neumann_bits, 0.0, 0.0);
    assert_eq!(figures.missing["centred"], "there is one row");
    assert!(figures.missing["twoNn.dimension"].contains("fewer than 10"));
    // a third is not whole in any number of bits: the mean of such rows is, nevertheless
    let alike = Array2::from_elem((4999, 4), 1.0f32 / 3.0);
    let figures = of(&constant(4, 1.0), &alike);
    assert_eq!((figures.raw.rank, figures.centred.rank), (1, 0));
    assert_eq!(figures.missing["centred"], "all rows are alike");
    assert_eq!(figures.two_nn.duplicates, 4095);
    let figures = of(&constant(4, 1.0), &Array2::zeros((20, 4)));
    assert_eq!(figures.missing["raw"], "all rows are 0");
    // no figure is NaN, so what is null is null in what is read back too
    let text = serde_json::to_string(&figures).unwrap();
    assert_eq!(serde_json::from_str::<Yardsticks>(&text).unwrap(), figures);
    assert_eq!(serde_json::to_value(&figures).unwrap()["raw"]["rankMe"], json!(null));
}

#[test]
fn an_exact_reconstruction_has_no_rate() {
    let rows = Array2::from_shape_fn((30, 3), |(k, _)| if k % 3 == 0 { 1.0 } else { 0.0 });
    let figures = of(&one_bit(Array1::ones(3), Array1::zeros(3), false), &rows);
    assert_eq!((figures.squared_error, figures.fvu, figures.centred.rank), (0.0, Some(0.0), 1));
    for name in ["gaussian", "raw.codingRateBits", "centred.codingRateBits"] {
        assert!(figures.missing[name].contains("exact"), "{:?}", figures.missing);
    }
    close(figures.centred.participation_ratio, 1.0, 1e-12);
}

#[test]
fn extreme_values_stay_numbers() {
    for size in [1e-30f32, 1e30] {
        let figures = of(&constant(6, 0.0), &(random(200, 6, 4) * size));
        let plain = of(&constant(6, 0.0), &random(200, 6, 4));
        for (found, expected) in [(&figures.raw, &plain.raw), (&figures.centred, &plain.centred)] {
            close(found.von_neumann_bits, expected.von_neumann_bits.unwrap(), 1e-5);
            close(found.rank_me, expected.rank_me.unwrap(), 1e-5);
            close(found.coding_rate_bits, expected.coding_rate_bits.unwrap(), 1e-5);
        }
        close(figures.two_nn.dimension, plain.two_nn.dimension.unwrap(), 1e-4);
    }
}

#[test]
fn the_error_is_that_of_evaluate() {
    for layer_norm in [false, true] {
        let model = one_bit(Array1::linspace(-1.0, 1.0, 7), Array1::from_elem(7, 0.1), layer_norm);
        let rows = random(3000, 7, 9);
        let source = MemorySource::new("memory", rows.iter().copied().collect(), 7).unwrap();
        let data = Dataset::new(vec![Box::new(source)]).unwrap();
        let all = RowSet::all(3000);
        let feed = Feed::new(&data, &all, Order::Stored, 1 << 20);
        let evaluation = crate::evaluate(&model, &feed, |_| true).unwrap();
        let figures = yardsticks(&model, &feed, |_| true).unwrap();
        assert_eq!(figures.fvu, Some(evaluation.fvu));
        assert_eq!(figures.entropy_bits, evaluation.codes.entropy_bits);
        close(Some(figures.squared_error), evaluation.mse * 7.0, 1e-12);
    }
}

#[test]
fn windows_change_nothing_and_a_stop_ends_it_anywhere() {
    let (model, rows) = (constant(5, 0.5), random(6000, 5, 2));
    let whole = of(&model, &rows);
    assert_eq!(with_memory(&model, &rows, 40_000), whole);
    assert_eq!((whole.two_nn.rows, whole.two_nn.duplicates), (4096, 0));
    let source = MemorySource::new("memory", rows.iter().copied().collect(), 5).unwrap();
    let data = Dataset::new(vec![Box::new(source)]).unwrap();
    let all = RowSet::all(6000);
    let feed = Feed::new(&data, &all, Order::Stored, 1 << 30);
    // three chunks, two spectra, the neighbours
    for stop in 0..6 {
        let mut asked = 0;
        let stopped = yardsticks(&model, &feed, |_| {
            asked += 1;
            asked <= stop
        });
        assert!(matches!(stopped, Err(TrainError::Cancelled)), "{stop}");
    }
}

/// Turns the first two axes into each other, and the second and the last.
fn rotated(rows: &Array2<f32>, angle: f64) -> Array2<f32> {
    let mut turned = rows.mapv(f64::from);
    let last = rows.ncols() - 1;
    for (i, j) in [(0, 1), (1, last)] {
        for mut row in turned.rows_mut() {
            let (a, b) = (row[i], row[j]);
            row[i] = angle.cos() * a - angle.sin() * b;
            row[j] = angle.sin() * a + angle.cos() * b;
        }
    }
    turned.mapv(|x| x as f32)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_always_so(rows in 2usize..60, d_in in 3usize..20, seed in 0u64..1000, angle in 0.0f64..6.0) {
        let x = random(rows, d_in, seed);
        let figures = of(&constant(d_in, 0.0), &x);
        for (spectrum, limit) in [(&figures.raw, rows), (&figures.centred, rows - 1)] {
            prop_assert!(spectrum.rank <= limit.min(d_in));
            let rank = spectrum.rank as f64 * (1.0 + 1e-12);
            prop_assert!((1.0..=rank).contains(&spectrum.rank_me.unwrap()), "{:?}", spectrum);
            prop_assert!(spectrum.participation_ratio.unwrap() <= rank);
            prop_assert!(spectrum.renyi2_bits.unwrap() <= spectrum.von_neumann_bits.unwrap() + 1e-12);
        }
        let (turned, scaled) = (rotated(&x, angle), &x * 4.0);
        let twice = concatenate![Axis(0), x, x];
        for (other, tolerance) in [(turned, 1e-4), (scaled, 1e-12), (twice, 1e-9)] {
            let other = of(&constant(d_in, 0.0), &other);
            for (a, b) in [(&figures.raw, &other.raw), (&figures.centred, &other.centred)] {
                for (a, b) in [
                    (a.von_neumann_bits, b.von_neumann_bits),
                    (a.renyi2_bits, b.renyi2_bits),
                    (a.participation_ratio, b.participation_ratio),
                    (a.coding_rate_bits, b.coding_rate_bits),
                    // roots of eigenvalues that are 0 but for rounding count
                    (a.rank_me.map(|rank| rank * 1e-3), b.rank_me.map(|rank| rank * 1e-3)),
                ] {
                    prop_assert!((a.unwrap() - b.unwrap()).abs() <= tolerance * a.unwrap().abs().max(1.0));
                }
            }
        }
    }
}
