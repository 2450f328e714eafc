//! How hidden states come in, and models and codes go out.
//!
//! Every reader bounds what it allocates by what the file really holds and checks every value it hands out; every
//! writer writes beside its target, syncs and renames, so that nobody ever sees half a file.

mod archive;
mod arrow_file;
mod checkpoint_file;
mod codes_file;
mod column;
mod dataset;
mod error;
mod feed;
mod folder;
mod input_file;
mod inspect;
mod kept_files;
mod labels;
mod layers;
mod layout;
mod lock;
mod model_file;
mod moments;
mod neighbours;
mod npy;
mod npz;
mod numbers;
mod open;
mod parquet_file;
mod parquet_pages;
mod pickle;
mod random;
mod recent;
mod row_set;
mod safetensors_file;
mod scratch;
mod selection;
mod split;
mod spool;
mod statistics_file;
mod stored_model;
mod synthetic;
mod table;
mod tensor_file;
mod tensors_out;
mod thrift;
mod torch_file;
mod torch_out;
mod unpack;

pub use checkpoint_file::{
    StoredCheckpoint, read_checkpoint, read_summed_model, write_checkpoint, write_summed_model,
};
pub use codes_file::{CodesWriter, read_codes};
pub use column::Column;
pub use dataset::{Dataset, MemorySource, Source, check_finite};
pub use error::DataError;
pub use feed::{BLOCKS, Batches, Feed, Order};
pub use folder::{PREFIX, check_output, delete, delete_leftovers, install_model, write_folder};
pub use inspect::inspect;
pub use kept_files::KeptFiles;
pub use labels::Labels;
pub use layers::{Layers, NamedFile, files_of, layers_of};
pub use lock::FolderLock;
pub use model_file::{
    LAYER_NORM, LoadedModel, load_model, model_config, parameters_checksum, save_model, write_model,
};
pub use moments::RowMoments;
pub use neighbours::{Format, export_model};
pub use open::{EXTENSIONS, open_kept_sources, open_sources};
pub use random::{Purpose, generator};
pub use row_set::RowSet;
pub use selection::{Condition, Selection};
pub use split::{HoldOut, Split, training_rows, training_rows_of};
pub use spool::{Floats, Spool};
pub use statistics_file::{load_statistics, save_statistics};
pub use synthetic::{FLIP, SPARSE_RATE, Synthetic, SyntheticKind, SyntheticStates};
pub use tensors_out::{Tensor, Values, save_tensors};
