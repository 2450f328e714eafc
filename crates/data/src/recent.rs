use std::sync::{Arc, Mutex, PoisonError};

use crate::column::Column;
use crate::input_file::InputFile;

/// What was decoded last, of all files that are opened together: one of the hidden states and one of each column, so that
/// memory does not grow with the number of files. Their memory is used again for the next file.
pub(crate) struct Recent<T> {
    slots: [Slot<T>; 1 + Column::ALL.len()],
}

type Slot<T> = Mutex<Option<(Arc<InputFile>, T)>>;

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { slots: Default::default() }
    }
}

impl<T> Recent<T> {
    /// Calls `work` on what was decoded last, of the hidden states (`None`) or of a column, and whether it was of this
    /// `file`; keeps it if `work` succeeds. Readers wait for each other.
    pub(crate) fn with<R, E>(
        &self,
        file: &Arc<InputFile>,
        column: Option<Column>,
        work: impl FnOnce(Option<(bool, T)>) -> Result<(T, R), E>,
    ) -> Result<R, E> {
        let slot = &self.slots[column.map_or(0, |column| 1 + column as usize)];
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let last = slot.take().map(|(of, last)| (Arc::ptr_eq(&of, file), last));
        let (last, result) = work(last)?;
        *slot = Some((file.clone(), last));
        Ok(result)
    }
}
