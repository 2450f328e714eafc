//! One opened device: its queue, its pipelines, and whether it is still there.

use crate::adapters::AdapterReport;
use crate::shaders::{Access, Form, Shader};
use bae_model::{ModelError, quietly};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// A device that is ready for work. Pipelines are built when first needed and kept.
pub struct Device {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    report: AdapterReport,
    failure: Arc<Mutex<Option<ModelError>>>,
    pipelines: Mutex<Pipelines>,
}

/// By the name of the shader, and for products their form.
type Pipelines = HashMap<(&'static str, Option<Form>), Arc<Pipeline>>;

/// A shader that is ready to run.
pub(crate) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Device {
    /// Opens the adapter's device with all that the adapter allows.
    ///
    /// # Errors
    /// [`ModelError::Unavailable`] if the driver refuses.
    pub(crate) fn open(adapter: &wgpu::Adapter, report: AdapterReport) -> Result<Self, ModelError> {
        let binding = report.max_binding_bytes;
        let wanted = wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::SHADER_F16;
        let request = adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("binary-autoencoder"),
            required_features: adapter.features() & wanted,
            required_limits: wgpu::Limits { max_storage_buffer_binding_size: binding, ..adapter.limits() },
            memory_hints: wgpu::MemoryHints::Performance,
            ..Default::default()
        });
        let (device, queue) = pollster::block_on(request).map_err(|error| {
            let message = format!("{} does not start: {}", report.name, one_line(&error.to_string()));
            ModelError::Unavailable(message)
        })?;
        let failure = Arc::new(Mutex::new(None));
        let (lost, name) = (failure.clone(), report.name.clone());
        device.set_device_lost_callback(move |_, message| {
            let message = format!("{name} stopped answering ({})", one_line(&message));
            locked(&lost).get_or_insert(ModelError::DeviceLost(message));
        });
        let failed = failure.clone();
        // the default handler panics
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            locked(&failed).get_or_insert(of_wgpu(&error));
        }));
        Ok(Self { device, queue, report, failure, pipelines: Mutex::default() })
    }

    /// What the adapter is.
    pub fn report(&self) -> &AdapterReport {
        &self.report
    }

    /// The first thing that went wrong outside of what was watched, if anything did: the device is then of no use any more.
    pub fn failure(&self) -> Option<ModelError> {
        locked(&self.failure).clone()
    }

    /// Gives the device up, as if it had been lost: for tests.
    pub fn lose(&self) {
        self.device.destroy();
        let _ = self.device.poll(wgpu::PollType::Poll);
        let name = &self.report.name;
        locked(&self.failure).get_or_insert(ModelError::DeviceLost(format!("{name} was given up")));
    }

    /// Runs `work`; wgpu panics where a driver fails in a way that it has no error for, most often because the device is lost.
    fn guarded<T>(&self, work: impl FnOnce() -> T) -> Result<T, ModelError> {
        quietly(work).map_err(|said| {
            let said = one_line(&said);
            let lost = || ModelError::DeviceLost(format!("{}: {said}", self.report.name));
            locked(&self.failure).get_or_insert_with(lost).clone()
        })
    }

    /// Runs `work` and returns what went wrong in it.
    pub(crate) fn watched<T>(&self, work: impl FnOnce() -> T) -> Result<T, ModelError> {
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        self.guarded(|| self.scoped(work))?
    }

    fn scoped<T>(&self, work: impl FnOnce() -> T) -> Result<T, ModelError> {
        let filters =
            [wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Validation];
        let scopes = filters.map(|filter| self.device.push_error_scope(filter));
        let result = work();
        let mut first = None;
        for scope in scopes.into_iter().rev() {
            let error = pollster::block_on(scope.pop());
            first = first.or(error);
        }
        match first {
            Some(error) => Err(self.failure().unwrap_or_else(|| of_wgpu(&error))),
            None => Ok(result),
        }
    }

    /// The pipeline of a shader, built at its first use.
    pub(crate) fn pipeline(&self, shader: &Shader, form: Option<Form>) -> Result<Arc<Pipeline>, ModelError> {
        let key = (shader.name, form);
        if let Some(pipeline) = locked(&self.pipelines).get(&key) {
            return Ok(pipeline.clone());
        }
        let pipeline = Arc::new(self.watched(|| self.build(shader, form))?);
        locked(&self.pipelines).insert(key, pipeline.clone());
        Ok(pipeline)
    }

    fn build(&self, shader: &Shader, form: Option<Form>) -> Pipeline {
        let label = Some(shader.name);
        let source = wgpu::ShaderSource::Wgsl(shader.source(form).into());
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor { label, source });
        let entry = |binding: usize, ty| wgpu::BindGroupLayoutEntry {
            binding: binding as u32,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
            count: None,
        };
        let storage =
            |access: &Access| wgpu::BufferBindingType::Storage { read_only: *access == Access::Read };
        let entries: Vec<_> = std::iter::once(entry(0, wgpu::BufferBindingType::Uniform))
            .chain(shader.access.iter().enumerate().map(|(at, access)| entry(at + 1, storage(access))))
            .collect();
        let layout = self
            .device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            // one invocation would do it while all others wait; no shader reads what it has not written
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        Pipeline { pipeline, layout }
    }

    /// Memory on the device, all 0.
    ///
    /// # Errors
    /// [`ModelError::DeviceMemory`] if it has no more.
    pub(crate) fn buffer(&self, name: &str, bytes: u64) -> Result<wgpu::Buffer, ModelError> {
        use wgpu::BufferUsages as Usage;
        self.allocate(name, bytes, Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST)
    }

    pub(crate) fn allocate(
        &self,
        name: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, ModelError> {
        let limit = self.device.limits().max_buffer_size;
        // bindings are whole words, and none is empty
        let size = bytes.next_multiple_of(16).max(16);
        if size > limit {
            return Err(ModelError::Unavailable(format!(
                "{name} takes {size} bytes, and {} holds at most {limit} together; choose a smaller batch or model, or the CPU",
                self.report.name
            )));
        }
        let descriptor = wgpu::BufferDescriptor { label: Some(name), size, usage, mapped_at_creation: false };
        self.watched(|| self.device.create_buffer(&descriptor)).map_err(|error| match error {
            ModelError::DeviceMemory(_) => ModelError::DeviceMemory(format!(
                "{} has no {size} bytes left for {name}; choose a smaller batch or model, or the CPU",
                self.report.name
            )),
            other => other,
        })
    }

    /// Copies buffers to memory: all that was submitted before is done then.
    pub(crate) fn download(
        &self,
        buffer: &wgpu::Buffer,
        bytes: u64,
        out: &mut [u8],
    ) -> Result<(), ModelError> {
        // in pieces: what the driver maps is memory of its own
        const PIECE: u64 = 1 << 26;
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.allocate("a copy", bytes.min(PIECE), usage)?;
        let mut start = 0;
        while start < bytes {
            let length = PIECE.min(bytes - start);
            self.watched(|| {
                let mut encoder = self.device.create_command_encoder(&Default::default());
                encoder.copy_buffer_to_buffer(buffer, start, &staging, 0, length);
                self.queue.submit([encoder.finish()]);
            })?;
            self.read(&staging, length, |bytes| {
                out[start as usize..(start + length) as usize].copy_from_slice(bytes);
            })?;
            start += length;
        }
        Ok(())
    }

    /// Waits until a buffer that can be mapped holds what was submitted, and reads it.
    fn read(&self, buffer: &wgpu::Buffer, bytes: u64, read: impl FnOnce(&[u8])) -> Result<(), ModelError> {
        let (done, mapped) = std::sync::mpsc::channel();
        buffer.map_async(wgpu::MapMode::Read, ..bytes, move |result| {
            let _ = done.send(result);
        });
        self.wait(None)?;
        self.mapped(&mapped, buffer, bytes, read)
    }

    /// Reads a buffer whose mapping has been asked for.
    pub(crate) fn mapped(
        &self,
        mapped: &std::sync::mpsc::Receiver<Result<(), wgpu::BufferAsyncError>>,
        buffer: &wgpu::Buffer,
        bytes: u64,
        read: impl FnOnce(&[u8]),
    ) -> Result<(), ModelError> {
        let lost = |what: String| {
            self.failure().unwrap_or_else(|| ModelError::DeviceLost(format!("{}: {what}", self.report.name)))
        };
        mapped.recv().map_err(|e| lost(e.to_string()))?.map_err(|e| lost(e.to_string()))?;
        let view = buffer.get_mapped_range(..bytes).map_err(|e| lost(e.to_string()))?;
        read(&view);
        drop(view);
        buffer.unmap();
        match self.failure() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    /// Waits for a submission, or for all.
    pub(crate) fn wait(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<(), ModelError> {
        let poll = wgpu::PollType::Wait { submission_index: submission, timeout: None };
        let polled = self.guarded(|| self.device.poll(poll))?;
        match (self.failure(), polled) {
            (Some(failure), _) => Err(failure),
            (None, Err(error)) => Err(ModelError::DeviceLost(format!("{}: {error}", self.report.name))),
            (None, Ok(_)) => Ok(()),
        }
    }
}

fn of_wgpu(error: &wgpu::Error) -> ModelError {
    match error {
        wgpu::Error::OutOfMemory { .. } => ModelError::DeviceMemory(
            "the device has no memory left; choose a smaller batch or model, or the CPU".into(),
        ),
        other => ModelError::Device(one_line(&format!("{other:#}"))),
    }
}

/// Messages of drivers and of wgpu have many lines.
fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use crate::open_limited;
    use crate::shaders::testing::device;
    use bae_model::ModelError;

    #[test]
    fn what_panics_in_wgpu_is_a_lost_device_from_then_on() {
        let Some(shared) = device() else { return };
        let own = open_limited(shared.report().index, shared.report().max_binding_bytes).expect("a device");
        let error = own.guarded::<()>(|| panic!("Error in poll:\nParent device is lost")).unwrap_err();
        assert!(
            matches!(&error, ModelError::DeviceLost(said) if said.ends_with("Error in poll: Parent device is lost"))
        );
        assert_eq!(own.failure().map(|failure| failure.to_string()), Some(error.to_string()));
        assert!(own.wait(None).is_err() && own.buffer("anything", 16).is_err());
        assert!(shared.failure().is_none());
    }
}
