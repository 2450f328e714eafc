use crate::codes::Codes;
use crate::error::Failure;
use crate::job::{self, Context, End, Events, Job};
use crate::states::{Chosen, Held, States};
use crate::statistics::Grouping;
use bae_codes::BitMatrix;
use bae_data::{CodesWriter, LoadedModel, export_model, load_model, save_model};
use bae_gpu::Widths;
use bae_model::{Architecture, Backend, Cpu, Parameters, Precision, Sae};
use bae_train::{
    Applied, Engine, EvaluationOptions, MAX_THREADS, Task, Wanted, applied_chunks, encode_chunks,
    evaluate_with_controls, yardsticks,
};
use napi::bindgen_prelude::*;
use napi_derive::napi;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Where a call computes.
#[derive(Clone)]
#[napi(object, object_to_js = false)]
pub struct Place {
    /// `auto`, `cpu`, `gpu`, or a device by index or name.
    pub device: String,
    /// Threads; 0 for one for each physical core.
    pub threads: u32,
}

/// A model's parameters on the CPU, in the engine for its codes.
enum OnCpu {
    Bits(Box<Cpu>),
    Values(Box<Sae>),
}

impl OnCpu {
    fn d_in(&self) -> usize {
        match self {
            Self::Bits(cpu) => cpu.d_in(),
            Self::Values(sae) => sae.d_in(),
        }
    }

    fn d_sae(&self) -> usize {
        match self {
            Self::Bits(cpu) => cpu.d_sae(),
            Self::Values(sae) => sae.d_sae(),
        }
    }

    fn d_out(&self) -> usize {
        match self {
            Self::Bits(cpu) => cpu.d_out(),
            Self::Values(sae) => sae.d_out(),
        }
    }

    fn parameters(&self) -> Parameters {
        match self {
            Self::Bits(cpu) => cpu.parameters(),
            Self::Values(sae) => sae.parameters(),
        }
    }

    fn with_threads(&self, threads: usize) -> Box<dyn Backend> {
        match self {
            Self::Bits(cpu) => Box::new(cpu.with_threads(threads)),
            Self::Values(sae) => Box::new(sae.with_threads(threads)),
        }
    }
}

/// A model in memory with the settings that `cfg.json` holds.
pub struct Loaded {
    cpu: OnCpu,
    architecture: Architecture,
    layer_norm: bool,
    config: Map<String, Value>,
}

impl Loaded {
    /// A model on all threads of the machine.
    pub fn new(model: LoadedModel) -> Self {
        let LoadedModel { parameters, architecture, layer_norm, config } = model;
        let cpu = match architecture.kind() {
            None => OnCpu::Bits(Box::new(Cpu::new(&parameters, 0))),
            Some(_) => OnCpu::Values(Box::new(Sae::new(&parameters, 0))),
        };
        Self { cpu, architecture, layer_norm, config }
    }

    fn task(&self) -> Task {
        let widths = Widths { d_in: self.cpu.d_in(), d_sae: self.cpu.d_sae(), d_out: self.cpu.d_out() };
        Task { architecture: self.architecture, precision: Precision::F32, rows: 1, widths }
    }

    /// The model where it is asked for.
    pub fn on(&self, Place { device, threads }: Place) -> std::result::Result<Applied, Failure> {
        let threads = threads as usize;
        if threads > MAX_THREADS {
            let message = format!("threads is {threads}: it must be at most {MAX_THREADS}");
            return Err(Failure { code: "INVALID_ARGUMENT", message });
        }
        let engine = Engine::choose(&device.into(), threads, self.task())?;
        let backend = if engine.is_gpu() {
            engine.applied(&self.architecture, &self.cpu.parameters())?
        } else {
            self.cpu.with_threads(threads)
        };
        Ok(Applied { backend, architecture: self.architecture, layer_norm: self.layer_norm })
    }

    /// Opens hidden states that this model can take, and chooses rows.
    pub fn open(&self, states: Held, context: &Context) -> std::result::Result<Chosen, Failure> {
        let chosen = states.choose(context)?;
        self.takes(&chosen, "the model")?;
        Ok(chosen)
    }

    /// Whether it makes targets of hidden states, not the hidden states again.
    fn is_transcoder(&self) -> bool {
        self.config.contains_key("d_out")
    }

    /// The same with what the model is to make of them: targets for a transcoder, nothing more for an autoencoder.
    fn open_to_measure(
        &self,
        states: Held,
        target: Option<Held>,
        context: &Context,
    ) -> std::result::Result<Chosen, Failure> {
        let refuse = |message: &str| Err(Failure { code: "INVALID_ARGUMENT", message: message.into() });
        match (self.is_transcoder(), target.is_some()) {
            (true, false) => {
                return refuse("the model is a transcoder: give target, what it is to make of the data");
            }
            (false, true) => {
                return refuse("the model gives back the data itself, and takes no target: leave target out");
            }
            _ => {}
        }
        let chosen = self.open(states.with_target(target), context)?;
        chosen.data.require_d_out(self.cpu.d_out(), "the model")?;
        Ok(chosen)
    }

    /// Refuses hidden states that this model, called `name`, cannot take.
    pub fn takes(&self, chosen: &Chosen, name: &str) -> std::result::Result<(), Failure> {
        Ok(chosen.data.require_d_in(self.cpu.d_in(), name)?)
    }
}

/// A trained Binary Autoencoder that takes raw hidden states.
#[napi]
pub struct Model {
    loaded: Mutex<Option<Arc<Loaded>>>,
}

impl From<Arc<Loaded>> for Model {
    fn from(loaded: Arc<Loaded>) -> Self {
        Self { loaded: Mutex::new(Some(loaded)) }
    }
}

impl Model {
    /// The model, unless disposed.
    pub fn get(&self) -> std::result::Result<Arc<Loaded>, Failure> {
        let loaded = self.loaded.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        loaded.clone().ok_or_else(|| Failure::disposed("model"))
    }
}

#[napi]
impl Model {
    /// Width of a hidden state.
    #[napi(getter, catch_unwind)]
    pub fn d_in(&self) -> Result<u32, &'static str> {
        Ok(self.get()?.cpu.d_in() as u32)
    }

    /// Number of features.
    #[napi(getter, catch_unwind)]
    pub fn d_sae(&self) -> Result<u32, &'static str> {
        Ok(self.get()?.cpu.d_sae() as u32)
    }

    /// Width of what the model makes of a hidden state.
    #[napi(getter, catch_unwind)]
    pub fn d_out(&self) -> Result<u32, &'static str> {
        Ok(self.get()?.cpu.d_out() as u32)
    }

    /// The text of cfg.json.
    #[napi(getter, catch_unwind)]
    pub fn config(&self) -> Result<String, &'static str> {
        Ok(Value::Object(self.get()?.config.clone()).to_string())
    }

    /// Frees the parameters once no running job needs them.
    #[napi(catch_unwind)]
    pub fn dispose(&self) {
        self.loaded.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    }
}

/// Reads a model folder.
#[napi(catch_unwind)]
pub fn start_load(
    dir: String,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    job::start(on_event, move |context| {
        let model = load_model(Path::new(&dir))?;
        context.leave(|output| output.model = Some(Arc::new(Loaded::new(model))));
        Ok(End::Done(json!({ "model": dir })))
    })
}

/// Writes a model folder, in the format of another tool if one is named.
#[napi(catch_unwind)]
pub fn start_save(
    model: &Model,
    dir: String,
    format: Option<String>,
    overwrite: bool,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    let model = model.get()?;
    job::start(on_event, move |_| {
        let (path, parameters) = (Path::new(&dir), model.cpu.parameters());
        let Loaded { architecture, layer_norm, config, .. } = &*model;
        match format {
            None => save_model(path, architecture, &parameters, config, overwrite)?,
            Some(format) => {
                let (architecture, layer_norm, config) = (*architecture, *layer_norm, config.clone());
                let model = LoadedModel { parameters, architecture, layer_norm, config };
                export_model(path, format.parse()?, &model, overwrite)?;
            }
        }
        Ok(End::Done(json!({ "model": dir })))
    })
}

/// Encodes hidden states into codes in memory.
#[napi(catch_unwind)]
pub fn start_encode(
    model: &Model,
    states: States,
    place: Place,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    let (model, states) = (model.get()?, states.hold()?);
    job::start(on_event, move |context| {
        let chosen = model.open(states, context)?;
        let rows = chosen.rows.count();
        let mut all = BitMatrix::with_room(rows, model.cpu.d_sae()).ok_or_else(|| Failure {
            code: "OUT_OF_MEMORY",
            message: format!("the codes of {rows} rows do not fit in memory; encode to a file"),
        })?;
        encode_chunks(&model.on(place)?, &chosen.feed(), |done, x, codes| {
            all.append(&codes).expect("codes of one model");
            Ok(context.rows(done + x.nrows(), rows))
        })?;
        context.leave(|output| output.codes = Some(all));
        Ok(End::Done(json!({ "rows": rows, "dSae": model.cpu.d_sae() })))
    })
}

/// Encodes hidden states into a codes file, chunk by chunk.
#[napi(catch_unwind)]
pub fn start_encode_file(
    model: &Model,
    states: States,
    out: String,
    model_name: String,
    overwrite: bool,
    place: Place,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    let (model, states) = (model.get()?, states.hold()?);
    job::start(on_event, move |context| {
        let chosen = model.open(states, context)?;
        let rows = chosen.rows.count();
        let d_sae = model.cpu.d_sae();
        let mut file = CodesWriter::create(Path::new(&out), d_sae, rows, &model_name, overwrite)?;
        encode_chunks(&model.on(place)?, &chosen.feed(), |done, x, codes| {
            file.append(&codes)?;
            Ok(context.rows(done + x.nrows(), rows))
        })?;
        file.finish()?;
        Ok(End::Done(chosen.complete(json!({ "rows": rows, "dSae": d_sae, "out": out }))))
    })
}

/// Reconstructs hidden states from codes.
#[napi(catch_unwind)]
pub fn start_decode(
    model: &Model,
    codes: &Codes,
    place: Place,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    let (model, codes) = (model.get()?, codes.get()?);
    job::start(on_event, move |context| {
        let (engine, d_out) = (model.on(place)?, model.cpu.d_out());
        let mut values = vec![];
        values.try_reserve_exact(codes.rows().saturating_mul(d_out)).map_err(|_| Failure {
            code: "OUT_OF_MEMORY",
            message: format!(
                "{} rows of {d_out} values do not fit in memory; decode fewer at once",
                codes.rows()
            ),
        })?;
        for rows in codes.chunks(2048) {
            let decoded =
                engine.backend.decode(&model.architecture, &rows).map_err(bae_train::TrainError::from)?;
            values.extend(decoded);
            if !context.rows(values.len() / d_out, codes.rows()) {
                return Ok(End::Cancelled(json!({})));
            }
        }
        context.leave(|output| output.values = Some(values));
        Ok(End::Done(json!({ "rows": codes.rows(), "dOut": d_out })))
    })
}

/// Codes with their values, `[rows, d_sae]`.
#[napi(catch_unwind)]
pub fn start_activations(
    model: &Model,
    states: States,
    place: Place,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    apply(model, states, place, on_event, Wanted::Activations)
}

/// Reconstructions, `[rows, d_out]`.
#[napi(catch_unwind)]
pub fn start_reconstruct(
    model: &Model,
    states: States,
    place: Place,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    apply(model, states, place, on_event, Wanted::Reconstruction)
}

fn apply(
    model: &Model,
    states: States,
    place: Place,
    on_event: Events,
    wanted: Wanted,
) -> Result<Job, &'static str> {
    let (model, states) = (model.get()?, states.hold()?);
    job::start(on_event, move |context| {
        let chosen = model.open(states, context)?;
        let rows = chosen.rows.count();
        let width = match wanted {
            Wanted::Activations => model.cpu.d_sae(),
            Wanted::Reconstruction => model.cpu.d_out(),
        };
        let mut all = vec![];
        all.try_reserve_exact(rows.saturating_mul(width)).map_err(|_| Failure {
            code: "OUT_OF_MEMORY",
            message: format!("{rows} rows of {width} values do not fit in memory; give fewer at once"),
        })?;
        applied_chunks(&model.on(place)?, &chosen.feed(), wanted, |values| {
            all.extend(values);
            Ok(context.rows(all.len() / width, rows))
        })?;
        context.leave(|output| output.values = Some(all));
        Ok(End::Done(json!({ "rows": rows, "width": width })))
    })
}

/// Measures reconstruction and codes over all rows, and over groups of them, beside controls; of a transcoder, how well it makes `target`
/// of them.
#[napi(catch_unwind)]
pub fn start_evaluate(
    model: &Model,
    states: States,
    target: Option<States>,
    grouping: Grouping,
    place: Place,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    let (model, states) = (model.get()?, states.hold()?);
    let target = target.map(States::hold).transpose()?;
    job::start(on_event, move |context| {
        let options = EvaluationOptions { by: grouping.by()?, threads: place.threads as usize };
        let chosen = model.open_to_measure(states, target, context)?;
        let measured = evaluate_with_controls(
            &model.on(place)?,
            &chosen.data,
            &chosen.rows,
            &options,
            |done, total| context.rows(done, total),
        )?;
        Ok(End::Done(chosen.complete(serde_json::to_value(measured).expect("plain numbers"))))
    })
}

/// Measures hidden states beside what the model makes of them.
#[napi(catch_unwind)]
pub fn start_yardsticks(
    model: &Model,
    states: States,
    place: Place,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    let (model, states) = (model.get()?, states.hold()?);
    job::start(on_event, move |context| {
        if model.is_transcoder() {
            let message = "the model is a transcoder, and yardsticks are of codes that give back the data: leave them out";
            return Err(Failure { code: "INVALID_ARGUMENT", message: message.into() });
        }
        let chosen = model.open(states, context)?;
        let rows = chosen.rows.count();
        let measured = yardsticks(&model.on(place)?, &chosen.feed(), |done| context.rows(done, rows))?;
        Ok(End::Done(serde_json::to_value(measured).expect("plain numbers")))
    })
}
