use super::*;
use crate::By;
use bae_codes::Label;
use bae_data::{Dataset, MemorySource, Order, RowSet};
use bae_model::architectures::{Kind, Settings, Snmf};
use bae_model::{Cpu, Estimator, Parameters, Sae};
use ndarray::{Axis, s};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

fn dataset(parts: &[&Array2<f32>]) -> Dataset {
    let source = |rows: &&Array2<f32>| -> Box<dyn bae_data::Source> {
        Box::new(MemorySource::new("memory", rows.iter().copied().collect(), rows.ncols()).unwrap())
    };
    Dataset::new(parts.iter().map(source).collect()).unwrap()
}

fn of(model: &Applied, rows: &Array2<f32>) -> ControlledEvaluation {
    on_threads(model, rows, 2)
}

fn on_threads(model: &Applied, rows: &Array2<f32>, threads: usize) -> ControlledEvaluation {
    let data = dataset(&[rows]);
    let options = EvaluationOptions { threads, ..EvaluationOptions::default() };
    evaluate_with_controls(model, &data, &RowSet::all(data.rows()), &options, |_, _| true).unwrap()
}

fn bits(parameters: &Parameters, layer_norm: bool) -> Applied {
    Applied {
        backend: Box::new(Cpu::new(parameters, 1)),
        architecture: Architecture::binary(Estimator::Identity),
        layer_norm,
    }
}

fn values(kind: Kind, mut parameters: Parameters) -> Applied {
    let tensors = kind.coding::<f32>().per_feature();
    parameters.per_feature =
        tensors.iter().map(|&(name, v)| (name, Array1::from_elem(parameters.d_sae(), v))).collect();
    Applied {
        backend: Box::new(Sae::new(&parameters, 1)),
        architecture: Architecture::of(kind),
        layer_norm: false,
    }
}

fn kind(name: &str, k: usize) -> Kind {
    let settings =
        Settings { d_sae: 1000, k: Some(k), bits: None, gradient_width: None, dead_after: 1000, seed: 0 };
    Kind::named(name, settings).expect("an architecture").expect("its settings")
}

/// Rows of switches along axes, `d` of them, each on in a quarter of the rows; and the model that finds all of them.
fn switches(rows: usize, d: usize) -> (Array2<f32>, Parameters) {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let x = Array2::from_shape_simple_fn((rows, d), || if random.random::<f32>() < 0.25 { 4.0 } else { 1.0 });
    let mut parameters = Parameters::zeros(d, d, d);
    for j in 0..d {
        parameters.w_enc[[j, j]] = 1.0;
        parameters.b_enc[j] = -2.0;
        parameters.w_dec[[j, j]] = 3.0;
        parameters.b_dec[j] = 1.0;
    }
    (x, parameters)
}

fn random_parameters(d_in: usize, d_sae: usize) -> Parameters {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let mut parameters = Parameters::zeros(d_in, d_sae, d_in);
    for values in parameters.flat_mut() {
        values.iter_mut().for_each(|value| *value = random.random::<f32>() - 0.5);
    }
    parameters
}

fn random_rows(rows: usize, d: usize) -> Array2<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let mut x = Array2::from_shape_simple_fn((rows, d), || random.random::<f32>() - 0.5);
    for mut row in x.rows_mut() {
        let along = 3.0 * random.random::<f32>();
        row.iter_mut().enumerate().for_each(|(j, x)| *x += along + j as f32 / 4.0);
    }
    x
}

#[test]
fn a_perfect_model_and_its_controls() {
    let (x, parameters) = switches(600, 16);
    let ControlledEvaluation { all, .. } = of(&bits(&parameters, false), &x);
    assert_eq!((all.reconstruction.mse, all.reconstruction.explained_variance), (0.0, 1.0));
    assert!((all.reconstruction.cosine - 1.0).abs() < 1e-12 && all.reconstruction.relative_bias == 1.0);
    assert_eq!((all.rate_bits, all.rate_step), (all.codes.entropy_bits, None));
    assert!((all.codes.l0 - 4.0).abs() < 0.3 && all.covariance.unwrap() > 0.0);
    assert_eq!(all.density_histogram.features.iter().sum::<u64>(), 16);
    let Controls { mean_prediction, pca, shuffled_codes, frozen_encoder, frozen_decoder } = all.controls;
    assert!(mean_prediction.reconstruction.explained_variance.abs() < 1e-6);
    assert_eq!((mean_prediction.l0, mean_prediction.rows), (None, 600));
    // independent axes of equal variance: as many components as features on explain their share of them
    let pca = pca.unwrap();
    assert_eq!(pca.rank, Some(4));
    assert!((pca.reconstruction.explained_variance - 0.25).abs() < 0.1, "{pca:?}");
    // another row's code differs in p (1 − p) of both ways: twice the variance
    let shuffled = shuffled_codes.unwrap();
    assert!((shuffled.reconstruction.fvu - 2.0).abs() < 0.1, "{shuffled:?}");
    for control in [frozen_encoder.unwrap(), frozen_decoder.unwrap()] {
        let fitted = control.fitted.as_ref().unwrap();
        assert_eq!((fitted.rows, control.rows), (450, 150));
        let explained = control.reconstruction.explained_variance;
        assert!((0.0..0.9).contains(&explained), "{control:?}");
        assert!(fitted.reconstruction.explained_variance > explained - 0.05, "{control:?}");
    }
    assert_eq!(all.missing, Default::default());
}

/// Switches that write along other directions of another width, in other units: each control is held to the targets, not to the rows.
#[test]
fn a_perfect_transcoder_and_its_controls() {
    let (x, mut parameters) = switches(600, 16);
    let mut random = ChaCha8Rng::seed_from_u64(11);
    parameters.w_dec = Array2::from_shape_simple_fn((16, 5), || 100.0 * (random.random::<f32>() - 0.5));
    parameters.b_dec = Array1::from_elem(5, -900.0);
    for model in [bits(&parameters, false), values(kind("relu", 1), parameters.clone())] {
        let target = model.decode(&model.encode(x.view()).unwrap()).unwrap();
        let data = dataset(&[&x]).with_target(dataset(&[&target])).unwrap();
        let all = |data: &Dataset| {
            let rows = RowSet::all(600);
            evaluate_with_controls(&model, data, &rows, &EvaluationOptions::default(), |_, _| true)
                .unwrap()
                .all
        };
        let EvaluationFigures { reconstruction, controls, missing, .. } = all(&data);
        assert_eq!(reconstruction.mse, 0.0);
        assert_eq!(missing, Default::default());
        let Controls { mean_prediction, pca, shuffled_codes, frozen_encoder, frozen_decoder } = controls;
        assert!(mean_prediction.reconstruction.explained_variance.abs() < 1e-6);
        // four of the five dimensions there are
        let pca = pca.unwrap();
        assert!(pca.rank == Some(4) && pca.reconstruction.explained_variance > 0.5, "{pca:?}");
        let shuffled = shuffled_codes.unwrap();
        assert!((shuffled.reconstruction.fvu - 2.0).abs() < 0.2, "{shuffled:?}");
        for control in [frozen_encoder.unwrap(), frozen_decoder.unwrap()] {
            let explained = control.reconstruction.explained_variance;
            assert!((0.0..0.97).contains(&explained), "{control:?}");
        }
    }
}

#[test]
fn a_frozen_encoder_is_on_as_often_as_the_model() {
    let (x, parameters) = switches(800, 12);
    for model in [bits(&parameters, false), values(kind("relu", 1), parameters.clone())] {
        let ControlledEvaluation { all, .. } = of(&model, &x);
        let control = all.controls.frozen_encoder.unwrap();
        assert!(
            (control.l0.unwrap() - all.codes.l0).abs() < 0.1 * all.codes.l0,
            "{control:?} {:?}",
            all.codes
        );
    }
}

/// Every family: the figures are those of plain f64 loops over what the engine encodes and decodes.
#[test]
fn figures_are_those_of_codes_and_reconstruction() {
    let (x, parameters) = (random_rows(90, 7), random_parameters(7, 11));
    let models = [
        bits(&parameters, false),
        values(kind("topk", 3), parameters.clone()),
        values(kind("relu", 1), parameters.clone()),
        values(kind("jumprelu", 1), parameters.clone()),
        values(kind("gated", 1), parameters.clone()),
    ];
    for model in models {
        let codes = model.encode(x.view()).unwrap();
        let y = model.decode(&codes).unwrap().mapv(f64::from);
        let x64 = x.mapv(f64::from);
        let mean = x64.mean_axis(Axis(0)).unwrap();
        let error = (&x64 - &y).mapv(|e| e * e).sum();
        let ControlledEvaluation { all, .. } = of(&model, &x);
        assert!((all.reconstruction.mse - error / 630.0).abs() < 1e-9);
        let fvu = error / (&x64 - &mean).mapv(|e| e * e).sum();
        assert!((all.reconstruction.fvu - fvu).abs() < 1e-9 * fvu);
        let on: u32 = codes.active().ones_per_row().iter().sum();
        assert!((all.codes.l0 - f64::from(on) / 90.0).abs() < 1e-12);
        assert_eq!(all.covariance.is_some(), all.rate_step.is_none());
        assert!(all.rate_bits >= all.codes.entropy_bits - 1e-9, "values cost bits beside which are on");
        let shuffled = all.controls.shuffled_codes.unwrap();
        assert_eq!((shuffled.l0, shuffled.rate_bits), (Some(all.codes.l0), Some(all.rate_bits)));
        assert!(shuffled.reconstruction.mse != all.reconstruction.mse);
        assert!(all.missing.is_empty(), "{:?}", all.missing);
        // that training sees is the same
        let data = dataset(&[&x]);
        let rows = RowSet::all(90);
        let seen = evaluate(&model, &Feed::new(&data, &rows, Order::Stored, 1 << 20), |_| true).unwrap();
        assert!((seen.mse - all.reconstruction.mse).abs() < 1e-12 && seen.codes == all.codes);
    }
}

/// What is coded through its decoder has no encoder to be frozen alone.
#[test]
fn a_control_without_any_feature_on_is_none() {
    let (x, mut parameters) = switches(200, 6);
    parameters.b_enc.fill(-1.0);
    let ControlledEvaluation { all, .. } = of(&values(Kind::Snmf(Snmf), parameters), &x);
    assert!(all.codes.l0 > 1.0);
    assert_eq!(all.controls.frozen_encoder, None);
    assert!(all.missing["frozenEncoder"].contains("not made by an encoder alone"), "{:?}", all.missing);
    assert!(all.controls.frozen_decoder.unwrap().l0.unwrap() > 0.0);
}

#[test]
fn bits_do_not_give_back_values() {
    let model = values(kind("relu", 1), random_parameters(7, 11));
    let bits = model.backend.encode(&model.architecture, random_rows(5, 7).view()).unwrap();
    let error = TrainError::from(model.decode(&Codes::Bits(bits)).unwrap_err());
    assert_eq!(error.code(), "INVALID_ARGUMENT");
    assert!(error.to_string().contains("hold values"), "{error}");
}

/// Values rounded to the reported step add about a hundredth of the error.
#[test]
fn the_step_adds_as_much_error_as_it_says() {
    // most of a row is along a few of its axes, and the model leaves out the rest
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let x = Array2::from_shape_simple_fn((3000, 24), || {
        let large = random.random::<f32>() < 0.3;
        random.random::<f32>() * if large { 4.0 } else { 0.5 }
    });
    let mut parameters = Parameters::zeros(24, 24, 24);
    for j in 0..24 {
        (parameters.w_enc[[j, j]], parameters.w_dec[[j, j]]) = (0.5, 2.0);
    }
    let model = values(kind("topk", 8), parameters.clone());
    let ControlledEvaluation { all, .. } = of(&model, &x);
    let step = all.rate_step.unwrap();
    let codes = model.backend.values(&model.architecture, x.view()).unwrap();
    let (ends, features, held) = codes.lists();
    let rounded = features.iter().zip(held).map(|(&j, &h)| {
        let row = parameters.w_dec.row(j as usize);
        let length = f64::from(row.dot(&row)).sqrt();
        (((f64::from(h) * length / step).floor() + 0.5) * step / length) as f32
    });
    let rounded = bae_codes::ValueMatrix::new(24, ends.to_vec(), features.to_vec(), rounded.collect());
    let y = model.backend.decode_values(&model.architecture, &rounded).unwrap();
    let mse = (&y - &x).mapv(|e| f64::from(e) * f64::from(e)).mean().unwrap();
    let added = mse / all.reconstruction.mse - 1.0;
    assert!((0.008..0.013).contains(&added), "{added}");
}

#[test]
fn threads_change_nothing() {
    let (x, parameters) = (random_rows(150, 9), random_parameters(9, 40));
    for model in [bits(&parameters, true), values(kind("topk", 4), parameters.clone())] {
        assert_eq!(on_threads(&model, &x, 1), on_threads(&model, &x, 3));
    }
}

#[test]
fn layer_normalised_rows_get_their_size_back() {
    // each row is one of two shapes, of any mean and size: the shape is the bit
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let x =
        Array2::from_shape_fn((200, 4), |(k, j)| [[1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0]][k % 2][j]);
    let mut parameters = Parameters::zeros(4, 1, 4);
    parameters.w_enc[[1, 0]] = 1.0;
    // divisor 3 in place of 4
    let unit = 0.75f32.sqrt();
    parameters.b_dec.assign(&ndarray::array![unit, -unit, unit, -unit]);
    parameters.w_dec.row_mut(0).assign(&ndarray::array![0.0, 2.0 * unit, -2.0 * unit, 0.0]);
    let mut sized = x.clone();
    sized.rows_mut().into_iter().for_each(|mut row| {
        let (size, mean) = (1.0 + random.random::<f32>(), random.random::<f32>());
        row.mapv_inplace(|x| x * size + mean);
    });
    let ControlledEvaluation { all, .. } = of(&bits(&parameters, true), &sized);
    assert!(all.reconstruction.fvu < 1e-8, "{:?}", all.reconstruction);
}

#[test]
fn one_row_and_rows_that_are_all_alike() {
    let parameters = random_parameters(3, 5);
    let ControlledEvaluation { all, .. } =
        of(&bits(&parameters, false), &ndarray::array![[1.0f32, 2.0, 3.0]]);
    assert!(all.reconstruction.mse > 0.0 && all.reconstruction.explained_variance.is_nan());
    let named: Vec<&str> = all.missing.keys().copied().collect();
    assert_eq!(named, ["frozenDecoder", "frozenEncoder", "pca", "shuffledCodes"]);
    let alike = of(&bits(&parameters, false), &Array2::from_elem((50, 3), 2.5));
    let json = serde_json::to_value(&alike).unwrap();
    assert_eq!((&json["explainedVariance"], &json["explainedVarianceLegacy"]), (&Value::Null, &Value::Null));
    assert_eq!(json["controls"]["meanPrediction"]["mse"], 0.0);
    assert_eq!(json["missing"], serde_json::json!({ "pca": "the rows are all alike" }));
}

#[test]
fn one_row_more_than_a_chunk_gets_a_code_too() {
    let (x, parameters) = switches(2049, 5);
    let last = x.slice(s![2048.., ..]).to_owned();
    let ControlledEvaluation { all, .. } = of(&bits(&parameters, false), &x);
    let fvu = all.controls.shuffled_codes.unwrap().reconstruction.fvu;
    assert!((fvu - 2.0).abs() < 0.1 && last.nrows() == 1, "{fvu}");
}

#[test]
fn groups_are_as_if_there_were_no_others() {
    let (x, parameters) = (random_rows(70, 6), random_parameters(6, 8));
    let (first, second) = x.view().split_at(Axis(0), 30);
    let [first, second] = [first, second].map(|part| part.to_owned());
    let data = dataset(&[&first, &second]);
    let names = [Label::Text("a".into()), Label::Number(4)];
    let by = Some(By::File(names.to_vec()));
    let model = bits(&parameters, false);
    let options = EvaluationOptions { by, threads: 1 };
    let report = evaluate_with_controls(&model, &data, &RowSet::all(70), &options, |_, _| true).unwrap();
    assert_eq!((report.by.as_deref(), &report.all), (Some("file"), &of(&model, &x).all));
    let groups = report.groups.unwrap();
    // in the order of labels: numbers first
    for (group, (name, rows)) in groups.iter().zip([(&names[1], &second), (&names[0], &first)]) {
        let alone = of(&model, rows).all;
        assert_eq!(
            (&group.value, &group.figures.reconstruction, &group.figures.codes),
            (name, &alone.reconstruction, &alone.codes)
        );
        assert_eq!(
            (&group.figures.controls.pca, &group.figures.controls.shuffled_codes),
            (&alone.controls.pca, &alone.controls.shuffled_codes)
        );
        assert_eq!(group.figures.controls.frozen_decoder, None);
        assert_eq!(group.figures.missing.len(), 2);
    }
}

#[test]
fn ends_wherever_it_is_told_to() {
    let (x, parameters) = switches(200, 6);
    let data = dataset(&[&x]);
    let model = bits(&parameters, false);
    let mut told: Vec<(usize, usize)> = vec![];
    let run = |stop: usize, told: &mut Vec<(usize, usize)>| {
        let rows = RowSet::all(200);
        evaluate_with_controls(&model, &data, &rows, &EvaluationOptions::default(), |done, of| {
            told.push((done, of));
            told.len() <= stop
        })
    };
    run(usize::MAX, &mut told).unwrap();
    assert_eq!(told.last(), Some(&(200, 200)));
    assert!(told.is_sorted() && told.len() > 100, "{}", told.len());
    for stop in [0, 1, 3, 12, 40, 70, told.len() - 1] {
        assert!(matches!(run(stop, &mut vec![]), Err(TrainError::Cancelled)), "{stop}");
    }
}
