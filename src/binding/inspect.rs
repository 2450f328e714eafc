use crate::job::{self, End, Events, Job};
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
    /// Instruction set of the kernels.
    pub simd: String,
    /// Threads that 0 stands for.
    pub threads: u32,
}

/// What the CPU engine runs on.
#[napi(catch_unwind)]
pub fn cpu() -> CpuInfo {
    CpuInfo { simd: bae_kernels::Isa::best().name().into(), threads: bae_model::cpu::thread_count(0) as u32 }
}
