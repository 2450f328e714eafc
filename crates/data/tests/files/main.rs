//! Real files in and out: what is written by others is read, what is written here is read back, what is wrong is named.

mod codes;
mod columns;
mod common;
mod formats;
mod hidden_states;
mod inspect;
mod layers;
mod models;
mod neighbours;
mod split;
mod targets;
