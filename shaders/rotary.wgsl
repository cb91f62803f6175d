// Rotary embedding, one element per invocation.
@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  if o < p.count {
    let token = o / p.batch * p.positions + o / p.inner % p.positions;
    let channel = o % p.depth;
    var value = x[o];
    if channel < 2u * p.half {
{% if interleaved %}
      let pair = channel / 2u;
      let second = channel % 2u == 1u;
      let step = 1u;
{% else %}
      let pair = channel % p.half;
      let second = channel >= p.half;
      let step = p.half;
{% endif %}
      let at = {{ "u32(ids[token])" if ids else "token" }} * p.half + pair;
      let other = x[select(o + step, o - step, second)];
      value = cosines[at] * value + sines[at] * select(-other, other, second);
    }
    y[o] = epilogue(value, o, 0u, 0u);
  }
}
