use crate::job::{self, End, Events, Job};
use bae_kernels::Isa;
use napi::bindgen_prelude::*;
use napi_derive::napi;

/// Describes a model folder, a codes file or hidden states.
#[napi(catch_unwind)]
pub fn start_inspect(
    path: String,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    job::start(on_event, move |_| Ok(End::Done(bae_data::inspect(&path)?)))
}

/// What the CPU engine runs on.
#[napi(object, object_from_js = false)]
pub struct CpuInfo {
    /// Architecture that the addon is built for.
    pub arch: String,
    /// Instruction set of the kernels.
    pub simd: String,
    /// Instruction sets that this CPU has, slowest first.
    pub available: Vec<String>,
    /// Cores.
    pub cores: CpuCores,
    /// Threads that 0 stands for.
    pub threads: u32,
}

/// Cores, counted in two ways.
#[napi(object, object_from_js = false)]
pub struct CpuCores {
    /// Hardware threads that this process may use.
    pub logical: u32,
    /// Cores of the machine.
    pub physical: u32,
}

/// What the CPU engine runs on.
#[napi(catch_unwind)]
pub fn cpu() -> Result<CpuInfo, &'static str> {
    Ok(CpuInfo {
        arch: std::env::consts::ARCH.into(),
        simd: job::instruction_set()?.name().into(),
        available: Isa::available().iter().map(|isa| isa.name().into()).collect(),
        cores: CpuCores {
            logical: std::thread::available_parallelism().map_or(1, |n| n.get()) as u32,
            physical: num_cpus::get_physical() as u32,
        },
        threads: bae_model::cpu::thread_count(0) as u32,
    })
}
