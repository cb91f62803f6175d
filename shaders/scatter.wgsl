const nowhere = 0xffffffffu;

// The place that row `row` of the indices names.
fn destination(row: u32) -> u32 {
{% if tuple is not none %}
  var at = 0u;
{% for j in range(tuple) %}
  let given{{ j }} = indices[row * {{ tuple }}u + {{ j }}u];
  let index{{ j }} = select(given{{ j }}, given{{ j }} + i32(p.size{{ j }}), given{{ j }} < 0);
  if index{{ j }} < 0 || index{{ j }} >= i32(p.size{{ j }}) {
{% if step != "apply" %}
    report(bitcast<u32>(given{{ j }}));
{% endif %}
    return nowhere;
  }
  at = at * p.size{{ j }} + u32(index{{ j }});
{% endfor %}
  return at;
{% else %}
  let given = indices[row];
  let index = select(given, given + i32(p.length), given < 0);
  if index < 0 || index >= i32(p.length) {
{% if step != "apply" %}
    report(bitcast<u32>(given));
{% endif %}
    return nowhere;
  }
  var i = row;
  var at = u32(index) * p.stride{{ axis }};
{% for d in range(rank) | reverse %}
{% if d != axis %}
  at += (i % p.size{{ d }}) * p.stride{{ d }};
{% endif %}
  i /= p.size{{ d }};
{% endfor %}
  return at;
{% endif %}
}

@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  if o < p.count {
{% if step == "apply" %}
    let row = o / p.inner;
    let at = destination(row);
    if at != nowhere {
      if places[at] == row + 1u { y[at * p.inner + o % p.inner] = updates[o]; }
    }
{% elif step == "mark" %}
    let at = destination(o);
    if at != nowhere { atomicMax(&places[at], o + 1u); }
{% else %}
    let at = destination(o);
    places[o] = select(i32(at), -2147483648, at == nowhere);
{% endif %}
  }
}
