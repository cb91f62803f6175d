// Copies the slices that tuples of indices name, one word per invocation.
@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  if o < p.count {
    let row = o / p.inner;
    var at = row / p.entries;
    let first = {{ "row" if batched else "(row % p.entries)" }} * {{ tuple }}u;
{% for j in range(tuple) %}
    at = at * p.size{{ j }} + checked_index(indices[first + {{ j }}u], p.size{{ j }});
{% endfor %}
    y[o] = x[at * p.inner + o % p.inner];
  }
}
