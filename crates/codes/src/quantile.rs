//! Quantiles of the beta and Student's t distribution, by halving over the library's distribution function.
//!
//! The libraries' own quantiles (AS 109) stop at an absolute accuracy: for a million pairs a Clopper–Pearson limit is
//! then wrong in its third digit, and for ten million the search does not end. Halving always ends, and is exact to the
//! last digits of the distribution function.

use special::Beta;

/// The x with I_x(a, b) = `probability`: quantile of the beta distribution.
pub(crate) fn beta(probability: f64, a: f64, b: f64) -> f64 {
    let ln_beta = a.ln_beta(b);
    let (mut low, mut high) = (0.0, 1.0);
    loop {
        let middle = 0.5 * (low + high);
        // no number in between is left
        if middle <= low || middle >= high {
            return middle;
        }
        if middle.inc_beta(a, b, ln_beta) < probability { low = middle } else { high = middle }
    }
}

/// Student's t with `degrees` of freedom that a share `probability` ≥ ½ lies below.
pub(crate) fn student_t(probability: f64, degrees: f64) -> f64 {
    // P(|T| > t) = I_x(degrees / 2, 1 / 2) with x = degrees / (degrees + t²)
    let x = beta(2.0 * (1.0 - probability), 0.5 * degrees, 0.5);
    libm::sqrt(degrees * (1.0 - x) / x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beta_as_scipy_has_it() {
        // scipy.stats.beta.ppf (scipy 1.17), for `collisions` in `pairs`: (level, collisions + 1, pairs − collisions)
        for (probability, a, b, x) in SCIPY_BETA {
            let got = beta(probability, a, b);
            // ln B(a, b) is a difference of numbers as large as (a + b) ln (a + b)
            let within = 1e-12 + 4e-15 * (a + b);
            assert!((got / x - 1.0).abs() < within, "{probability} {a} {b}: {got} {x}");
        }
    }

    #[test]
    fn t_as_scipy_has_it() {
        for (probability, degrees, t) in SCIPY_T {
            let got = student_t(probability, degrees);
            assert!((got - t).abs() < 1e-9 * t.max(1.0), "{probability} {degrees}: {got} {t}");
        }
    }

    const SCIPY_BETA: [(f64, f64, f64, f64); 36] = [
        (0.95, 1.0, 1.0, 0.95),
        (0.95, 1.0, 2.0, 0.776393202250021),
        (0.95, 2.0, 1.0, 0.9746794344808963),
        (0.95, 1.0, 10.0, 0.2588655508930522),
        (0.95, 2.0, 9.0, 0.39416330243650466),
        (0.95, 6.0, 5.0, 0.7775588989918706),
        (0.95, 10.0, 1.0, 0.9948838031081763),
        (0.95, 1.0, 100.0, 0.029513049607039925),
        (0.95, 2.0, 99.0, 0.046559811453538935),
        (0.95, 51.0, 50.0, 0.5863782853690882),
        (0.95, 100.0, 1.0, 0.9994871985837377),
        (0.95, 1.0, 32768.0, 9.141831479094034e-05),
        (0.95, 2.0, 32767.0, 0.00014476298599327216),
        (0.95, 328.0, 32441.0, 0.010930645287301935),
        (0.95, 16385.0, 16384.0, 0.504558438545421),
        (0.95, 32768.0, 1.0, 0.9999984346541064),
        (0.95, 1.0, 1000000.0, 2.9957277863525433e-06),
        (0.95, 2.0, 999999.0, 4.743855638214234e-06),
        (0.95, 10001.0, 990000.0, 0.010165213982092063),
        (0.95, 500001.0, 500000.0, 0.5008229260505229),
        (0.95, 1000000.0, 1.0, 0.9999999487067069),
        (0.9, 1.0, 100000000.0, 2.3025850664845556e-08),
        (0.95, 1.0, 100000000.0, 2.995732228681931e-08),
        (0.999, 1.0, 100000000.0, 6.907755040396726e-08),
        (0.9, 2.0, 99999999.0, 3.889720107301269e-08),
        (0.95, 2.0, 99999999.0, 4.7438644247114806e-08),
        (0.999, 2.0, 99999999.0, 9.233413098525873e-08),
        (0.9, 1000001.0, 99000000.0, 0.010012763279823074),
        (0.95, 1000001.0, 99000000.0, 0.010016381564362202),
        (0.999, 1000001.0, 99000000.0, 0.010030785268069584),
        (0.9, 50000001.0, 50000000.0, 0.500064082577854),
        (0.95, 50000001.0, 50000000.0, 0.5000822476805855),
        (0.999, 50000001.0, 50000000.0, 0.500154516611233),
        (0.9, 100000000.0, 1.0, 0.9999999989463948),
        (0.95, 100000000.0, 1.0, 0.9999999994870671),
        (0.999, 100000000.0, 1.0, 0.999999999989995),
    ];

    // scipy.stats.t.ppf(probability, degrees)
    const SCIPY_T: [(f64, f64, f64); 27] = [
        (0.95, 1.0, 6.313751514675037),
        (0.95, 2.0, 2.9199855803537242),
        (0.95, 3.0, 2.3533634348018233),
        (0.95, 4.0, 2.1318467863266495),
        (0.95, 10.0, 1.8124611228116756),
        (0.95, 31.0, 1.6955187825458649),
        (0.95, 59.0, 1.6710930321038946),
        (0.95, 63.0, 1.6694022217068127),
        (0.95, 1000.0, 1.6463788172854643),
        (0.975, 1.0, 12.706204736174694),
        (0.975, 2.0, 4.302652729749462),
        (0.975, 3.0, 3.1824463052837078),
        (0.975, 4.0, 2.7764451051977934),
        (0.975, 10.0, 2.228138851986274),
        (0.975, 31.0, 2.039513446396408),
        (0.975, 59.0, 2.000995378088267),
        (0.975, 63.0, 1.998340542520741),
        (0.975, 1000.0, 1.9623390808264083),
        (0.995, 1.0, 63.656741162871526),
        (0.995, 2.0, 9.924843200918287),
        (0.995, 3.0, 5.840909309733355),
        (0.995, 4.0, 4.604094871349992),
        (0.995, 10.0, 3.16927267261695),
        (0.995, 31.0, 2.744041919294269),
        (0.995, 59.0, 2.6617587521629673),
        (0.995, 63.0, 2.6561450250998613),
        (0.995, 1000.0, 2.580754698065951),
    ];
}
