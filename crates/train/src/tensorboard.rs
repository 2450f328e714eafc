//! Event files that TensorBoard reads: numbers over steps, under a name each.

use crate::TrainError;
use bae_data::DataError;
use crc::{CRC_32_ISCSI, Crc};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Appends numbers to an event file of its own.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Writer {
    /// Begins a new event file in `dir`, which is made if it is missing. Files that are there already stay as they are:
    /// TensorBoard reads all of a folder.
    ///
    /// # Errors
    /// `IO` if the folder or the file cannot be made.
    pub fn create(dir: &Path) -> Result<Self, TrainError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (path, file) =
            new_file(dir, now.as_secs()).map_err(|error| cannot("make an event file in", dir, error))?;
        let mut writer = Self { path, file: BufWriter::new(file) };
        writer.record(&version(now.as_secs_f64()))?;
        writer.flush()?;
        Ok(writer)
    }

    /// The file that is written.
    #[cfg(test)]
    fn path(&self) -> &Path {
        &self.path
    }

    /// Adds the value of `tag` after `step` steps; `wall_time` is in seconds since 1970. It may stay in memory until
    /// [`Writer::flush`]. A slash in the tag makes a group of what is before it.
    ///
    /// # Errors
    /// `IO`
    pub fn scalar(&mut self, step: u64, wall_time: f64, tag: &str, value: f32) -> Result<(), TrainError> {
        self.record(&scalar(step, wall_time, tag, value))
    }

    /// Writes what is still in memory: a TensorBoard that watches the folder sees it from now on.
    ///
    /// # Errors
    /// `IO`
    pub fn flush(&mut self) -> Result<(), TrainError> {
        self.file.flush().map_err(|error| cannot("write", &self.path, error))
    }

    fn record(&mut self, data: &[u8]) -> Result<(), TrainError> {
        self.file.write_all(&record(data)).map_err(|error| cannot("write", &self.path, error))
    }
}

/// The name must hold `tfevents`, and names in the order of time are read in that order.
fn new_file(dir: &Path, seconds: u64) -> io::Result<(PathBuf, File)> {
    fs::create_dir_all(dir)?;
    let process = std::process::id();
    let mut number = 0;
    loop {
        let path = dir.join(format!("events.out.tfevents.{seconds:010}.bae.{process}.{number}"));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}

fn cannot(doing: &str, path: &Path, error: io::Error) -> TrainError {
    let message =
        format!("cannot {doing} {}: {error}; check its permissions and the room there", path.display());
    DataError::Io { message, source: Some(error) }.into()
}

/// A TFRecord: length, its checksum, data, its checksum.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length, &checksum(&length)[..], data, &checksum(data)].concat()
}

/// CRC-32C, masked because checksums of data that hold checksums are poor.
fn checksum(data: &[u8]) -> [u8; 4] {
    const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
    CRC.checksum(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// The `Event` that every file begins with.
fn version(wall_time: f64) -> Vec<u8> {
    [double(1, wall_time), bytes(3, b"brain.Event:2")].concat()
}

/// An `Event` with a `Summary` of one value.
fn scalar(step: u64, wall_time: f64, tag: &str, value: f32) -> Vec<u8> {
    let tag = if tag.is_empty() { vec![] } else { bytes(1, tag.as_bytes()) };
    let value = [tag, float(2, value)].concat();
    [double(1, wall_time), integer(2, step), bytes(5, &bytes(1, &value))].concat()
}

// Fields of protocol buffers, each with its number; a 0 is the default and left out, but for `float`, which is one of
// several that a value can be.

fn double(field: u64, value: f64) -> Vec<u8> {
    if value == 0.0 { vec![] } else { [varint(field << 3 | 1), value.to_le_bytes().to_vec()].concat() }
}

fn integer(field: u64, value: u64) -> Vec<u8> {
    if value == 0 { vec![] } else { [varint(field << 3), varint(value)].concat() }
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

fn float(field: u64, value: f32) -> Vec<u8> {
    [varint(field << 3 | 5), value.to_le_bytes().to_vec()].concat()
}

/// Seven bits a byte, the lowest first.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = vec![];
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of all records of a file.
    fn records(mut file: &[u8]) -> Vec<&[u8]> {
        let mut all = vec![];
        while !file.is_empty() {
            let (length, rest) = file.split_at(8);
            let (length_checksum, rest) = rest.split_at(4);
            let (data, rest) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
            let (data_checksum, rest) = rest.split_at(4);
            assert_eq!([length_checksum, data_checksum], [masked(length), masked(data)]);
            all.push(data);
            file = rest;
        }
        all
    }

    /// CRC-32C bit by bit, masked.
    fn masked(data: &[u8]) -> [u8; 4] {
        let mut crc = u32::MAX;
        for &byte in data {
            crc ^= u32::from(byte);
            (0..8).for_each(|_| crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 });
        }
        let crc = !crc;
        crc.rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
    }

    #[test]
    fn the_same_bytes_as_tensorboard_writes() {
        // scalars.py, beside the file, made it
        let expected = include_bytes!("../tests/fixtures/scalars.tfevents");
        let ours = [
            version(1_700_000_000.25),
            scalar(0, 1_700_000_000.5, "loss", 0.75),
            scalar(1, 1_700_000_001.0, "validation/explained variance", 0.0),
            scalar(127, 1_700_000_002.0, "loss", -1.5),
            scalar(128, 1_700_000_003.0, "größe", f32::NAN),
            scalar(1 << 40, 0.0, "", f32::INFINITY),
            scalar(300, 1_700_000_004.0, &"t".repeat(200), 3e38),
        ];
        assert_eq!(records(expected), ours);
        assert_eq!(ours.iter().flat_map(|data| record(data)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_file_of_its_own_that_begins_with_its_version() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("a/b");
        let mut writers = [(); 3].map(|_| Writer::create(&dir).unwrap());
        for (at, writer) in writers.iter_mut().enumerate() {
            writer.scalar(7, 1.5, "loss", at as f32).unwrap();
            writer.flush().unwrap();
            let name = writer.path().file_name().unwrap().to_str().unwrap();
            assert!(
                name.starts_with("events.out.tfevents.") && writer.path().parent() == Some(&dir),
                "{name}"
            );
            let file = fs::read(writer.path()).unwrap();
            let [first, second] = records(&file)[..] else { panic!("two records") };
            assert!(first.ends_with(b"\x1a\x0dbrain.Event:2"));
            assert_eq!(second, scalar(7, 1.5, "loss", at as f32));
        }
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 3);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "").unwrap();
        let error = Writer::create(&path).unwrap_err();
        assert_eq!(error.code(), "IO");
        let expected = format!("cannot make an event file in {}: ", path.display());
        assert!(error.to_string().starts_with(&expected), "{error}");
    }

    #[test]
    fn varints_of_every_length() {
        for shift in 0..64 {
            for value in [(1 << shift) - 1, 1 << shift, u64::MAX >> shift] {
                let bytes = varint(value);
                let back = bytes.iter().enumerate().map(|(at, &byte)| u64::from(byte & 0x7f) << (7 * at));
                assert_eq!(back.sum::<u64>(), value);
                let (last, others) = bytes.split_last().unwrap();
                assert!(*last < 0x80 && others.iter().all(|&byte| byte >= 0x80));
                assert!(*last > 0 || others.is_empty(), "longer than needed");
            }
        }
    }
}
