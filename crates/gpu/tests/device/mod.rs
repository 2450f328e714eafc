//! The device that tests run on: the best there is, be it software.

use bae_gpu::{Choice, Device, Wanted, choose};
use std::sync::Arc;

/// Opens it. Without any, the check leaves these tests out and says so; here that is a failure.
pub fn device() -> Arc<Device> {
    match choose(&Wanted::Gpu) {
        Ok(Choice::Gpu(device)) => device,
        other => panic!("these tests need a device, be it software (mesa-vulkan-drivers): {other:?}"),
    }
}
