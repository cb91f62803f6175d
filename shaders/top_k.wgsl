{% macro greater(a, b) %}{{ "less_u64(%s, %s)" | format(b, a) if wide else "%s > %s" | format(a, b) }}{% endmacro %}
{% macro equal(a, b) %}{{ "equal_64(%s, %s)" | format(a, b) if wide else "%s == %s" | format(a, b) }}{% endmacro %}
{% if step == "block" %}
// A whole number that is greater where the element comes earlier.
fn key_of(x: {{ word }}) -> {{ key }} {
{% if word == "f32" %}
  // Of a number below zero all bits are flipped, of another the sign; -0 is 0, and every NaN is the same.
  let bits = select(bitcast<u32>(x), 0u, x == 0.0);
  let key = select(bits ^ 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
  let up = select(key, 0xffffffffu, is_nan(x));
{% elif word == "f64" %}
  let up = pair_of_u64(bitcast<u64>(order_key_f64(x))) ^ vec2(0u, 0x80000000u);
{% elif signed and wide %}
  let up = x ^ vec2(0u, 0x80000000u);
{% elif signed %}
  let up = bitcast<u32>(x) ^ 0x80000000u;
{% else %}
  let up = x;
{% endif %}
  return {{ "up" if largest else "~up" }};
}
{% endif %}

@compute @workgroup_size({{ block }})
fn main(
  @builtin(local_invocation_index) lane: u32,
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
) {
{% if step == "block" %}
  let g = group.x + group.y * groups.x;
  if g < p.count {
    let row = g / p.blocks;
    let first = (g % p.blocks) * {{ block }}u;
    let size = min(p.length - first, {{ block }}u);
    let base = row / p.inner * p.length * p.inner + row % p.inner;
    if lane < size {
      let own = key_of(x[base + (first + lane) * p.inner]);
      var rank = 0u;
      for (var j = 0u; j < size; j += 1u) {
        let other = key_of(x[base + (first + j) * p.inner]);
        rank += select(0u, 1u, {{ greater("other", "own") }} || ({{ equal("other", "own") }} && j < lane));
      }
      if rank < p.k {
        let o = row * p.pitch + (g % p.blocks) * min({{ block }}u, p.k) + rank;
        keys[o] = own;
        positions[o] = first + lane;
      }
    }
  }
{% elif step == "merge" %}
  let o = (group.x + group.y * groups.x) * {{ block }}u + lane;
  if o < p.count {
    let row = o / p.pitch;
    let i = o % p.pitch;
    let run = i / p.run;
    let own = keys[o];
    // Elements of the other run that come before this one: those of an earlier run also if they are equal.
    let later = (run & 1u) == 1u;
    let other = min((run ^ 1u) * p.run, p.pitch);
    let end = row * p.pitch + min(other + p.run, p.pitch);
    var low = row * p.pitch + other;
    var high = end;
    while low < high {
      let middle = (low + high) / 2u;
      let before = {{ greater("keys[middle]", "own") }} || (later && {{ equal("keys[middle]", "own") }});
      low = select(low, middle + 1u, before);
      high = select(middle, high, before);
    }
    let rank = i % p.run + low - (row * p.pitch + other);
    if rank < p.merged_run {
      let target_at = row * p.merged_pitch + run / 2u * p.merged_run + rank;
      merged_keys[target_at] = own;
      merged_positions[target_at] = positions[o];
    }
  }
{% else %}
  let o = (group.x + group.y * groups.x) * {{ block }}u + lane;
  if o < p.count {
    // Results lie as the input does, with k in the axis' place.
    let inner = o % p.inner;
    let rank = (o / p.inner) % p.k;
    let outer = o / p.inner / p.k;
    let position = positions[(outer * p.inner + inner) * p.pitch + rank];
{% if values %}
    y[o] = x[(outer * p.length + position) * p.inner + inner];
{% endif %}
{% if places %}
    places[o] = {{ "vec2(position, 0u)" if wide_places else "i32(position)" }};
{% endif %}
  }
{% endif %}
}
