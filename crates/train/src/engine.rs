use crate::TrainError;
use bae_gpu::{Choice, Device, Gpu, Peak, Wanted, Widths, choose};
use bae_model::{Architecture, Backend, Cpu, Parameters, Precision, Sae};
use serde::Serialize;
use std::sync::Arc;

/// Where to compute: a number of threads, and perhaps a device that models are put on.
pub struct Engine {
    threads: Cpu,
    device: Option<Arc<Device>>,
    reason: Option<String>,
}

/// What an engine is to do.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// What is computed.
    pub architecture: Architecture,
    /// Precision of the products of steps.
    pub precision: Precision,
    /// Rows at once in a step, at most.
    pub rows: usize,
    /// The model's.
    pub widths: Widths,
}

/// What an engine is, for events and reports.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineReport {
    /// `cpu` or `gpu`.
    pub device: &'static str,
    /// Name of the GPU as its driver says.
    pub adapter: Option<String>,
    /// Why the CPU was taken although a GPU would have been welcome.
    pub reason: Option<String>,
    /// Threads on the CPU.
    pub threads: usize,
}

impl Engine {
    /// What `wanted` comes to on this machine, for this task; `threads` 0 takes what the machine offers. `auto` takes the CPU, and says why, where a GPU cannot do what is asked.
    ///
    /// # Errors
    /// [`bae_model::ModelError::Unavailable`] if a device is asked for that is not there or cannot do it,
    /// [`TrainError::Option`] if it is the CPU that cannot.
    pub fn choose(wanted: &Wanted, threads: usize, task: Task) -> Result<Self, TrainError> {
        let Task { architecture, precision, rows, widths } = task;
        let values = architecture.kind().is_some();
        if values && !matches!(wanted, Wanted::Auto | Wanted::Cpu) {
            let message =
                "codes that hold values are computed on the CPU only: leave out the device, or give cpu";
            return Err(TrainError::Option(message.into()));
        }
        let choice = if values { Choice::Cpu { reason: None } } else { choose(wanted)? };
        let (device, reason) = match choice {
            Choice::Cpu { reason } => (None, reason),
            Choice::Gpu(device) => match Gpu::check(&device, precision, rows, widths) {
                Err(error) if *wanted == Wanted::Auto => (None, Some(error.to_string())),
                checked => {
                    checked?;
                    (Some(device), None)
                }
            },
        };
        if device.is_none() && precision == Precision::F16 {
            let reason = reason.map_or(String::new(), |reason| format!(" ({reason})"));
            return Err(TrainError::Option(format!(
                "precision is f16, which only GPUs have, and this is the CPU{reason}: it may be f32 or bf16 here"
            )));
        }
        Ok(Self { threads: Cpu::new(&Parameters::zeros(0, 0, 0), threads), device, reason })
    }

    /// What it is.
    pub fn report(&self) -> EngineReport {
        EngineReport {
            device: if self.is_gpu() { "gpu" } else { "cpu" },
            adapter: self.device.as_ref().map(|device| device.report().name.clone()),
            reason: self.reason.clone(),
            threads: self.threads.thread_count(),
        }
    }

    /// Whether models are put on a device.
    pub fn is_gpu(&self) -> bool {
        self.device.is_some()
    }

    /// Runs `work` on the engine's threads.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.threads.install(work)
    }

    /// A model to be trained in batches of up to `rows` rows, with all the memory that takes; the time of each stage is taken
    /// if it is to be `timed` and the engine can.
    ///
    /// # Errors
    /// Those of a device that cannot hold it.
    pub fn trained(
        &self,
        parameters: &Parameters,
        Task { architecture, precision, rows, .. }: Task,
        timed: bool,
    ) -> Result<Box<dyn Backend>, TrainError> {
        if architecture.kind().is_some() {
            return Ok(Box::new(Sae::new(parameters, self.threads.thread_count())));
        }
        let Some(device) = &self.device else {
            return Ok(Box::new(self.threads.with_parameters(parameters).with_precision(precision)));
        };
        let gpu = Gpu::new(device, parameters, rows)?.with_precision(precision)?.with_room_for_steps(rows)?;
        Ok(Box::new(if timed { gpu.with_timing()? } else { gpu }))
    }

    /// What the device's arithmetic allows, measured now; `None` on the CPU.
    ///
    /// # Errors
    /// Those of a device.
    pub fn peak(&self) -> Result<Option<Peak>, TrainError> {
        Ok(self.device.as_ref().map(Peak::measure).transpose()?)
    }

    /// A model to be applied.
    ///
    /// # Errors
    /// As [`Engine::trained`].
    pub fn applied(
        &self,
        architecture: &Architecture,
        parameters: &Parameters,
    ) -> Result<Box<dyn Backend>, TrainError> {
        if architecture.kind().is_some() {
            return Ok(Box::new(Sae::new(parameters, self.threads.thread_count())));
        }
        Ok(match &self.device {
            None => Box::new(self.threads.with_parameters(parameters)),
            Some(device) => Box::new(Gpu::new(device, parameters, 1)?),
        })
    }
}
