use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;

use zip::read::{ArchiveOffset, Config};
use zip::{CompressionMethod, ZipArchive};

use crate::error::DataError;
use crate::input_file::InputFile;
use crate::scratch::Scratch;
use crate::tensor_file::Place;

/// A zip archive: .npz and .pt files are some.
pub(crate) struct Archive {
    file: Arc<InputFile>,
    zip: ZipArchive<BufReader<Positioned>>,
    pub(crate) members: Vec<Member>,
}

pub(crate) struct Member {
    pub(crate) name: String,
    /// Bytes when unpacked, as the directory has it.
    pub(crate) size: u64,
    /// Byte of the archive where it lies as it is; absent if it is packed.
    offset: Option<u64>,
}

impl Archive {
    /// Reads the directory.
    pub(crate) fn open(file: Arc<InputFile>) -> Result<Self, DataError> {
        let reader = BufReader::new(Positioned { file: file.clone(), position: 0 });
        // as it stands: an archive behind something else is none of ours
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let mut zip = ZipArchive::with_config(config, reader).map_err(|error| damaged(&file, &error))?;
        if zip.has_duplicate_names() {
            return Err(damaged(&file, &"two of its members have the same name"));
        }
        let mut members = Vec::new();
        for index in 0..zip.len() {
            let member = zip.by_index_raw(index).map_err(|error| damaged(&file, &error))?;
            let name = member.name().map_err(|error| damaged(&file, &error))?.into_owned();
            if member.encrypted() {
                return Err(DataError::format(format!(
                    "{} is encrypted; save it without a password",
                    file.path().display()
                )));
            }
            let (size, start) = (member.size(), member.data_start());
            let offset = match member.compression() {
                CompressionMethod::Stored => {
                    let start =
                        start.filter(|start| start.checked_add(size).is_some_and(|end| end <= file.size()));
                    let Some(start) = start.filter(|_| member.compressed_size() == size) else {
                        return Err(damaged(&file, &format_args!("its member {name} lies beyond its end")));
                    };
                    Some(start)
                }
                CompressionMethod::Deflated => None,
                other => {
                    return Err(DataError::format(format!(
                        "{} packs {name} by {other}; save it deflated or uncompressed",
                        file.path().display()
                    )));
                }
            };
            members.push(Member { name, size, offset });
        }
        Ok(Self { file, zip, members })
    }

    /// Reads `length` bytes of a member from `offset` on; nothing is allocated for bytes that are not there.
    pub(crate) fn bytes(&mut self, index: usize, offset: u64, length: u64) -> Result<Vec<u8>, DataError> {
        let member = &self.members[index];
        let end = offset.checked_add(length).filter(|&end| end <= member.size);
        let Some(end) = end else {
            return Err(damaged(
                &self.file,
                &format_args!("its member {} has {} bytes, too few", member.name, member.size),
            ));
        };
        if let Some(start) = member.offset {
            return self.file.bytes(start + offset, length);
        }
        let mut bytes = Vec::new();
        let unpacked = self.zip.by_index(index).map_err(|error| damaged(&self.file, &error))?;
        unpacked.take(end).read_to_end(&mut bytes).map_err(|error| damaged(&self.file, &error))?;
        if (bytes.len() as u64) < end {
            return Err(damaged(&self.file, &format_args!("its member {} ends early", member.name)));
        }
        bytes.drain(..offset as usize);
        Ok(bytes)
    }

    /// Where a member lies readable at any position: in the archive, or unpacked.
    pub(crate) fn place(&mut self, index: usize, scratch: &mut Scratch) -> Result<Place, DataError> {
        let member = &self.members[index];
        if let Some(offset) = member.offset {
            return Ok(Place { file: self.file.clone(), offset });
        }
        let name = format!("{}#{}", self.file.path().display(), member.name);
        let size = member.size;
        let mut packed = self.zip.by_index(index).map_err(|error| damaged(&self.file, &error))?;
        scratch.unpack(&name, &mut packed, size)
    }
}

fn damaged(file: &InputFile, why: &dyn std::fmt::Display) -> DataError {
    DataError::corrupt(format!(
        "{} is no intact zip archive: {why}; make or copy it again",
        file.path().display()
    ))
}

/// A file as the library reads it: from a position that it moves.
struct Positioned {
    file: Arc<InputFile>,
    position: u64,
}

impl Read for Positioned {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.file.size().saturating_sub(self.position);
        let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.file.read_at(&mut buffer[..length], self.position).map_err(io::Error::other)?;
        self.position += length as u64;
        Ok(length)
    }
}

impl Seek for Positioned {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.file.size().checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
