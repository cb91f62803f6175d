// Point `i` of `size` points between -1 and 1.
fn coordinate(i: u32, size: u32) -> {{ word }} {
{% if align %}
  return select({{ word }}(2u * i) / {{ word }}(max(size, 2u) - 1u) - 1.0, 0.0, size == 1u);
{% else %}
  return {{ word }}(2u * i + 1u) / {{ word }}(size) - 1.0;
{% endif %}
}

@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  if o < p.count {
    var i = o / {{ rank }}u;
{% for d in range(rank) | reverse %}
    let c{{ d }} = coordinate(i % p.size{{ d }}, p.size{{ d }});
    i /= p.size{{ d }};
{% endfor %}
    let row = (i * {{ rank }}u + o % {{ rank }}u) * {{ rank + 1 }}u;
    // The matrices take x first, and x is the last axis.
    var result = matrices[row + {{ rank }}u];
{% for d in range(rank) %}
    result += matrices[row + {{ rank - 1 - d }}u] * c{{ d }};
{% endfor %}
    y[o] = finish(result, o, 0u, 0u);
  }
}
