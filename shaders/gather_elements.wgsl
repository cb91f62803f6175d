// Copies one word per invocation; the coordinate along one axis comes from the index beside it.
@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  if o < p.count {
    var i = o;
    var at = checked_index(indices[o], p.length) * p.stride{{ axis }};
{% for d in range(rank) | reverse %}
{% if d != axis %}
    at += (i % p.size{{ d }}) * p.stride{{ d }};
{% endif %}
    i /= p.size{{ d }};
{% endfor %}
    y[o] = x[at];
  }
}
