// One element of the image per invocation.
@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  if o < p.count {
    var plane = o;
{% for d in range(rank) | reverse %}
    let at{{ d }} = i32(plane % p.input{{ d }} + p.begin{{ d }});
    plane /= p.input{{ d }};
{% endfor %}
    var result = {{ word }}(0);
{% for d in range(rank) %}
    for (var k{{ d }} = 0u; k{{ d }} < p.kernel{{ d }}; k{{ d }}++) {
    // The block that tap k of covers this element, if there is one.
    let from{{ d }} = at{{ d }} - i32(k{{ d }} * p.dilation{{ d }});
    let block{{ d }} = from{{ d }} / i32(p.stride{{ d }});
    if from{{ d }} >= 0 && from{{ d }} % i32(p.stride{{ d }}) == 0 && block{{ d }} < i32(p.output{{ d }}) {
    let tap{{ d }} = {{ "plane" if d == 0 else "tap" ~ (d - 1) }} * p.kernel{{ d }} + k{{ d }};
{% endfor %}
      var column = 0u;
{% for d in range(rank) %}
      column = column * p.output{{ d }} + u32(block{{ d }});
{% endfor %}
      result += x[tap{{ rank - 1 }}{% for d in range(rank) %} * p.output{{ d }}{% endfor %} + column];
{% for d in range(rank) %}
    }
    }
{% endfor %}
    y[o] = finish(result, o, 0u, 0u);
  }
}
