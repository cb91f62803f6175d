// Copies between a dense tensor and a strided part of another, one element per invocation.
@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  if o < p.count {
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
{% if scatter %}
    y[at] = x[o];
{% else %}
    y[o] = x[at];
{% endif %}
  }
}
