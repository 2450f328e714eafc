//! Which devices there are, and which one is taken.

use crate::Device;
use crate::device::locked;
use bae_model::ModelError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

/// An adapter, as `bae devices` shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AdapterReport {
    /// Position in the list; `--device` takes it.
    pub index: usize,
    /// As the driver says.
    pub name: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    pub kind: &'static str,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: &'static str,
    /// Name and version of the driver.
    pub driver: String,
    /// Bytes that one buffer may have.
    pub max_buffer_bytes: u64,
    /// Bytes that a shader may see of one buffer: larger parameters are split.
    pub max_binding_bytes: u64,
    /// Bytes of memory that the invocations of a workgroup share.
    pub workgroup_bytes: u32,
    /// Whether it computes with half floats: `precision` `f16`.
    pub half_floats: bool,
    /// Whether the time of a step can be taken by stages.
    pub timestamps: bool,
}

impl AdapterReport {
    /// Whether the work is done by a GPU, not by a program that stands for one.
    pub fn is_gpu(&self) -> bool {
        matches!(self.kind, "discrete" | "integrated" | "virtual")
    }
}

/// Which device is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum Wanted {
    /// A real GPU if there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The best adapter there is, be it software.
    Gpu,
    /// The adapter of this index.
    Index(usize),
    /// The first adapter whose name contains this, without regard to case.
    Name(String),
}

impl From<String> for Wanted {
    /// `auto`, `cpu`, `gpu`, an index as `bae devices` shows it (`1` or `gpu:1`), or a part of a name.
    fn from(text: String) -> Self {
        let lower = text.trim().to_lowercase();
        match lower.as_str() {
            "auto" | "" => Wanted::Auto,
            "cpu" => Wanted::Cpu,
            "gpu" => Wanted::Gpu,
            other => match other.strip_prefix("gpu:").unwrap_or(other).parse() {
                Ok(index) => Wanted::Index(index),
                Err(_) => Wanted::Name(lower),
            },
        }
    }
}

/// What a wish comes to on this machine.
#[derive(Clone)]
pub enum Choice {
    /// The CPU, and why if a GPU was looked for.
    Cpu {
        /// One line.
        reason: Option<String>,
    },
    /// A device, opened.
    Gpu(Arc<Device>),
}

impl std::fmt::Debug for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Choice::Cpu { reason } => f.debug_struct("Cpu").field("reason", reason).finish(),
            Choice::Gpu(device) => f.debug_tuple("Gpu").field(device.report()).finish(),
        }
    }
}

/// All adapters that this library can use, the best first: discrete GPUs, integrated ones, virtual ones, software.
///
/// Without a loader or driver there are none.
pub fn adapters() -> Vec<AdapterReport> {
    found().into_iter().map(|(_, report)| report).collect()
}

/// What `wanted` comes to. Only a device that is needed is opened; it stays open for later calls.
///
/// # Errors
/// [`ModelError::Unavailable`] if a GPU is asked for by name or as such and there is none, or it does not start.
pub fn choose(wanted: &Wanted) -> Result<Choice, ModelError> {
    match wanted {
        Wanted::Cpu => Ok(Choice::Cpu { reason: None }),
        Wanted::Auto => Ok(match automatic(known()) {
            Err(reason) => Choice::Cpu { reason: Some(reason) },
            Ok(index) => match open(index) {
                Ok(device) => Choice::Gpu(device),
                Err(error) => Choice::Cpu { reason: Some(error.to_string()) },
            },
        }),
        Wanted::Gpu => match known().first() {
            Some(first) => open(first.index).map(Choice::Gpu),
            None => Err(ModelError::Unavailable(format!("no GPU: {NONE}; {INSTALL}, or use the device cpu"))),
        },
        // a number beyond the list is more likely part of a name
        Wanted::Index(index) if *index < known().len() || named(&index.to_string()).is_none() => {
            open(*index).map(Choice::Gpu)
        }
        Wanted::Index(index) => choose(&Wanted::Name(index.to_string())),
        Wanted::Name(part) => match named(part) {
            Some(report) => open(report.index).map(Choice::Gpu),
            None => Err(ModelError::Unavailable(format!(
                "no device is called \"{part}\"; it may be auto, cpu, gpu, or one of these: {}",
                list(known())
            ))),
        },
    }
}

/// The first device whose name contains this.
fn named(part: &str) -> Option<&'static AdapterReport> {
    known().iter().find(|report| report.name.to_lowercase().contains(part))
}

/// The adapters there were when one was first asked for: looking takes a tenth of a second.
fn known() -> &'static [AdapterReport] {
    static KNOWN: OnceLock<Vec<AdapterReport>> = OnceLock::new();
    KNOWN.get_or_init(adapters)
}

/// The index of the adapter that `auto` takes, or why it takes none.
pub fn automatic(adapters: &[AdapterReport]) -> Result<usize, String> {
    match (adapters.iter().find(|report| report.is_gpu()), adapters.first()) {
        (Some(report), _) => Ok(report.index),
        (None, Some(software)) => Err(format!("no GPU, only {}, which is software", software.name)),
        (None, None) => Err(format!("no GPU: {NONE}")),
    }
}

/// Opens the adapter of an index, once for all who use it.
///
/// # Errors
/// [`ModelError::Unavailable`] if there is none of this index or it does not start.
pub fn open(index: usize) -> Result<Arc<Device>, ModelError> {
    static OPEN: Mutex<BTreeMap<usize, Arc<Device>>> = Mutex::new(BTreeMap::new());
    let mut open = locked(&OPEN);
    if let Some(device) = open.get(&index).filter(|device| device.failure().is_none()) {
        return Ok(device.clone());
    }
    let (adapter, report) = at(index)?;
    if known().get(index) != Some(&report) {
        let message =
            format!("the devices have changed: {index} is {} now; start the program anew", report.name);
        return Err(ModelError::Unavailable(message));
    }
    let device = Arc::new(Device::open(&adapter, report)?);
    open.insert(index, device.clone());
    Ok(device)
}

/// Opens a device of its own for the adapter of an index, whose shaders see at most so many bytes of a buffer: for tests of
/// what larger devices do at larger shapes.
///
/// # Errors
/// As [`open`].
pub fn open_limited(index: usize, max_binding_bytes: u64) -> Result<Arc<Device>, ModelError> {
    let (adapter, report) = at(index)?;
    Device::open(&adapter, AdapterReport { max_binding_bytes, ..report }).map(Arc::new)
}

fn at(index: usize) -> Result<(wgpu::Adapter, AdapterReport), ModelError> {
    let mut all = found();
    if index < all.len() {
        return Ok(all.swap_remove(index));
    }
    let reports: Vec<_> = all.into_iter().map(|(_, report)| report).collect();
    Err(ModelError::Unavailable(format!("there is no device {index}, only {}", list(&reports))))
}

const NONE: &str = "neither Vulkan, Metal nor Direct3D 12 offers a device on this system";
const INSTALL: &str = "install the graphics driver (on Linux with its Vulkan part: libvulkan1 and the vendor's driver, or mesa-vulkan-drivers)";

fn list(all: &[AdapterReport]) -> String {
    if all.is_empty() {
        return format!("none, {NONE}; {INSTALL}");
    }
    let names: Vec<_> = all.iter().map(|report| format!("{} ({})", report.index, report.name)).collect();
    names.join(", ")
}

fn found() -> Vec<(wgpu::Adapter, AdapterReport)> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    descriptor.flags = wgpu::InstanceFlags::empty();
    let backends = descriptor.backends;
    let instance = wgpu::Instance::new(descriptor);
    let all = pollster::block_on(instance.enumerate_adapters(backends));
    let usable = |adapter: &wgpu::Adapter| {
        adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS)
    };
    let mut all: Vec<_> = all.into_iter().filter(usable).map(|adapter| (report(&adapter), adapter)).collect();
    let rank =
        |kind| ["discrete", "integrated", "virtual", "other", "software"].iter().position(|k| *k == kind);
    // a stable order: the same index names the same device each time
    all.sort_by_key(|(report, _)| rank(report.kind));
    let numbered = all.into_iter().enumerate();
    numbered.map(|(index, (report, adapter))| (adapter, AdapterReport { index, ..report })).collect()
}

fn report(adapter: &wgpu::Adapter) -> AdapterReport {
    let (info, limits) = (adapter.get_info(), adapter.limits());
    AdapterReport {
        index: 0,
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => "discrete",
            wgpu::DeviceType::IntegratedGpu => "integrated",
            wgpu::DeviceType::VirtualGpu => "virtual",
            wgpu::DeviceType::Cpu => "software",
            wgpu::DeviceType::Other => "other",
        },
        backend: match info.backend {
            wgpu::Backend::Vulkan => "vulkan",
            wgpu::Backend::Metal => "metal",
            wgpu::Backend::Dx12 => "dx12",
            _ => "other",
        },
        name: info.name,
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
        max_buffer_bytes: limits.max_buffer_size,
        // shaders count words in 32 bits
        max_binding_bytes: limits.max_storage_buffer_binding_size.min(i32::MAX as u64),
        workgroup_bytes: limits.max_compute_workgroup_storage_size,
        half_floats: adapter.features().contains(wgpu::Features::SHADER_F16),
        timestamps: adapter.features().contains(wgpu::Features::TIMESTAMP_QUERY),
    }
}
