use std::sync::OnceLock;

/// An instruction set that this CPU was seen to have.
///
/// A value can only be made by detection, so holding one proves that its kernels may run: it is the only gate to
/// the functions compiled for more than the baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(pub(crate) Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// F, BW, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512Base,
    /// The same with VPOPCNTDQ.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// That with BF16.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

/// The environment variable that names the instruction set to use.
pub const ISA_VARIABLE: &str = "BAE_SIMD";

impl Isa {
    /// Plain Rust, for any CPU.
    pub const PORTABLE: Isa = Isa(Kind::Portable);

    /// All that this CPU has, slowest first.
    pub fn available() -> Vec<Isa> {
        let mut all = vec![Self::PORTABLE];
        // Miri knows few vector instructions
        if !cfg!(miri) {
            all.extend(vectorised());
        }
        all
    }

    /// The best one, or the one that the environment variable `BAE_SIMD` names. Looked up once.
    ///
    /// # Errors
    /// `BAE_SIMD` names nothing that this CPU has.
    pub fn chosen() -> Result<Isa, String> {
        static CHOSEN: OnceLock<Result<Isa, String>> = OnceLock::new();
        CHOSEN.get_or_init(|| Self::named(std::env::var(ISA_VARIABLE).ok().as_deref())).clone()
    }

    /// [`Isa::chosen`], or the best one where `BAE_SIMD` names nothing that this CPU has: for work that cannot fail.
    pub fn best() -> Isa {
        Self::chosen().unwrap_or_else(|_| *Self::available().last().expect("portable is always there"))
    }

    fn named(wanted: Option<&str>) -> Result<Isa, String> {
        let all = Self::available();
        let Some(wanted) = wanted.filter(|name| !name.is_empty()) else {
            return Ok(*all.last().expect("portable is always there"));
        };
        // a CPU without vector popcount still has avx512
        let of_kind = |name: &str| {
            name.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        };
        let exact = all.iter().find(|isa| isa.name() == wanted);
        let found = exact.or_else(|| all.iter().rev().find(|isa| of_kind(isa.name())));
        found.copied().ok_or_else(|| {
            let names: Vec<_> = all.iter().map(|isa| isa.name()).collect();
            format!("{ISA_VARIABLE} is {wanted}: this CPU has {}", names.join(", "))
        })
    }

    /// `portable`, `avx2`, `avx512-base` (no vector popcount), `avx512`, `avx512-bf16` or `neon`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Base => "avx512-base",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Bf16 => "avx512-bf16",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => "neon",
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn vectorised() -> Vec<Isa> {
    use std::arch::is_x86_feature_detected as has;
    let avx2 = has!("avx2") && has!("fma") && has!("popcnt") && has!("bmi1") && has!("bmi2");
    let base = avx2 && has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
    let popcount = base && has!("avx512vpopcntdq");
    let found = [
        (avx2, Kind::Avx2),
        (base, Kind::Avx512Base),
        (popcount, Kind::Avx512),
        (popcount && has!("avx512bf16"), Kind::Avx512Bf16),
    ];
    found.into_iter().filter(|(there, _)| *there).map(|(_, kind)| Isa(kind)).collect()
}

#[cfg(target_arch = "aarch64")]
fn vectorised() -> Vec<Isa> {
    if std::arch::is_aarch64_feature_detected!("neon") { vec![Isa(Kind::Neon)] } else { vec![] }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn vectorised() -> Vec<Isa> {
    vec![]
}

/// Defines a function whose body is compiled once for each instruction set and chosen by its first argument. Inside,
/// `$simd` is the proof that the instruction set is there, through which its lanes are used.
macro_rules! per_isa {
    (
        $(#[$meta:meta])* $vis:vis fn $name:ident[$simd:ident: $S:ident]($($arg:ident: $ty:ty),* $(,)?)
        $(-> $ret:ty)? $body:block
    ) => {
        $(#[$meta])*
        // both may be unused: a body without explicit lanes is left to the compiler's own vectors
        #[allow(unused_variables, clippy::too_many_arguments)]
        $vis fn $name(isa: $crate::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body<$S: $crate::lanes::Simd>($simd: $S, $($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,popcnt,bmi1,bmi2")]
            fn avx2(simd: $crate::lanes::Avx2, $($arg: $ty),*) $(-> $ret)? { body(simd, $($arg),*) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,popcnt,bmi1,bmi2")]
            fn avx512_base(simd: $crate::lanes::Avx512Base, $($arg: $ty),*) $(-> $ret)? { body(simd, $($arg),*) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx2,fma,popcnt,bmi1,bmi2")]
            fn avx512(simd: $crate::lanes::Avx512, $($arg: $ty),*) $(-> $ret)? { body(simd, $($arg),*) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(
                enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx512bf16,avx2,fma,popcnt,bmi1,bmi2"
            )]
            fn avx512_bf16(simd: $crate::lanes::Avx512Bf16, $($arg: $ty),*) $(-> $ret)? { body(simd, $($arg),*) }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon")]
            fn neon(simd: $crate::lanes::Neon, $($arg: $ty),*) $(-> $ret)? { body(simd, $($arg),*) }
            match isa.0 {
                $crate::isa::Kind::Portable => body($crate::lanes::Portable, $($arg),*),
                // SAFETY: an `Isa` of this kind exists only where the features were detected; so for those below.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Kind::Avx2 => unsafe { avx2($crate::lanes::Avx2::new(), $($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Kind::Avx512Base => unsafe { avx512_base($crate::lanes::Avx512Base::new(), $($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Kind::Avx512 => unsafe { avx512($crate::lanes::Avx512::new(), $($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Kind::Avx512Bf16 => unsafe { avx512_bf16($crate::lanes::Avx512Bf16::new(), $($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "aarch64")]
                $crate::isa::Kind::Neon => unsafe { neon($crate::lanes::Neon::new(), $($arg),*) },
            }
        }
    };
}
pub(crate) use per_isa;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_picks_and_a_wrong_one_says_what_there_is() {
        for isa in Isa::available() {
            assert_eq!(Isa::named(Some(isa.name())).unwrap(), isa);
        }
        if Isa::available().iter().any(|isa| isa.name().starts_with("avx512")) {
            assert!(Isa::named(Some("avx512")).unwrap().name().starts_with("avx512"));
        }
        assert_eq!(Isa::named(None).unwrap(), *Isa::available().last().unwrap());
        let refused = Isa::named(Some("sse9")).unwrap_err();
        assert!(refused.contains("sse9") && refused.contains("portable"), "{refused}");
    }
}
