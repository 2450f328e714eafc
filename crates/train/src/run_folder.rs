//! The folder of a training: its model, its checkpoints and what it told.

use crate::{Event, TrainError, TrainOptions};
use bae_data::{
    DataError, FolderLock, PREFIX, StoredCheckpoint, Values, check_output, delete, delete_leftovers,
    install_model, read_checkpoint, read_summed_model, write_checkpoint, write_model, write_summed_model,
};
use bae_model::{Architecture, Parameters};
use serde_json::{Map, Value, json};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const CHECKPOINTS: &str = "checkpoints";
const METRICS: &str = "metrics.jsonl";
const STEP: &str = "step-";
const BEST: &str = "best-";
/// Temporary names in the folder itself, where others may write too.
const RUN_PREFIX: &str = ".bae-run-";

/// The folder `--out`, held against other trainings as long as this lives.
///
/// ```text
/// sae_weights.safetensors, cfg.json   the model, once there is one to keep
/// metrics.jsonl                       every event, one line each
/// checkpoints/step-000000420/         the last ones: each a model folder, with all that going on needs
/// checkpoints/best-000000063/         the best model before each of them
/// ```
pub(crate) struct RunFolder {
    dir: PathBuf,
    /// Open once the training has begun.
    metrics: Option<File>,
    /// Bytes of `metrics` that are whole lines.
    told: u64,
    /// Whether what could not be written was told of.
    silent: bool,
    /// Made by this training, which has not taken a step yet: it goes away if that stays so.
    fresh: bool,
    keep: usize,
    _lock: FolderLock,
}

impl RunFolder {
    /// Takes the folder that the options name.
    ///
    /// # Errors
    /// `IO` if another training holds it, if it holds something that `options` do not say what to do with, or if it cannot be written.
    pub fn take(dir: &Path, options: &TrainOptions) -> Result<Self, TrainError> {
        let mut fresh = false;
        if !dir.exists() {
            check_output(dir, options.overwrite)?;
            match fs::create_dir(dir) {
                Ok(()) => fresh = true,
                // somebody else was faster: the lock decides
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(cannot_write(dir, error).into()),
            }
        }
        if !fresh && !dir.join(FolderLock::FILE).exists() {
            // nothing is made in a folder that is somebody else's
            Self::check(dir, options)?;
        }
        let lock = FolderLock::take(dir).inspect_err(|_| {
            if fresh {
                let _ = fs::remove_dir(dir);
            }
        })?;
        let (dir, keep) = (dir.to_owned(), options.keep_checkpoints);
        let folder = Self { dir, metrics: None, told: 0, silent: false, fresh, keep, _lock: lock };
        if !fresh {
            // the one that had it may have changed it
            Self::check(&folder.dir, options)?;
        }
        Ok(folder)
    }

    /// Begins to write: with `overwrite`, what an earlier training left is deleted first, and nothing else.
    ///
    /// # Errors
    /// `IO`.
    pub fn begin(&mut self, overwrite: bool) -> Result<(), TrainError> {
        delete_leftovers(&self.dir, RUN_PREFIX);
        delete_leftovers(&self.dir.join(CHECKPOINTS), PREFIX);
        let metrics = self.dir.join(METRICS);
        if overwrite {
            let steps = numbered(&self.dir, STEP);
            for (_, path) in steps.into_iter().chain(numbered(&self.dir, BEST)) {
                delete(&path)?;
            }
            remove_file(&metrics)?;
            crate::board::delete_files(&self.dir)?;
            for made in [CHECKPOINTS, crate::board::FOLDER] {
                // stays where there is something else in it
                let _ = fs::remove_dir(self.dir.join(made));
            }
        }
        let (opened, told) = open_lines(&metrics).map_err(|error| cannot_write(&metrics, error))?;
        (self.metrics, self.told) = (Some(opened), told);
        Ok(())
    }

    /// Says no to a folder that holds what these options do not ask for.
    fn check(dir: &Path, options: &TrainOptions) -> Result<(), DataError> {
        let begun = dir.join(CHECKPOINTS).exists() || dir.join(METRICS).exists();
        let model = dir.join("cfg.json").exists();
        let resumable = !checkpoints(dir).is_empty();
        let shown = dir.display();
        if !dir.is_dir() {
            return check_output(dir, options.overwrite);
        }
        if options.overwrite {
            return Ok(());
        }
        if options.resume && begun && (resumable || !model) {
            return Ok(());
        }
        if options.resume && model {
            return Err(DataError::refused(format!(
                "{shown} holds a model, and no checkpoint to go on from; pass --overwrite instead of --resume to train it anew, \
                 or choose another --out"
            )));
        }
        if begun {
            let what = if model { "a model" } else { "a training" };
            let resume = if resumable { "--resume to go on with its training, " } else { "" };
            return Err(DataError::refused(format!(
                "{shown} already holds {what}; pass {resume}--overwrite to start anew, or choose another --out"
            )));
        }
        let others = fs::read_dir(dir).into_iter().flatten().flatten();
        let empty = others.into_iter().all(|entry| entry.file_name() == FolderLock::FILE);
        if empty { Ok(()) } else { check_output(dir, false) }
    }

    /// Where the folder lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Says that something was done that is worth keeping.
    pub fn keep(&mut self) {
        self.fresh = false;
    }

    /// Appends an event to `metrics.jsonl`, which is with the system when this returns.
    ///
    /// # Errors
    /// The first time that it cannot be written; later failures are silent.
    pub fn record(&mut self, event: &Event) -> Result<(), DataError> {
        let mut line = json!({ "time": seconds_since_1970() });
        if let (Value::Object(line), Ok(Value::Object(event))) = (&mut line, serde_json::to_value(event)) {
            line.extend(event);
        }
        let line = format!("{line}\n");
        let Some(metrics) = &mut self.metrics else { return Ok(()) };
        let Err(error) = metrics.write_all(line.as_bytes()) else {
            self.told += line.len() as u64;
            return Ok(());
        };
        // a line is there as a whole or not at all: others follow when there is space again
        let _ = metrics.set_len(self.told);
        if std::mem::replace(&mut self.silent, true) {
            return Ok(());
        }
        Err(cannot_write(&self.dir.join(METRICS), error))
    }

    /// The last checkpoint, found sound; `None` where there is none.
    ///
    /// # Errors
    /// `CORRUPT_FILE` if it is damaged, with the one before that is sound.
    pub fn last_checkpoint(&self) -> Result<Option<StoredCheckpoint>, TrainError> {
        let all = checkpoints(&self.dir);
        let Some((_, path)) = all.first() else { return Ok(None) };
        match self.sound(path) {
            Ok(checkpoint) => Ok(Some(checkpoint)),
            Err(error) => {
                let sound = all[1..].iter().find(|(_, path)| self.sound(path).is_ok());
                let advice = match sound {
                    Some((step, _)) => {
                        format!("the one before, of step {step}, is sound: delete {} to go on from it", path.display())
                    }
                    None => {
                        "there is no sound one before it: start anew with --overwrite, or choose another --out".into()
                    }
                };
                Err(DataError::CorruptFile(format!("{error}; {advice}")).into())
            }
        }
    }

    /// A checkpoint and the best model that it names, each as it was written.
    fn sound(&self, path: &Path) -> Result<StoredCheckpoint, DataError> {
        let checkpoint = read_checkpoint(path)?;
        let progress = checkpoint.state.get("progress");
        let step_of = |value: Option<&Value>| value.and_then(|value| value.get("step")?.as_u64());
        let (step, best) = (step_of(progress), step_of(progress.and_then(|progress| progress.get("best"))));
        if let Some(best) = best.filter(|_| best != step) {
            read_summed_model(&self.best_of(best as usize)).map_err(|error| {
                DataError::CorruptFile(format!(
                    "{}: the best model before it is not sound: {error}",
                    path.display()
                ))
            })?;
        }
        Ok(checkpoint)
    }

    fn best_of(&self, step: usize) -> PathBuf {
        self.dir.join(CHECKPOINTS).join(format!("{BEST}{step:09}"))
    }

    /// The folder of the checkpoint of a step.
    pub fn checkpoint_of(&self, step: usize) -> PathBuf {
        self.dir.join(CHECKPOINTS).join(format!("{STEP}{step:09}"))
    }

    /// Writes a checkpoint and the best model before it, and deletes those that are no longer to be kept.
    ///
    /// # Errors
    /// Those of writing; what was there before is then there still.
    pub fn checkpoint(&mut self, step: usize, saved: &Saved) -> Result<PathBuf, TrainError> {
        let parent = self.dir.join(CHECKPOINTS);
        fs::create_dir_all(&parent).map_err(|error| cannot_write(&parent, error))?;
        if let Some((best_step, best)) = saved.best {
            let path = self.best_of(best_step);
            if !path.exists() {
                write_summed_model(&path, saved.architecture, best, saved.config)?;
            }
        }
        let path = self.checkpoint_of(step);
        write_checkpoint(
            &path,
            (saved.architecture, saved.model, saved.config),
            &saved.tensors,
            &saved.state,
        )?;
        let _ = self.metrics.as_ref().map(File::sync_data);
        self.prune();
        Ok(path)
    }

    /// Reads the best model before a checkpoint.
    ///
    /// # Errors
    /// Those of reading.
    pub fn best(&self, step: usize) -> Result<Parameters, TrainError> {
        Ok(read_summed_model(&self.best_of(step))?)
    }

    /// Whether there are checkpoints.
    pub fn has_checkpoints(&self) -> bool {
        !checkpoints(&self.dir).is_empty()
    }

    /// Puts the model into the folder.
    ///
    /// # Errors
    /// Those of writing.
    pub fn install(
        &mut self,
        architecture: &Architecture,
        model: &Parameters,
        settings: &Map<String, Value>,
    ) -> Result<(), TrainError> {
        Ok(install_model(&self.dir, RUN_PREFIX, |new| write_model(new, architecture, model, settings))?)
    }

    fn prune(&self) {
        let all = checkpoints(&self.dir);
        let (kept, old) = all.split_at(all.len().min(self.keep));
        let bests = numbered(&self.dir, BEST);
        // a checkpoint's best model is the last one before it, or it was itself found to be the best only later
        let last = |step: usize, or_at: bool| {
            bests.iter().map(|(best, _)| *best).filter(|&best| best < step || or_at && best == step).max()
        };
        let needed = |best: usize| {
            kept.iter().any(|(step, _)| last(*step, true) == Some(best) || last(*step, false) == Some(best))
        };
        let unneeded = bests.iter().filter(|(best, _)| !needed(*best));
        // what cannot be deleted is deleted next time
        old.iter().chain(unneeded).for_each(|(_, path)| drop(delete(path)));
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        if self.fresh {
            let _ = fs::remove_file(self.dir.join(METRICS));
            let _ = fs::remove_dir_all(self.dir.join(crate::board::FOLDER));
            let _ = fs::remove_file(self.dir.join(FolderLock::FILE));
            let _ = fs::remove_dir(&self.dir);
        }
    }
}

/// What a checkpoint is made of.
pub(crate) struct Saved<'a> {
    /// What the model is applied as.
    pub architecture: &'a Architecture,
    /// The model as it is, taking raw hidden states.
    pub model: &'a Parameters,
    /// The best model so far, with its step.
    pub best: Option<(usize, &'a Parameters)>,
    /// What `cfg.json` says of both.
    pub config: &'a Map<String, Value>,
    /// The state's tensors.
    pub tensors: Vec<(String, Vec<usize>, Values<'a>)>,
    /// The rest of it.
    pub state: Map<String, Value>,
}

/// Deletes a file, if there is one.
///
/// # Errors
/// `IO`.
pub(crate) fn remove_file(path: &Path) -> Result<(), DataError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DataError::io("delete", path, error, "check its permissions"))
        }
        _ => Ok(()),
    }
}

/// Steps and folders of the checkpoints, the last one first.
fn checkpoints(dir: &Path) -> Vec<(usize, PathBuf)> {
    numbered(dir, STEP)
}

fn numbered(dir: &Path, prefix: &str) -> Vec<(usize, PathBuf)> {
    let entries = fs::read_dir(dir.join(CHECKPOINTS)).into_iter().flatten().flatten();
    let mut found: Vec<(usize, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            Some((name.to_str()?.strip_prefix(prefix)?.parse().ok()?, entry.path()))
        })
        .collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found
}

/// Opens a file of lines for appending, and gives its bytes; a last line that a crash cut short is ended.
fn open_lines(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
    if file.metadata()?.len() > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

fn cannot_write(path: &Path, error: io::Error) -> DataError {
    DataError::io("write", path, error, "check its permissions and the space left, or choose another --out")
}

fn seconds_since_1970() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| (time.as_secs_f64() * 1e3).round() / 1e3)
}
