// Adam on a tensor's gradient, scaled by min(1, clip_norm / (norm + 1e-6)).
@group(0) @binding(1) var<storage, read> gradient: array<f32>;
@group(0) @binding(2) var<storage, read> results: array<u32>;
@group(0) @binding(3) var<storage, read> poison: array<u32>;
@group(0) @binding(4) var<storage, read_write> parameters: array<f32>;
@group(0) @binding(5) var<storage, read_write> first_moment: array<f32>;
@group(0) @binding(6) var<storage, read_write> second_moment: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) index: u32) {
  let scale = min(1.0, params.clip_norm / (sqrt(bitcast<f32>(results[GRADIENT])) + 1e-6));
  for (var at = group.x * 256u + index; at < params.count; at += groups.x * 256u) {
    adam(at, gradient[at] * scale);
  }
}
