// Causal depthwise convolution along the last axis, one element per invocation: first those of the result, then those
// of the state that the next call begins with.
fn padded(row: u32, at: u32) -> f32 {
  if at >= p.before {
    return x[row * p.length + at - p.before];
  }
{% if past %}
  return past[row * p.before + at];
{% else %}
  return 0.0;
{% endif %}
}

@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  let count = p.rows * p.length;
  if o < count {
    let row = o / p.length;
    let channel = row % p.channels;
    var sum = {{ "bias[channel]" if bias else "0.0" }};
    for (var tap = 0u; tap < p.taps; tap++) {
      sum += w[channel * p.taps + tap] * padded(row, o % p.length + tap * p.dilation);
    }
    y[o] = epilogue(sum, o, 0u, 0u);
  }
{% if state %}
  else if o - count < p.rows * p.before {
    let at = o - count;
    state[at] = padded(at / p.before, p.length + at % p.before);
  }
{% endif %}
}
