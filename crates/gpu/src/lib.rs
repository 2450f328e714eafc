//! The training step on a GPU, through wgpu: the second engine behind [`bae_model::Backend`].
//!
//! [`Gpu`] holds the parameters of one model on a device; each file of `shaders/` is one piece of the step, with its CPU twin
//! beside it. Nothing here touches a GPU before [`adapters`], [`choose`] or [`open`] is called.

// what integration tests share, unit tests share too
#[cfg(test)]
extern crate self as bae_gpu;

mod adapters;
mod device;
mod engine;
mod memory;
mod pass;
mod peak;
mod recording;
mod shaders;
mod trace;

pub use adapters::{AdapterReport, Choice, Wanted, adapters, automatic, choose, open, open_limited};
pub use device::Device;
pub use engine::Gpu;
pub use memory::Widths;
pub use peak::Peak;
