use super::*;
use bae_data::{DataError, MemorySource, Source};
use bae_model::architectures::{Kind, Relu};
use bae_model::{Architecture, Cpu, Estimator, Parameters, Sae};
use ndarray::ArrayViewMut2;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

/// Feature j is on where value j of the hidden state is above 0.
fn signs(d_in: usize) -> Applied {
    let mut parameters = Parameters::zeros(d_in, d_in, d_in);
    (0..d_in).for_each(|j| parameters.w_enc[[j, j]] = 1.0);
    let architecture = Architecture::binary(Estimator::Identity);
    Applied { backend: Box::new(Cpu::new(&parameters, 1)), architecture, layer_norm: false }
}

fn noise(rows: usize, d_in: usize, seed: u64) -> Array2<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    Array2::from_shape_fn((rows, d_in), |_| random.random::<f32>() - 0.5)
}

fn dataset(states: &Array2<f32>) -> Dataset {
    let source = MemorySource::new("memory", states.iter().copied().collect(), states.ncols()).unwrap();
    Dataset::new(vec![Box::new(source)]).unwrap()
}

fn numbers(labels: impl IntoIterator<Item = i64>) -> Labels {
    Labels::new(labels.into_iter().map(|label| Some(Label::Number(label))))
}

const OPTIONS: ProbeOptions = ProbeOptions { rows: 4096, splits: 3, seed: 7, threads: 1 };

fn of(states: &Array2<f32>, labels: &Labels, options: &ProbeOptions) -> Result<ProbeReport, TrainError> {
    let data = dataset(states);
    probe(&signs(states.ncols()), &data, &RowSet::all(data.rows()), labels, options, |_, _| true)
}

fn refused(states: &Array2<f32>, labels: &Labels, options: &ProbeOptions) -> (&'static str, String) {
    let error = of(states, labels, options).unwrap_err();
    (error.code(), error.to_string())
}

#[test]
fn a_feature_that_is_the_label_is_found_and_tells_it_perfectly() {
    let states = noise(400, 12, 1);
    let report =
        of(&states, &numbers(states.column(8).iter().map(|&x| i64::from(x > 0.0))), &OPTIONS).unwrap();
    let [class] = &report.classes[..] else { panic!("of two classes the second alone") };
    assert_eq!(class.value, Label::Number(1));
    let [one, two, five] = &class.probes.sparse[..] else { panic!("k = 1, 2, 5") };
    assert_eq!(one.features, [ChosenFeature { feature: 8, splits: 3 }]);
    let perfect = Spread { mean: 1.0, deviation: Some(0.0) };
    for sparse in [one, two, five] {
        assert_eq!(
            (&sparse.score.balanced_accuracy, &sparse.score.auc),
            (&perfect, &perfect),
            "k = {}",
            sparse.k
        );
        assert!((1..=sparse.k).contains(&sparse.features.len()));
    }
    // one of twelve features at random is the right one now and then, not each time
    assert!(one.random.auc.mean < 0.9, "{:?}", one.random);
    // a choice by shuffled labels hits it as rarely, and as often with the wrong sign
    assert!(one.shuffled.auc.mean < 0.9, "{:?}", one.shuffled);
    for chance in [&class.probes.dense.shuffled, &class.probes.hidden_states.shuffled] {
        assert!((chance.auc.mean - 0.5).abs() < 0.2, "{chance:?}");
    }
    for high in [
        &class.probes.dense.score,
        &class.probes.hidden_states.score,
        &class.probes.difference_of_means.score,
    ] {
        assert!(high.auc.mean > 0.95 && high.balanced_accuracy.mean > 0.85, "{high:?}");
    }
}

/// A feature that is on in all rows says what it says by its value.
#[test]
fn values_of_features_are_probed() {
    let states = noise(400, 6, 1) + 1.0;
    let mut parameters = Parameters::zeros(6, 6, 6);
    (0..6).for_each(|j| parameters.w_enc[[j, j]] = 1.0);
    let model = Applied {
        backend: Box::new(Sae::new(&parameters, 1)),
        architecture: Architecture::of(Kind::Relu(Relu { by_norm: true })),
        layer_norm: false,
    };
    let data = dataset(&states);
    let labels = numbers(states.column(4).iter().map(|&x| i64::from(x > 1.0)));
    let report = probe(&model, &data, &RowSet::all(400), &labels, &OPTIONS, |_, _| true).unwrap();
    let one = &report.classes[0].probes.sparse[0];
    assert_eq!(one.features, [ChosenFeature { feature: 4, splits: 3 }]);
    assert!(one.score.auc.mean == 1.0 && one.score.balanced_accuracy.mean > 0.95, "{one:?}");
}

#[test]
fn labels_that_mean_nothing_are_told_by_chance() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let labels = numbers((0..1500).map(|_| random.random_range(0..3)));
    let report = of(&noise(1500, 10, 2), &labels, &ProbeOptions { splits: 5, ..OPTIONS }).unwrap();
    assert_eq!(report.classes.len(), 3);
    let Probes { sparse, dense, hidden_states, difference_of_means } = &report.mean;
    let mut scores: Vec<&Score> =
        sparse.iter().flat_map(|probe| [&probe.score, &probe.random, &probe.shuffled]).collect();
    for probe in [dense, hidden_states, difference_of_means] {
        scores.extend([&probe.score, &probe.shuffled]);
    }
    // a test of 100 against 200 rows has a standard deviation of .035; here means of fifteen that are far from independent
    for score in scores {
        assert!((score.auc.mean - 0.5).abs() < 0.05, "{score:?}");
        assert!((score.balanced_accuracy.mean - 0.5).abs() < 0.05, "{score:?}");
    }
}

#[test]
fn a_rare_class_weighs_as_much_as_the_others() {
    // 5 % of the rows; always saying "no" would be right in 95 %
    let mut states = noise(1000, 6, 4);
    let labels: Vec<i64> = (0..1000).map(|row| i64::from(row % 20 == 0)).collect();
    for (row, &label) in labels.iter().enumerate() {
        states[[row, 2]] += 0.5 * label as f32;
    }
    let report = of(&states, &numbers(labels), &OPTIONS).unwrap();
    let probes = &report.classes[0].probes;
    assert_eq!((report.classes[0].rows, probes.sparse[0].features[0].feature), (50, 2));
    // the bit is on in all of the class and half of the others
    assert!(
        (probes.sparse[0].score.balanced_accuracy.mean - 0.75).abs() < 0.04,
        "{:?}",
        probes.sparse[0].score
    );
    assert!(probes.hidden_states.score.balanced_accuracy.mean > 0.7, "{:?}", probes.hidden_states.score);
}

#[test]
fn classes_with_too_few_rows_are_named_and_rows_without_a_label_take_no_part() {
    let labels = (0..200).map(|row| match row {
        0..5 => Some(Label::Text("rare".into())),
        5..20 => None,
        _ => Some(Label::Text(["a", "b", "c"][row % 3].into())),
    });
    let report = of(&noise(200, 5, 5), &Labels::new(labels), &OPTIONS).unwrap();
    assert_eq!(report.left_out, [LeftOutClass { value: Label::Text("rare".into()), rows: 5 }]);
    assert_eq!((report.rows, report.labelled_rows, report.unlabelled_rows), (185, 185, 15));
    assert_eq!(
        report.classes.iter().map(|class| class.value.to_string()).collect::<Vec<_>>(),
        ["a", "b", "c"]
    );
    assert_eq!(report.classes.iter().map(|class| class.rows).sum::<usize>(), 180);
}

#[test]
fn the_figures_depend_on_the_seed_and_on_nothing_else() {
    let states = noise(300, 9, 6);
    let labels = numbers(
        states.rows().into_iter().map(|row| i64::from(row[0] + row[1] > 0.2) + i64::from(row[2] > 0.3)),
    );
    let json = |options: &ProbeOptions| serde_json::to_value(of(&states, &labels, options).unwrap()).unwrap();
    let options = ProbeOptions { rows: 250, ..OPTIONS };
    let one = json(&options);
    assert_eq!(one, json(&ProbeOptions { threads: 2, ..options.clone() }));
    assert_ne!(one["mean"], json(&ProbeOptions { seed: 8, ..options })["mean"]);
    assert_eq!(one["rows"], json!(250));
}

#[test]
fn the_report_has_the_names_that_are_promised() {
    let states = noise(200, 6, 6);
    let labels = numbers(states.column(0).iter().map(|&x| i64::from(x > 0.0)));
    let report =
        serde_json::to_value(of(&states, &labels, &ProbeOptions { splits: 1, ..OPTIONS }).unwrap()).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let of_probe = ["balancedAccuracy", "auc", "shuffled"];
    assert_eq!(
        keys(&report),
        [
            "rows",
            "labelledRows",
            "unlabelledRows",
            "splits",
            "testFraction",
            "splitBy",
            "seed",
            "classes",
            "mean",
            "leftOut"
        ]
    );
    assert_eq!(
        keys(&report["classes"][0]),
        ["value", "rows", "sparse", "dense", "hiddenStates", "differenceOfMeans"]
    );
    assert_eq!(
        keys(&report["classes"][0]["sparse"][1]),
        ["k", "features", "balancedAccuracy", "auc", "random", "shuffled"]
    );
    assert_eq!(keys(&report["mean"]["dense"]), of_probe);
    assert_eq!(keys(&report["mean"]["sparse"][0]), ["k", "balancedAccuracy", "auc", "random", "shuffled"]);
    // there is no deviation of one
    assert_eq!(report["mean"]["dense"]["auc"]["deviation"], Value::Null);
}

#[test]
fn a_model_without_living_features_tells_nothing() {
    let states = noise(100, 4, 8);
    let labels = numbers(states.column(0).iter().map(|&x| i64::from(x > 0.0)));
    let data = dataset(&states);
    let mut dead = signs(4);
    dead.backend = Box::new(Cpu::new(&Parameters::zeros(4, 4, 4), 1));
    let report = probe(&dead, &data, &RowSet::all(100), &labels, &OPTIONS, |_, _| true).unwrap();
    let probes = &report.classes[0].probes;
    let chance = Spread { mean: 0.5, deviation: Some(0.0) };
    for score in [&probes.sparse[0].score, &probes.sparse[2].random, &probes.dense.score] {
        assert_eq!((&score.balanced_accuracy, &score.auc), (&chance, &chance));
    }
    assert_eq!(probes.sparse[1].features, []);
    assert!(probes.hidden_states.score.auc.mean > 0.9);
}

#[test]
fn what_cannot_be_probed_is_refused_with_what_to_do() {
    let states = noise(60, 3, 9);
    for (labels, options, code, message) in [
        (numbers(vec![4; 60]), OPTIONS, "INVALID_ARGUMENT", "all 60 rows with a label have the same one, 4"),
        (Labels::new(vec![None; 60]), OPTIONS, "INVALID_ARGUMENT", "none of the rows has a label"),
        (numbers(0..60), OPTIONS, "INVALID_ARGUMENT", "has 60 values, more than 50"),
        (numbers((0..60).map(|row| row / 3)), OPTIONS, "INVALID_ARGUMENT", "the largest of 20 has 3"),
        (numbers(0..59), OPTIONS, "SHAPE_MISMATCH", "labels for 59 rows, the data has 60"),
        (
            numbers((0..60).map(|row| row % 2)),
            ProbeOptions { rows: 0, ..OPTIONS },
            "INVALID_ARGUMENT",
            "rows is 0",
        ),
        (numbers(0..60), ProbeOptions { splits: 101, ..OPTIONS }, "INVALID_ARGUMENT", "from 1 to 100"),
    ] {
        let (found, text) = refused(&states, &labels, &options);
        assert_eq!(found, code, "{text}");
        assert!(text.contains(message), "{text}");
    }
}

#[test]
fn it_ends_where_it_is_told_to() {
    let states = noise(200, 5, 10);
    let data = dataset(&states);
    let labels = numbers((0..200).map(|row| row % 2));
    let total = 200 * (1 + OPTIONS.splits);
    for last in [0, 200, 250] {
        let mut seen = vec![];
        let stopping = |done: usize, of: usize| {
            assert_eq!(of, total);
            seen.push(done);
            done < last
        };
        let error = probe(&signs(5), &data, &RowSet::all(200), &labels, &OPTIONS, stopping).unwrap_err();
        assert!(matches!(error, TrainError::Cancelled), "{error}");
        assert!(seen.is_sorted() && seen[seen.len() - 1] < total, "{seen:?}");
    }
}

/// Four rows a sequence, all alike; sequences differ in every way.
struct Sequences(Array2<f32>);

impl Source for Sequences {
    fn name(&self) -> String {
        "sequences".into()
    }

    fn rows(&self) -> usize {
        4 * self.0.nrows()
    }

    fn d_in(&self) -> usize {
        self.0.ncols()
    }

    fn read(&self, start: usize, mut out: ArrayViewMut2<f32>) -> Result<(), DataError> {
        for (row, mut out) in (start..).zip(out.rows_mut()) {
            out.assign(&self.0.row(row / 4));
        }
        Ok(())
    }

    fn columns(&self) -> Vec<Column> {
        vec![Column::Sequence]
    }

    fn read_column(&self, _: Column, start: usize, out: &mut [i64]) -> Result<(), DataError> {
        (start..).zip(out).for_each(|(row, out)| *out = (row / 4) as i64);
        Ok(())
    }
}

#[test]
fn rows_of_a_sequence_are_never_on_both_sides() {
    let states = noise(120, 60, 11);
    let repeated = Array2::from_shape_fn((480, 60), |(row, j)| states[[row / 4, j]]);
    let mut random = ChaCha8Rng::seed_from_u64(12);
    let of_sequence: Vec<i64> = (0..120).map(|_| random.random_range(0..2)).collect();
    let labels = numbers((0..480).map(|row| of_sequence[row / 4]));
    // by rows, the twin of each tested row was trained on, and its label is known by heart
    let by_row = of(&repeated, &labels, &OPTIONS).unwrap();
    assert_eq!(by_row.split_by, "row");
    let data = Dataset::new(vec![Box::new(Sequences(states))]).unwrap();
    let by_sequence = probe(&signs(60), &data, &RowSet::all(480), &labels, &OPTIONS, |_, _| true).unwrap();
    assert_eq!(by_sequence.split_by, "sequence");
    let auc = |report: &ProbeReport| report.mean.hidden_states.score.auc.mean;
    assert!(
        auc(&by_row) > 0.75 && (auc(&by_sequence) - 0.5).abs() < 0.2,
        "{} {}",
        auc(&by_row),
        auc(&by_sequence)
    );
}

/// The gradient of the objective as its formula has it, by standardised weights and intercept.
fn gradient(x: &Array2<f32>, labels: &[bool], c: f64, weights: &[f64], intercept: f64) -> Vec<f64> {
    let (rows, width) = x.dim();
    let x = x.mapv(f64::from);
    let ones = labels.iter().filter(|&&label| label).count();
    let mut gradient: Vec<f64> = weights.iter().map(|u| u / (c * rows as f64)).collect();
    gradient.push(0.0);
    let standard: Vec<(f64, f64)> = (0..width)
        .map(|j| {
            let mean = x.column(j).sum() / rows as f64;
            let deviation = (x.column(j).mapv(|x| (x - mean) * (x - mean)).sum() / rows as f64).sqrt();
            (mean, if deviation > 1e-9 { 1.0 / deviation } else { 0.0 })
        })
        .collect();
    for (row, &label) in x.rows().into_iter().zip(labels) {
        let input = |j: usize| (row[j] - standard[j].0) * standard[j].1;
        let z: f64 = intercept + (0..width).map(|j| weights[j] * input(j)).sum::<f64>();
        let y = if label { 1.0 } else { -1.0 };
        let weight = 0.5 / if label { ones } else { rows - ones } as f64;
        let by_z = -y * weight / (1.0 + (y * z).exp());
        (0..width).for_each(|j| gradient[j] += by_z * input(j));
        gradient[width] += by_z;
    }
    gradient
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_minimum_has_no_gradient_for_dense_and_for_sparse_rows(
        rows in 2usize..60, width in 0usize..20, seed in any::<u64>(), power in -3i32..3, constant in any::<bool>(),
    ) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        // a third of the values are 0, one column may not vary, and columns differ in size
        let mut x = Array2::from_shape_fn((rows, width), |(_, j)| {
            if random.random_range(0..3) == 0 { 0.0 } else { (random.random::<f32>() + 0.5) * 10f32.powi(j as i32 % 5 - 2) }
        });
        if constant && width > 0 {
            x.column_mut(0).fill(2.5);
        }
        let labels: Vec<bool> = (0..rows).map(|row| row == 0 || (row > 1 && random.random())).collect();
        let mut sparse = SparseRows::new(width);
        for row in x.rows() {
            let on = row.iter().enumerate().filter(|(_, value)| **value != 0.0);
            let (inputs, values): (Vec<u32>, Vec<f32>) = on.map(|(input, &value)| (input as u32, value)).unzip();
            sparse.push((&inputs, &values));
        }
        let all: Vec<usize> = (0..rows).collect();
        let c = 10f64.powi(power);
        let (mut u, mut u_sparse) = (vec![0.0; width + 1], vec![0.0; width + 1]);
        let (standard, standard_sparse) = (x.moments(&all), sparse.moments(&all));
        let dense = Regression::new(&x, &all, &labels, &standard).fit(c, &mut u, &|| true).unwrap();
        let sparse_fit =
            Regression::new(&sparse, &all, &labels, &standard_sparse).fit(c, &mut u_sparse, &|| true).unwrap();
        for u in [&u, &u_sparse] {
            for value in gradient(&x, &labels, c, &u[..width], u[width]) {
                prop_assert!(value.abs() < 3e-6, "{value}");
            }
        }
        for (a, b) in dense.scores(&x, &all).iter().zip(sparse_fit.scores(&sparse, &all)) {
            prop_assert!((a - b).abs() < 1e-2 * a.abs().max(1.0), "{a} {b}");
        }
    }

    #[test]
    fn figures_are_what_counting_pairs_gives(scores in prop::collection::vec((-3i8..4, any::<bool>()), 2..40)) {
        let (mut positive, scores): (Vec<bool>, Vec<f64>) =
            scores.into_iter().map(|(score, positive)| (positive, f64::from(score) / 2.0)).unzip();
        (positive[0], positive[1]) = (true, false);
        let figures = Figures::of(&scores, &positive);
        let (mut wins, mut pairs) = (0.0, 0.0);
        let mut right = [[0.0, 0.0]; 2];
        for (a, &is) in scores.iter().zip(&positive) {
            right[usize::from(is)][usize::from((*a > 0.0) == is)] += 1.0;
            for (b, _) in scores.iter().zip(&positive).filter(|&(_, &other)| is && !other) {
                pairs += 1.0;
                wins += if a > b { 1.0 } else if a == b { 0.5 } else { 0.0 };
            }
        }
        let share = |[wrong, right]: [f64; 2]| right / (wrong + right);
        prop_assert!((figures.auc - wins / pairs).abs() < 1e-12);
        prop_assert!((figures.balanced_accuracy - (share(right[0]) + share(right[1])) / 2.0).abs() < 1e-12);
    }

    #[test]
    fn divisions_take_each_row_once_and_sequences_whole(
        rows in 0usize..80, classes in 1usize..5, length in 1usize..7, seed in any::<u64>(),
    ) {
        let all: Vec<usize> = (0..rows).collect();
        let class = |row: usize| (row / length) % classes;
        let sequence = |row: usize| (row / length) as i64;
        let Division { train, test } = Division::draw(&all, class, sequence, &mut ChaCha8Rng::seed_from_u64(seed));
        let mut both = [train.clone(), test.clone()].concat();
        both.sort_unstable();
        prop_assert_eq!(&both, &all);
        prop_assert!(train.is_sorted() && test.is_sorted());
        for of in 0..classes {
            let own: Vec<usize> = all.iter().copied().filter(|&row| class(row) == of).collect();
            let tested = test.iter().filter(|&&row| class(row) == of).count();
            let several = own.first().is_some_and(|&first| own.iter().any(|&row| sequence(row) != sequence(first)));
            let wanted = own.len() as f64 * division::TEST_FRACTION;
            let most = (wanted + 0.5).max(if several { length as f64 } else { 0.0 });
            prop_assert!(tested as f64 <= most);
            prop_assert!(!several || tested > 0);
        }
        for &row in &test {
            prop_assert!(train.iter().all(|&other| sequence(other) != sequence(row)));
        }
    }
}
