// Four consecutive elements of the result per invocation.
@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let v = id.x + id.y * groups.x * {{ workgroup }}u;
  let o = v * 4u;
  if o < p.count {
{% for i in loads %}
    let v{{ i }} = x{{ i }}[v];
{% endfor %}
{% for output in outputs %}
    var out{{ loop.index0 }}: vec4<{{ output.word }}>;
{% endfor %}
{% for lane in lanes %}
    {
{% for line in lane.lines %}
      {{ line }}
{% endfor %}
{% for value in lane.outputs %}
      out{{ loop.index0 }}.{{ lane.component }} = {{ value }};
{% endfor %}
    }
{% endfor %}
    // The last vector may be shared with the next tensor: only the elements of this one are written.
    if o + 4u <= p.count {
{% for output in outputs %}
      {{ output.name }}[v] = out{{ loop.index0 }};
{% endfor %}
    } else {
{% for output in outputs %}
      {{ output.name }}[v].x = out{{ loop.index0 }}.x;
      if o + 1u < p.count { {{ output.name }}[v].y = out{{ loop.index0 }}.y; }
      if o + 2u < p.count { {{ output.name }}[v].z = out{{ loop.index0 }}.z; }
{% endfor %}
    }
  }
}
