//! What is to run on the device, in order: recorded first, submitted at once.

use crate::device::{Device, Pipeline};
use crate::shaders::{Form, Kind, Params, Shader, Tile};
use bae_model::ModelError;
use std::sync::Arc;

/// Parts of a step whose time is taken apart, in the order of [`bae_model::Stages`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Encode,
    Turn,
    Decode,
    Errors,
    Covariance,
    Penalties,
    GradH,
    GradEncoder,
    GradDecoder,
    Adam,
}

/// Passes at most that are timed in one submission.
pub(crate) const TIMED: u32 = 512;

enum Command {
    Run { pipeline: Arc<Pipeline>, buffers: Vec<wgpu::Buffer>, slot: usize, groups: [u32; 3], part: Part },
    Copy { from: wgpu::Buffer, to: wgpu::Buffer, offset: u64, bytes: u64 },
    Clear { buffer: wgpu::Buffer },
}

/// Commands in the order in which they are to run.
pub(crate) struct Recording<'a> {
    device: &'a Device,
    params: Vec<u8>,
    commands: Vec<Command>,
    part: Part,
    half: bool,
}

/// Time stamps of a submission's passes.
pub(crate) struct Timer {
    queries: wgpu::QuerySet,
    pub resolved: wgpu::Buffer,
}

impl Timer {
    pub fn new(device: &Device) -> Result<Self, ModelError> {
        use wgpu::BufferUsages as Usage;
        let resolved =
            device.allocate("time stamps", u64::from(TIMED) * 16, Usage::QUERY_RESOLVE | Usage::COPY_SRC)?;
        let queries = device.watched(|| {
            device.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: None,
                ty: wgpu::QueryType::Timestamp,
                count: 2 * TIMED,
            })
        })?;
        Ok(Self { queries, resolved })
    }
}

impl<'a> Recording<'a> {
    pub fn new(device: &'a Device) -> Self {
        Self { device, params: vec![], commands: vec![], part: Part::Encode, half: false }
    }

    /// Whether products of values round their factors to half floats.
    pub fn half(&mut self, half: bool) {
        self.half = half;
    }

    /// What follows belongs to this part.
    pub fn part(&mut self, part: Part) {
        self.part = part;
    }

    /// Says what the shaders that follow know of the step.
    pub fn params(&mut self, params: &Params) {
        let bytes = bytemuck::bytes_of(params);
        self.params.extend_from_slice(bytes);
        self.params.resize(self.params.len().next_multiple_of(self.alignment()), 0);
    }

    fn alignment(&self) -> usize {
        let alignment = self.device.device.limits().min_uniform_buffer_offset_alignment as usize;
        size_of::<Params>().next_multiple_of(alignment.max(16))
    }

    /// Runs a shader that is no product.
    pub fn run(
        &mut self,
        shader: &Shader,
        groups: [usize; 3],
        buffers: &[&wgpu::Buffer],
    ) -> Result<(), ModelError> {
        self.add(shader, None, groups, buffers)
    }

    /// Runs a product that makes `rows` × `columns`.
    pub fn product(
        &mut self,
        shader: &Shader,
        tile: Tile,
        [rows, columns]: [usize; 2],
        buffers: &[&wgpu::Buffer],
    ) -> Result<(), ModelError> {
        let side = tile.side() as usize;
        let values = shader.product.is_some_and(|product| product.kind == Kind::Values);
        let form = Form { tile, half: self.half && values };
        self.add(shader, Some(form), [columns.div_ceil(side), rows.div_ceil(side), 1], buffers)
    }

    fn add(
        &mut self,
        shader: &Shader,
        form: Option<Form>,
        groups: [usize; 3],
        buffers: &[&wgpu::Buffer],
    ) -> Result<(), ModelError> {
        assert_eq!(buffers.len(), shader.access.len(), "buffers of {}", shader.name);
        let limit = self.device.device.limits().max_compute_workgroups_per_dimension as usize;
        if groups.iter().any(|&groups| groups > limit) {
            return Err(ModelError::Unavailable(format!(
                "{}: {groups:?} workgroups, and {} runs at most {limit} in a dimension; choose a smaller batch or model, or the CPU",
                shader.name,
                self.device.report().name
            )));
        }
        self.commands.push(Command::Run {
            pipeline: self.device.pipeline(shader, form)?,
            buffers: buffers.iter().map(|&buffer| buffer.clone()).collect(),
            slot: self.params.len() / self.alignment() - 1,
            groups: groups.map(|groups| groups as u32),
            part: self.part,
        });
        Ok(())
    }

    pub fn copy(&mut self, from: &wgpu::Buffer, to: &wgpu::Buffer, bytes: u64) {
        self.copy_to(from, to, 0, bytes);
    }

    /// Copies to a place in a buffer.
    pub fn copy_to(&mut self, from: &wgpu::Buffer, to: &wgpu::Buffer, offset: u64, bytes: u64) {
        self.commands.push(Command::Copy { from: from.clone(), to: to.clone(), offset, bytes });
    }

    pub fn clear(&mut self, buffer: &wgpu::Buffer) {
        self.commands.push(Command::Clear { buffer: buffer.clone() });
    }

    /// Submits all of it; with a timer, each part in a pass of its own between time stamps: their parts are returned.
    pub fn submit(
        self,
        params: &mut Option<wgpu::Buffer>,
        timer: Option<(&Timer, &wgpu::Buffer, u64)>,
    ) -> Result<(wgpu::SubmissionIndex, Vec<Part>), ModelError> {
        let needed = self.params.len() as u64;
        if params.as_ref().is_none_or(|buffer| buffer.size() < needed) {
            use wgpu::BufferUsages as Usage;
            *params = Some(self.device.allocate("settings", needed, Usage::UNIFORM | Usage::COPY_DST)?);
        }
        let params = params.as_ref().expect("just made");
        self.device.watched(|| self.encode(params, timer))
    }

    fn encode(
        &self,
        params: &wgpu::Buffer,
        timer: Option<(&Timer, &wgpu::Buffer, u64)>,
    ) -> (wgpu::SubmissionIndex, Vec<Part>) {
        let Device { device, queue, .. } = self.device;
        queue.write_buffer(params, 0, &self.params);
        let mut encoder = device.create_command_encoder(&Default::default());
        let mut parts = vec![];
        let mut commands = self.commands.as_slice();
        while let Some((command, rest)) = commands.split_first() {
            let of = |command: &Command| match command {
                Command::Run { part, .. } => Some(*part),
                _ => None,
            };
            match command {
                Command::Copy { from, to, offset, bytes } => {
                    encoder.copy_buffer_to_buffer(from, 0, to, *offset, *bytes);
                    commands = rest;
                }
                Command::Clear { buffer } => {
                    encoder.clear_buffer(buffer, 0, None);
                    commands = rest;
                }
                Command::Run { part, .. } => {
                    let same = |command: &&Command| {
                        of(command).is_some_and(|other| timer.is_none() || other == *part)
                    };
                    let count = commands.iter().take_while(same).count();
                    let timed = timer.filter(|_| (parts.len() as u32) < TIMED);
                    let at = 2 * parts.len() as u32;
                    let writes = timed.map(|(timer, _, _)| wgpu::ComputePassTimestampWrites {
                        query_set: &timer.queries,
                        beginning_of_pass_write_index: Some(at),
                        end_of_pass_write_index: Some(at + 1),
                    });
                    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                        label: None,
                        timestamp_writes: writes,
                    });
                    for command in &commands[..count] {
                        self.dispatch(&mut pass, params, command);
                    }
                    drop(pass);
                    if timed.is_some() {
                        parts.push(*part);
                    }
                    commands = &commands[count..];
                }
            }
        }
        if let Some((timer, to, offset)) = timer.filter(|_| !parts.is_empty()) {
            let count = 2 * parts.len() as u32;
            encoder.resolve_query_set(&timer.queries, 0..count, &timer.resolved, 0);
            encoder.copy_buffer_to_buffer(&timer.resolved, 0, to, offset, u64::from(count) * 8);
        }
        (queue.submit([encoder.finish()]), parts)
    }

    fn dispatch(&self, pass: &mut wgpu::ComputePass, params: &wgpu::Buffer, command: &Command) {
        let Command::Run { pipeline, buffers, slot, groups, .. } = command else { return };
        let settings = wgpu::BufferBinding {
            buffer: params,
            offset: (slot * self.alignment()) as u64,
            size: std::num::NonZero::new(size_of::<Params>() as u64),
        };
        let mut entries =
            vec![wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(settings) }];
        for (at, buffer) in buffers.iter().enumerate() {
            let resource = buffer.as_entire_binding();
            entries.push(wgpu::BindGroupEntry { binding: at as u32 + 1, resource });
        }
        let group = self.device.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.layout,
            entries: &entries,
        });
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, &group, &[]);
        let [x, y, z] = *groups;
        pass.dispatch_workgroups(x, y, z);
    }
}
