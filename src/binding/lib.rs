//! The Rust side of the Node binding: converts, guards, delegates. Nothing is computed here.

mod bench;
mod codes;
mod compare;
mod devices;
mod error;
mod inspect;
mod job;
mod kept_files;
mod lock;
mod model;
mod probe;
mod states;
mod statistics;
mod synthetic;
mod train;
