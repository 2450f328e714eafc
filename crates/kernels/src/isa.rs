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
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// Plain Rust, for any CPU.
    pub const PORTABLE: Isa = Isa(Kind::Portable);

    /// All that this CPU has, slowest first.
    pub fn available() -> Vec<Isa> {
        let mut all = vec![Self::PORTABLE];
        all.extend(vectorised());
        all
    }

    /// The best one, or the one that the environment variable `BAE_SIMD` names if this CPU has it. Looked up once.
    pub fn best() -> Isa {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| {
            let all = Self::available();
            let wanted = std::env::var("BAE_SIMD").ok();
            let named = all.iter().find(|isa| Some(isa.name()) == wanted.as_deref());
            *named.unwrap_or(all.last().expect("portable is always there"))
        })
    }

    /// `portable`, `avx2` or `avx512`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn vectorised() -> Vec<Isa> {
    use std::arch::is_x86_feature_detected as has;
    let avx2 = has!("avx2") && has!("fma") && has!("popcnt") && has!("bmi1") && has!("bmi2");
    let avx512 = has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
    match (avx2, avx512) {
        (false, _) => vec![],
        (true, false) => vec![Isa(Kind::Avx2)],
        (true, true) => vec![Isa(Kind::Avx2), Isa(Kind::Avx512)],
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn vectorised() -> Vec<Isa> {
    vec![]
}

/// Defines a function whose body is compiled once for each instruction set and chosen by its first argument.
macro_rules! per_isa {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name(isa: $crate::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,popcnt,bmi1,bmi2")]
            fn avx2($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,popcnt,bmi1,bmi2")]
            fn avx512($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
            match isa.0 {
                $crate::isa::Kind::Portable => body($($arg),*),
                // SAFETY: an `Isa` of this kind exists only where the features were detected.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Kind::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Kind::Avx512 => unsafe { avx512($($arg),*) },
            }
        }
    };
}
pub(crate) use per_isa;
