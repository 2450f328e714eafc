//! scratch
use bae_train::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    for json in &args[1..] {
        let o: SyntheticOptions = serde_json::from_str(json).unwrap();
        let t = std::time::Instant::now();
        let r = synthetic(&o, &std::sync::atomic::AtomicBool::new(false), &mut |_| {}).unwrap();
        let b = r.training.before.as_ref().unwrap();
        println!(
            "{:?} r {} d {} rows {} noise {} {:?} seed {} | true {:.3} marg {:.3} SumH {:.3} joint {:.3}/{:.3} live {} fvu {:.4} noise {:.4} cos {:.3} f1 {:.3} mcc {:.3} | before {:.3} @ {:.4} {:.1}s",
            o.kind,
            o.rank,
            o.d_in,
            o.rows,
            o.noise,
            o.directions,
            o.training.seed,
            r.true_bits,
            r.true_marginal_bits,
            r.codes.entropy_bits,
            r.plug_in_joint_bits,
            r.plug_in_true_bits,
            r.live_features,
            r.fvu,
            r.noise_fraction,
            r.recovery.cosine,
            r.recovery.f1,
            r.recovery.mcc,
            b.codes.entropy_bits,
            b.fvu,
            t.elapsed().as_secs_f64()
        );
    }
}
