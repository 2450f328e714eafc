//! The device that tests run on: the best there is, be it software.

use bae_gpu::{Choice, Device, Wanted, choose};
use std::sync::Arc;

/// Opens it. Where there is none a test says why and ends, unless `BAE_TEST_DEVICE=required`: the check sets that where
/// it has seen a device, and counts these tests as skipped where it has not.
pub fn device() -> Option<Arc<Device>> {
    match choose(&Wanted::Gpu) {
        Ok(Choice::Gpu(device)) => Some(device),
        other => {
            assert!(std::env::var_os("BAE_TEST_DEVICE").is_none_or(|v| v != "required"), "{other:?}");
            println!("skipped: {other:?}");
            None
        }
    }
}
