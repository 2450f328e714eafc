use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use crate::error::DataError;

/// Bytes that are read, and kept, together.
const BLOCK: u64 = 1 << 20;

/// Bytes of files that several readings share: each is read from the disk once, as long as all that is read fits into the
/// limit. What does not fit is read again each time. Nothing that is kept is given up before this is dropped.
///
/// It is the bytes that are kept, as they lie in the files, and not rows: every reader, of whatever format, then finds what it
/// would have found on the disk.
#[derive(Debug)]
pub struct KeptFiles {
    files: Mutex<HashMap<PathBuf, Arc<KeptFile>>>,
    account: Arc<Account>,
}

/// What may still be kept, and what was read.
#[derive(Debug)]
struct Account {
    left: AtomicU64,
    read: AtomicU64,
}

impl KeptFiles {
    /// Keeps at most `limit` bytes, each block of a mebibyte (or what a file has less) from the time it is first asked for.
    pub fn new(limit: u64) -> Arc<Self> {
        let account = Account { left: AtomicU64::new(limit), read: AtomicU64::new(0) };
        Arc::new(Self { files: Mutex::default(), account: Arc::new(account) })
    }

    /// Bytes that were read from the disk so far.
    pub fn bytes_read(&self) -> u64 {
        self.account.read.load(Ordering::Relaxed)
    }

    /// What is kept of the file at `path`, which was found with this size and time.
    ///
    /// # Errors
    /// `CORRUPT_FILE` if it was another one the first time.
    pub(crate) fn file(
        &self,
        path: &Path,
        size: u64,
        modified: Option<SystemTime>,
    ) -> Result<Arc<KeptFile>, DataError> {
        let name = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mut files = locked(&self.files);
        let file = files.entry(name).or_insert_with(|| {
            let blocks = (0..size.div_ceil(BLOCK)).map(|_| OnceLock::new()).collect();
            Arc::new(KeptFile {
                size,
                modified,
                blocks,
                loading: Mutex::new(()),
                account: self.account.clone(),
            })
        });
        if (file.size, file.modified) == (size, modified) {
            return Ok(file.clone());
        }
        Err(DataError::corrupt(format!(
            "{} changed while it was in use; start again with files that stay as they are",
            path.display()
        )))
    }
}

/// What is kept of one file.
#[derive(Debug)]
pub(crate) struct KeptFile {
    size: u64,
    modified: Option<SystemTime>,
    blocks: Vec<OnceLock<Box<[u8]>>>,
    /// Held by whoever reads a block to be kept: others wait rather than read it too.
    loading: Mutex<()>,
    account: Arc<Account>,
}

impl KeptFile {
    /// Fills `buffer` from `offset` on, from what is kept or with `read`, which reads from the disk.
    ///
    /// # Errors
    /// Those of `read`.
    pub(crate) fn read_at(
        &self,
        mut buffer: &mut [u8],
        mut offset: u64,
        read: impl Fn(&mut [u8], u64) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let read = |buffer: &mut [u8], offset| {
            read(buffer, offset)?;
            self.account.read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
            Ok(())
        };
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > self.size) {
            // it says what is wrong
            return read(buffer, offset);
        }
        while !buffer.is_empty() {
            let block = offset / BLOCK;
            let (start, end) = (block * BLOCK, self.size.min((block + 1) * BLOCK));
            let (now, later) = buffer.split_at_mut(buffer.len().min((end - offset) as usize));
            match self.block(block as usize, start, end, read)? {
                Some(bytes) => now.copy_from_slice(&bytes[(offset - start) as usize..][..now.len()]),
                None => read(now, offset)?,
            }
            offset += now.len() as u64;
            buffer = later;
        }
        Ok(())
    }

    /// A block, read if it has not been and there is room; `None` where there is none.
    fn block(
        &self,
        block: usize,
        start: u64,
        end: u64,
        read: impl Fn(&mut [u8], u64) -> Result<(), DataError>,
    ) -> Result<Option<&[u8]>, DataError> {
        let block = &self.blocks[block];
        if let Some(bytes) = block.get() {
            return Ok(Some(bytes));
        }
        let _loading = locked(&self.loading);
        if let Some(bytes) = block.get() {
            return Ok(Some(bytes));
        }
        let length = end - start;
        let take = |left: u64| left.checked_sub(length);
        if self.account.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(length as usize).is_err() {
            // nor will there be memory for others
            self.account.left.store(0, Ordering::Relaxed);
            return Ok(None);
        }
        bytes.resize(length as usize, 0);
        read(&mut bytes, start).inspect_err(|_| {
            self.account.left.fetch_add(length, Ordering::Relaxed);
        })?;
        Ok(Some(block.get_or_init(|| bytes.into_boxed_slice())))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::RefCell;

    fn bytes(size: usize) -> Vec<u8> {
        (0..size).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn gives_what_the_disk_has_and_reads_it_once_where_it_fits(
            size in 0usize..3 * BLOCK as usize + 7,
            reads in prop::collection::vec((0.0..1.0f64, 0.0..1.0f64), 0..12),
            limit in prop::sample::select(vec![0, BLOCK, 2 * BLOCK + 5, u64::MAX]),
        ) {
            let disk = bytes(size);
            let kept = KeptFiles::new(limit);
            let file = kept.file(Path::new("no such file"), size as u64, None).unwrap();
            let times = RefCell::new(vec![0; size]);
            let read = |buffer: &mut [u8], offset: u64| {
                let range = offset as usize..offset as usize + buffer.len();
                times.borrow_mut()[range.clone()].iter_mut().for_each(|times| *times += 1);
                buffer.copy_from_slice(&disk[range]);
                Ok(())
            };
            for (from, to) in reads {
                let start = (from * size as f64) as usize;
                let length = (to * (size - start) as f64) as usize;
                let mut buffer = vec![0; length];
                file.read_at(&mut buffer, start as u64, read).unwrap();
                prop_assert_eq!(&buffer, &disk[start..start + length]);
            }
            let times = times.into_inner();
            prop_assert_eq!(kept.bytes_read(), times.iter().sum::<u64>());
            if limit >= size as u64 {
                prop_assert!(times.iter().all(|&times| times <= 1));
            }
        }
    }

    #[test]
    fn keeps_nothing_of_a_failure() {
        let kept = KeptFiles::new(BLOCK);
        let file = kept.file(Path::new("no such file"), 10, None).unwrap();
        let mut buffer = [1; 4];
        let refused = file.read_at(&mut buffer, 0, |_, _| Err(DataError::refused("gone")));
        assert_eq!(refused.unwrap_err().to_string(), "gone");
        let fill = |buffer: &mut [u8], _| {
            buffer.fill(7);
            Ok(())
        };
        file.read_at(&mut buffer, 0, fill).unwrap();
        assert_eq!((buffer, kept.bytes_read()), ([7; 4], 10));
        // the room that the failure had taken was given back
        assert_eq!(kept.account.left.load(Ordering::Relaxed), BLOCK - 10);
    }

    #[test]
    fn a_file_that_changes_is_refused_and_what_lies_beyond_it_is_asked_of_the_disk() {
        let kept = KeptFiles::new(BLOCK);
        let file = kept.file(Path::new("no such file"), 10, None).unwrap();
        let error = kept.file(Path::new("no such file"), 11, None).unwrap_err();
        assert_eq!(error.code(), "CORRUPT_FILE");
        let beyond = file.read_at(&mut [0; 4], 8, |_, _| Err(DataError::corrupt("ends before")));
        assert_eq!(beyond.unwrap_err().to_string(), "ends before");
    }
}
