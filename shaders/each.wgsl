{# The entry point around the code that computes element o. It is a function only for runs: its type is not that of every storage. -#}
{% if runs %}
fn element(o: u32) -> {{ word }} {
{{ code }}
}

{% endif %}
@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
{% if runs %}
  let v = id.x + id.y * groups.x * {{ workgroup }}u;
  let o = v * 4u;
  if o < p.count {
    // Elements that do not exist must not be computed: their indices could be reported.
    let last = p.count - 1u;
    let out = vec4<{{ word }}>(element(o), element(min(o + 1u, last)), element(min(o + 2u, last)), element(min(o + 3u, last)));
    if o + 4u <= p.count {
      y[v] = out;
    } else {
      y[v].x = out.x;
      if o + 1u < p.count { y[v].y = out.y; }
      if o + 2u < p.count { y[v].z = out.z; }
    }
  }
{% else %}
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  if o < p.count {
{{ code }}
  }
{% endif %}
}
