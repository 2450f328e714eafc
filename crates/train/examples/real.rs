//! scratch
use bae_train::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let data = bae_data::Dataset::open(&[args[1].clone()]).unwrap();
    for json in &args[2..] {
        let o: TrainOptions = serde_json::from_str(json).unwrap();
        let t = std::time::Instant::now();
        let r = train(&data, &o, &std::sync::atomic::AtomicBool::new(false), &mut |_| {}).unwrap().summary;
        let (b, v) = (r.before.unwrap(), r.validation.unwrap());
        println!(
            "{} {json}: before {:.4} @ {:.2}, after {:.5} @ {:.3} {:.1}s",
            args[1],
            b.fvu,
            b.codes.entropy_bits,
            v.fvu,
            v.codes.entropy_bits,
            t.elapsed().as_secs_f64()
        );
    }
}
