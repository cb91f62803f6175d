// One element of the result per invocation: all updates whose index names it, in their order.
@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  if o < p.count {
    var i = o;
    var inside = true;
    var index_at = p.first * p.index_step;
    var update_at = p.first * p.update_step;
{% for d in range(rank) | reverse %}
    let c{{ d }} = i % p.size{{ d }};
    i /= p.size{{ d }};
{% if d != axis %}
    inside = inside && c{{ d }} < p.limit{{ d }};
    index_at += c{{ d }} * p.index_stride{{ d }};
    update_at += c{{ d }} * p.update_stride{{ d }};
{% endif %}
{% endfor %}
    if inside {
      let own = i32(c{{ axis }});
      let from_back = own - i32(p.length);
      var result = y[o];
      for (var row = p.first; row < p.last; row++) {
        let index = indices[index_at];
        if index == own || index == from_back {
          let update = updates[update_at];
          result = {{ combined }};
        }
        index_at += p.index_step;
        update_at += p.update_step;
      }
      y[o] = {{ result }};
    }
  }
}
