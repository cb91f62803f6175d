// The element at whole coordinates, 0 outside.
fn element_at(plane: u32, row: i32, column: i32) -> {{ word }} {
  if row < 0 || column < 0 || row >= i32(p.input0) || column >= i32(p.input1) {
    return 0.0;
  }
  return x[(plane * p.input0 + u32(row)) * p.input1 + u32(column)];
}

// One result per invocation.
@compute @workgroup_size({{ workgroup }})
fn main(
  @builtin(global_invocation_id) id: vec3<u32>,
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
) {
  // 0, but not for the compiler: lavapipe 22.3 inlines uniforms that bound loops, and may then compile at every submit.
  let zero = group.z >> 20u;
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  if o < p.count {
    let places = p.output0 * p.output1;
    let place = o % places;
    let out_channel = o / places % p.filters;
    let batch = o / places / p.filters;
    let row = {{ word }}(place / p.output1 * p.stride0) - {{ word }}(p.begin0);
    let column = {{ word }}(place % p.output1 * p.stride1) - {{ word }}(p.begin1);
    let taps = p.kernel0 * p.kernel1;
    let offset_groups = p.channels / p.offset_channels;
    var sum = {{ word }}(0);
    for (var term = p.first; term < p.last + zero; term++) {
      let own = term / taps;
      let tap = term % taps;
      let channel = out_channel / p.group_filters * p.group_channels + own;
      let at = (batch * offset_groups + channel / p.offset_channels) * taps + tap;
      let down = offsets[at * 2u * places + place];
      let right = offsets[(at * 2u + 1u) * places + place];
      // Far outside, any place outside does.
      let r = clamp(row + {{ word }}(tap / p.kernel1 * p.dilation0) + down, -2.0, {{ word }}(p.input0) + 1.0);
      let c = clamp(column + {{ word }}(tap % p.kernel1 * p.dilation1) + right, -2.0, {{ word }}(p.input1) + 1.0);
      let r0 = i32(floor(r));
      let c0 = i32(floor(c));
      let below = r - floor(r);
      let beside = c - floor(c);
      let plane = batch * p.channels + channel;
      let upper = element_at(plane, r0, c0) * (1.0 - beside) + element_at(plane, r0, c0 + 1) * beside;
      let lower = element_at(plane, r0 + 1, c0) * (1.0 - beside) + element_at(plane, r0 + 1, c0 + 1) * beside;
      var value = upper * (1.0 - below) + lower * below;
{% if mask %}
      value *= weights[at * places + place];
{% endif %}
      sum += w[out_channel * p.group_channels * taps + term] * value;
    }
    y[o] = epilogue(sum, o, out_channel, place);
  }
}
