//! What torch.save writes of a module's state: a zip archive of a pickle that names tensors, and of their numbers.

use std::io::{self, Seek, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A tensor of a state.
pub(crate) struct StateTensor<'a> {
    pub(crate) name: &'a str,
    pub(crate) numbers: Numbers<'a>,
    pub(crate) shape: Vec<usize>,
    /// Numbers from one index to the next, for each axis.
    pub(crate) strides: Vec<usize>,
}

pub(crate) enum Numbers<'a> {
    Floats(&'a [f32]),
    Integer(i32),
}

impl<'a> StateTensor<'a> {
    /// Numbers that lie one after the other: `[n]`.
    pub(crate) fn vector(name: &'a str, values: &'a [f32]) -> Self {
        Self { name, numbers: Numbers::Floats(values), shape: vec![values.len()], strides: vec![1] }
    }

    /// Row-major numbers, `[rows, columns]`.
    pub(crate) fn matrix(name: &'a str, values: &'a [f32], [rows, columns]: [usize; 2]) -> Self {
        let (shape, strides) = (vec![rows, columns], vec![columns, 1]);
        Self { name, numbers: Numbers::Floats(values), shape, strides }
    }

    /// The same numbers as they lie, with rows and columns exchanged.
    pub(crate) fn transposed(mut self) -> Self {
        self.shape.reverse();
        self.strides.reverse();
        self
    }

    /// One number without axes.
    pub(crate) fn scalar(name: &'a str, numbers: Numbers<'a>) -> Self {
        Self { name, numbers, shape: vec![], strides: vec![] }
    }

    fn count(&self) -> usize {
        match self.numbers {
            Numbers::Floats(values) => values.len(),
            Numbers::Integer(_) => 1,
        }
    }

    fn storage(&self) -> &'static str {
        match self.numbers {
            Numbers::Floats(_) => "FloatStorage",
            Numbers::Integer(_) => "IntStorage",
        }
    }
}

/// Writes a state, the same bytes every time; `folder` is the name of the archive's only folder.
pub(crate) fn write_state(
    out: &mut (impl Write + Seek),
    folder: &str,
    tensors: &[StateTensor],
) -> io::Result<()> {
    // where PyTorch itself begins what may be mapped
    const ALIGNMENT: u16 = 64;
    let options =
        SimpleFileOptions::default().compression_method(CompressionMethod::Stored).with_alignment(ALIGNMENT);
    let mut zip = ZipWriter::new(out);
    let start = |zip: &mut ZipWriter<_>, name: &str, bytes: usize| {
        // beyond 32 bits a member says its size elsewhere
        zip.start_file(format!("{folder}/{name}"), options.large_file(bytes >> 32 > 0))
            .map_err(io::Error::from)
    };
    let pickle = pickle_of(tensors);
    start(&mut zip, "data.pkl", pickle.len())?;
    zip.write_all(&pickle)?;
    start(&mut zip, "byteorder", 6)?;
    zip.write_all(b"little")?;
    for (at, tensor) in tensors.iter().enumerate() {
        start(&mut zip, &format!("data/{at}"), 4 * tensor.count())?;
        match tensor.numbers {
            Numbers::Floats(values) => {
                for values in values.chunks(1 << 14) {
                    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                    zip.write_all(&bytes)?;
                }
            }
            Numbers::Integer(value) => zip.write_all(&value.to_le_bytes())?,
        }
    }
    start(&mut zip, "version", 2)?;
    zip.write_all(b"3\n")?;
    zip.finish()?;
    Ok(())
}

/// An OrderedDict of tensors by name, in the second protocol of pickles.
fn pickle_of(tensors: &[StateTensor]) -> Vec<u8> {
    const ORDERED_DICT: &[u8] = b"ccollections\nOrderedDict\n)R";
    let mut pickle = [b"\x80\x02", ORDERED_DICT, b"("].concat();
    for (at, tensor) in tensors.iter().enumerate() {
        text(&mut pickle, tensor.name);
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        // where its numbers are: kind, type, member of the archive, device, how many
        text(&mut pickle, "storage");
        pickle.extend(format!("ctorch\n{}\n", tensor.storage()).bytes());
        text(&mut pickle, &at.to_string());
        text(&mut pickle, "cpu");
        integer(&mut pickle, tensor.count());
        pickle.extend(b"tQ");
        // the first of them
        integer(&mut pickle, 0);
        for sizes in [&tensor.shape, &tensor.strides] {
            pickle.push(b'(');
            sizes.iter().for_each(|&size| integer(&mut pickle, size));
            pickle.push(b't');
        }
        // it needs no gradient, and has no hooks
        pickle.push(0x89);
        pickle.extend(ORDERED_DICT);
        pickle.extend(b"tR");
    }
    pickle.extend(b"u.");
    pickle
}

fn text(pickle: &mut Vec<u8>, text: &str) {
    pickle.push(b'X');
    pickle.extend((text.len() as u32).to_le_bytes());
    pickle.extend(text.bytes());
}

fn integer(pickle: &mut Vec<u8>, value: usize) {
    match i32::try_from(value) {
        Ok(value) => {
            pickle.push(b'J');
            pickle.extend(value.to_le_bytes());
        }
        Err(_) => {
            pickle.extend([0x8a, 8]);
            pickle.extend((value as u64).to_le_bytes());
        }
    }
}
