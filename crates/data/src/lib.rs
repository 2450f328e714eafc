//! How hidden states come in, and models and codes go out.
//!
//! Every reader bounds what it allocates by what the file really holds and checks every value it hands out; every
//! writer writes beside its target, syncs and renames, so that nobody ever sees half a file.

mod codes_file;
mod column;
mod dataset;
mod error;
mod folder;
mod input_file;
mod inspect;
mod model_file;
mod npy;
mod open;
mod safetensors_file;
mod split;
mod tensor_file;
mod tensors_out;

pub use codes_file::{CodesWriter, read_codes};
pub use column::Column;
pub use dataset::{Dataset, MemorySource, Source, check_finite};
pub use error::DataError;
pub use folder::{check_output, write_folder};
pub use inspect::inspect;
pub use model_file::{load_model, model_config, save_model, write_model};
pub use split::{training_rows, training_rows_of};
pub use tensors_out::{Tensor, save_tensors};
