{% if step != "starts" %}
// Whether slice `a` comes before slice `b` by their elements from `first` to `last`: 0 if so, 1 if these are equal, else 2.
{% else %}
// Whether two slices are equal in their elements from `first` to `last`: 1 if so.
{% endif %}
fn compared(a: u32, b: u32) -> u32 {
  for (var j = p.first; j < p.last; j += 1u) {
    let at = j / p.inner * p.size * p.inner + j % p.inner;
    let left = key_of(x[at + a * p.inner]);
    let right = key_of(x[at + b * p.inner]);
{% if wide %}
    if !equal_64(left, right) {
      return select(2u, 0u, less_u64(left, right));
{% else %}
    if left != right {
      return select(2u, 0u, left < right);
{% endif %}
    }
  }
  return 1u;
}

fn key_of(x: {{ word }}) -> {{ "vec2<u32>" if wide else "u32" }} {
{% if word == "f32" %}
  // Of a number below zero all bits are flipped, of another the sign; -0 is 0, and every NaN is the same and the greatest.
  let bits = select(bitcast<u32>(x), 0u, x == 0.0);
  let key = select(bits ^ 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
  return select(key, 0xffffffffu, is_nan(x));
{% elif word == "f64" %}
  return pair_of_u64(bitcast<u64>(order_key_f64(x))) ^ vec2(0u, 0x80000000u);
{% elif signed and wide %}
  return x ^ vec2(0u, 0x80000000u);
{% elif signed %}
  return bitcast<u32>(x) ^ 0x80000000u;
{% else %}
  return x;
{% endif %}
}

@compute @workgroup_size({{ block }})
fn main(
  @builtin(local_invocation_index) lane: u32,
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
) {
  let i = (group.x + group.y * groups.x) * {{ block }}u + lane;
  if i < p.size {
{% if step == "block" %}
    let begin = i - lane;
    let end = min(begin + {{ block }}u, p.size);
    let own = {{ "u32(before[i])" if ordered else "i" }};
    var rank = 0u;
    for (var j = begin; j < end; j += 1u) {
      let relation = compared({{ "u32(before[j])" if ordered else "j" }}, own);
      rank += select(0u, 1u, relation == 0u || (relation == 1u && j < i));
    }
    order[begin + rank] = i32(own);
{% elif step == "merge" %}
    let own = before[i];
    let run = i / p.run;
    // Slices of the other run that come before this one: those of an earlier run also if they are equal.
    let limit = select(1u, 2u, (run & 1u) == 1u);
    let other = min((run ^ 1u) * p.run, p.size);
    var low = other;
    var high = min(other + p.run, p.size);
    while low < high {
      let middle = (low + high) / 2u;
      let comes_before = compared(u32(before[middle]), u32(own)) < limit;
      low = select(low, middle + 1u, comes_before);
      high = select(middle, high, comes_before);
    }
    order[run / 2u * 2u * p.run + i % p.run + low - other] = own;
{% else %}
    var differs = i == 0u;
    if i > 0u {
      differs = compared(u32(order[i - 1u]), u32(order[i])) != 1u;
    }
{% if ordered %}
    differs = differs || starts[i] != 0;
{% endif %}
    starts[i] = i32(differs);
{% endif %}
  }
}
