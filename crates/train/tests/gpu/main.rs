//! A process of its own, in which a test may lose the device that all share. The check runs what is here where there is a
//! device, and counts it as skipped where there is none: by the module's name.

#[path = "../../../gpu/tests/device/mod.rs"]
mod device;
mod on_a_device;
#[path = "../states/mod.rs"]
mod states;
