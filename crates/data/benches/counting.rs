//! Counts codes of a file, as a peer of `bench/entropy.mjs`: JSON lines on stdin and stdout, as `bench/peers/counting.py`.

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use bae_data::read_codes;
use bae_kernels::counts;
use rayon::prelude::*;
use serde_json::{Value, json};

/// As many copies are gone through in turns, so that no cache holds the next one.
const COPIES: usize = 10;

/// Words that a task reads.
const PART: usize = 1 << 17;

struct Counting {
    rows: usize,
    features: usize,
    copies: Vec<Vec<u64>>,
    next: usize,
    pool: rayon::ThreadPool,
    pairs: Vec<u32>,
    ones: Vec<u64>,
}

impl Counting {
    fn open(path: &str, threads: usize) -> Self {
        let (codes, _) = read_codes(Path::new(path)).unwrap_or_else(|error| panic!("{error}"));
        let (rows, features) = (codes.rows(), codes.features());
        Self {
            rows,
            features,
            copies: vec![codes.words().to_vec(); COPIES],
            next: 0,
            pool: rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads"),
            pairs: vec![0; features * (features - 1) / 2],
            ones: vec![0; features],
        }
    }

    /// Counts once, or only reads the same bytes.
    fn count(&mut self, what: &str) {
        self.next = (self.next + 1) % COPIES;
        let Self { rows, features, copies, next, pool, pairs, ones } = self;
        let words = &copies[*next];
        pool.install(|| match what {
            "pairs" => counts::pairs(words, *rows, *features, pairs),
            "ones" => counts::ones(words, *rows, *features, ones),
            "read" => {
                let parts = words.par_chunks(PART).map(|part| part.iter().fold(0, |all, word| all ^ word));
                std::hint::black_box(parts.reduce(|| 0, |a, b| a ^ b));
            }
            other => panic!("nothing is called {other}"),
        });
    }

    /// Numbers as 32-bit little-endian integers.
    fn write(&mut self, what: &str, out: &str) {
        self.pairs.fill(0);
        self.ones.fill(0);
        self.count(what);
        let bytes: Vec<u8> = match what {
            "pairs" => self.pairs.iter().flat_map(|count| count.to_le_bytes()).collect(),
            _ => self.ones.iter().flat_map(|&count| (count as u32).to_le_bytes()).collect(),
        };
        std::fs::write(out, bytes).unwrap_or_else(|error| panic!("{out}: {error}"));
    }
}

fn main() {
    let mut counting = None;
    for line in std::io::stdin().lock().lines() {
        let asked: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        let text = |key: &str| asked[key].as_str().unwrap_or_default();
        let number = |key: &str| asked[key].as_u64().unwrap_or_default() as usize;
        let answer = match (text("cmd"), &mut counting) {
            ("open", counting) => {
                *counting = Some(Counting::open(text("fixture"), number("threads")));
                json!({ "name": "ours", "version": env!("CARGO_PKG_VERSION") })
            }
            ("check", Some(counting)) => {
                counting.write(text("what"), text("out"));
                json!({})
            }
            ("time", Some(counting)) => {
                let mut once = |_| {
                    let start = Instant::now();
                    counting.count(text("what"));
                    start.elapsed().as_secs_f64() * 1000.0
                };
                json!({ "ms": (0..number("count")).map(&mut once).collect::<Vec<_>>() })
            }
            _ => break,
        };
        println!("{answer}");
        std::io::stdout().flush().expect("stdout");
    }
}
