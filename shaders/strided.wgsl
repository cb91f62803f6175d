// Copies between a dense tensor and a strided part of another.
// The place on the strided side of element o of the dense side.
fn place(o: u32) -> u32 {
  var i = o;
  var at = p.base;
{% for d in range(rank) | reverse %}
{% if not loop.last %}
  at += (i % p.size{{ d }}) * p.stride{{ d }};
  i /= p.size{{ d }};
{% else %}
  at += i * p.stride{{ d }};
{% endif %}
{% endfor %}
  return at;
}

{% if scatter %}
@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
{% if runs %}
  let v = id.x + id.y * groups.x * {{ workgroup }}u;
  let o = v * 4u;
  if o < p.count {
    let values = x[v];
    let at = vec4<u32>(place(o), place(o + 1u), place(o + 2u), place(o + 3u));
    if o + 4u <= p.count && all(at == at.x + vec4<u32>(0u, 1u, 2u, 3u)) {
      y_store_run(at.x, 4u, array(values.x, values.y, values.z, values.w));
    } else {
      y[at.x] = values.x;
      if o + 1u < p.count { y[at.y] = values.y; }
      if o + 2u < p.count { y[at.z] = values.z; }
      if o + 3u < p.count { y[at.w] = values.w; }
    }
  }
{% else %}
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  if o < p.count {
    y[place(o)] = x[o];
  }
{% endif %}
}
{% endif %}
