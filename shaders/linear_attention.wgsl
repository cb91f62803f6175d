// Linear attention. Each invocation carries one column of one head's state through the steps of the call; no column
// needs another.
@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  if o < p.batches * p.heads * p.depth_v {
    let column = o % p.depth_v;
    let head = o / p.depth_v % p.heads;
    let batch = o / p.depth_v / p.heads;
    let own = (batch * p.heads + head) * p.depth * p.depth_v + column;
    if p.start == 0u {
      for (var d = 0u; d < p.depth; d++) {
        state[own + d * p.depth_v] = {{ "past[own + d * p.depth_v]" if past else "0.0" }};
      }
    }
    for (var t = p.start; t < p.end; t++) {
      let row = batch * p.steps + t;
      let k_at = (row * p.heads + head) * p.depth;
      var input = v[(row * p.heads + head) * p.depth_v + column];
{% if decay or delta %}
{% if decay %}
      let decay_at = row * p.decay_columns + head * p.decay_head;
{% endif %}
      var known = 0.0;
      for (var d = 0u; d < p.depth; d++) {
        var s = state[own + d * p.depth_v];
{% if decay %}
        s *= exp(decay[decay_at + d * p.decay_depth]);
        state[own + d * p.depth_v] = s;
{% endif %}
        known += s * k[k_at + d];
      }
{% endif %}
{% if delta %}
      input = beta[row * p.beta_columns + head * p.beta_head] * (input - known);
{% endif %}
      for (var d = 0u; d < p.depth; d++) {
        state[own + d * p.depth_v] += k[k_at + d] * input;
      }
      for (var g = 0u; g < p.group; g++) {
        let q_row = row * p.heads * p.group + head * p.group + g;
        var sum = 0.0;
        for (var d = 0u; d < p.depth; d++) {
          sum += q[q_row * p.depth + d] * state[own + d * p.depth_v];
        }
        y[q_row * p.depth_v + column] = bitcast<f32>(p.scale) * sum;
      }
    }
  }
}
