// How many taps of a window that begins at `at` lie before `limit`.
fn taps_before(at: i32, limit: u32, dilation: u32) -> u32 {
  return select(0u, (u32(i32(limit) - at) + dilation - 1u) / dilation, at < i32(limit));
}

@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  if o < p.count {
    var plane = o;
{% for d in range(rank) | reverse %}
    let at{{ d }} = i32((plane % p.output{{ d }}) * p.stride{{ d }}) - i32(p.begin{{ d }});
    plane /= p.output{{ d }};
    let from{{ d }} = taps_before(at{{ d }}, 0u, p.dilation{{ d }});
    let to{{ d }} = min(p.kernel{{ d }}, taps_before(at{{ d }}, p.input{{ d }}, p.dilation{{ d }}));
{% endfor %}
{% if max %}
    var result = {{ lowest }};
{% else %}
    var result = {{ word }}(0);
{% endif %}
{% if indices %}
    var place = -1;
{% endif %}
{% for d in range(rank) %}
    for (var k{{ d }} = from{{ d }}; k{{ d }} < to{{ d }}; k{{ d }}++) {
    let c{{ d }} = u32(at{{ d }} + i32(k{{ d }} * p.dilation{{ d }}));
    let i{{ d }} = {{ "plane" if d == 0 else "i" ~ (d - 1) }} * p.input{{ d }} + c{{ d }};
{% endfor %}
      let value = x[{{ "plane" if rank == 0 else "i" ~ (rank - 1) }}];
{% if indices %}
{% if float %}
      if place < 0 || (!{{ is_nan }}(result) && ({{ is_nan }}(value) || value > result)) {
{% else %}
      if place < 0 || value > result {
{% endif %}
        result = value;
{% if column_major %}
        var column = plane{% for d in range(rank) %} * p.input{{ d }}{% endfor %};
        var scale = 1u;
{% for d in range(rank) %}
        column += c{{ d }} * scale;
        scale *= p.input{{ d }};
{% endfor %}
        place = i32(column);
{% else %}
        place = i32({{ "plane" if rank == 0 else "i" ~ (rank - 1) }});
{% endif %}
      }
{% elif max %}
      result = {{ function }}(result, value);
{% elif order == 0 %}
      result += value;
{% elif order == 1 %}
      result += abs(value);
{% elif order == 2 %}
      result += value * value;
{% else %}
      result += {{ pow }}(abs(value), {{ word }}({{ order }}));
{% endif %}
{% for d in range(rank) %}
    }
{% endfor %}
{% if order == 2 %}
    result = sqrt(result);
{% elif order > 2 %}
    result = {{ pow }}(result, {{ word }}(1) / {{ word }}({{ order }}));
{% elif not max and order == 0 %}
    var taps = 1u;
{% for d in range(rank) %}
{% if with_pads %}
    taps *= min(p.kernel{{ d }}, taps_before(at{{ d }}, p.input{{ d }} + p.end{{ d }}, p.dilation{{ d }}));
{% else %}
    taps *= max(to{{ d }}, from{{ d }}) - from{{ d }};
{% endif %}
{% endfor %}
    result /= {{ word }}(max(taps, 1u));
{% endif %}
{% if indices %}
    places[o] = max(place, 0);
{% endif %}
    y[o] = {{ "finish(result, o, 0u, 0u)" if epilogue else "result" }};
  }
}
