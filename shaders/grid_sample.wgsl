// The least coordinate that lies on an axis, and its length.
{% if align %}
const low: {{ real }} = 0.0;
fn range_of(size: u32) -> {{ real }} { return {{ real }}(size) - 1.0; }
{% else %}
const low: {{ real }} = -0.5;
fn range_of(size: u32) -> {{ real }} { return {{ real }}(size); }
{% endif %}

{% if padding == "Reflection" %}
fn reflect_at(x: {{ real }}, size: u32) -> {{ real }} {
  let range = range_of(size);
  let below = x < low;
  let beyond = select(x - low - range, low - x, below);
  let turns = floor(beyond / max(range, 0.5));
  let rest = beyond - turns * range;
  let even = turns - 2.0 * floor(turns * 0.5) == 0.0;
  let reflected = select(low + range - rest, low + rest, below == even);
  return select(select(x, reflected, beyond > 0.0), low, range == 0.0);
}
{% endif %}

// Where grid value `n` lies on an axis, in elements. Far outside, and for NaN, any place outside does.
fn place(n: {{ real }}, size: u32) -> {{ real }} {
{% if align %}
  var x = (n + 1.0) * 0.5 * ({{ real }}(size) - 1.0);
{% else %}
  var x = ((n + 1.0) * {{ real }}(size) - 1.0) * 0.5;
{% endif %}
  x = select(clamp(x, -1e9, 1e9), -1e9, {{ is_nan }}(x));
{% if mode == "Nearest" %}
  x = round(x);
{% endif %}
{% if padding == "Border" and mode == "Cubic" %}
  // Each tap is at the border on its own; those of a place further out all are.
  x = clamp(x, -3.0, {{ real }}(size) + 2.0);
{% elif padding == "Border" %}
  x = select(x, clamp(x, 0.0, {{ real }}(size) - 1.0), x < low || x > low + range_of(size));
{% elif padding == "Reflection" %}
  x = reflect_at(x, size);
{% endif %}
  return x;
}

// The element at whole coordinate `i`, or -1 where zeros are.
fn source(i: {{ real }}, size: u32) -> i32 {
{% if padding == "Zeros" %}
  return select(-1, i32(i), i >= 0.0 && i < {{ real }}(size));
{% elif padding == "Border" %}
  return i32(clamp(i, 0.0, {{ real }}(size) - 1.0));
{% else %}
  return i32(clamp(reflect_at(i, size), 0.0, {{ real }}(size) - 1.0));
{% endif %}
}

{% if mode == "Cubic" %}
fn weight(d: {{ real }}) -> {{ real }} {
  let x = abs(d);
  let near = (1.25 * x - 2.25) * x * x + 1.0;
  let far = ((-0.75 * x + 3.75) * x - 6.0) * x + 3.0;
  return select(far, near, x < 1.0);
}
{% elif mode == "Linear" %}
fn weight(d: {{ real }}) -> {{ real }} {
  return 1.0 - abs(d);
}
{% endif %}

@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  if o < p.count {
    let plane = o / p.points;
    // The grid names the last axis first.
    let at = (plane / p.channels * p.points + o % p.points) * {{ rank }}u;
{% for d in range(rank) %}
    let x{{ d }} = place({{ real }}(grid[at + {{ rank - 1 - d }}u]), p.size{{ d }});
{% endfor %}
{% if mode == "Nearest" %}
    var result = {{ word }}(0);
{% for d in range(rank) %}
    let i{{ d }} = source(x{{ d }}, p.size{{ d }});
{% endfor %}
    if {% for d in range(rank) %}i{{ d }} >= 0{{ " && " if not loop.last }}{% endfor %} {
      var element = plane;
{% for d in range(rank) %}
      element = element * p.size{{ d }} + u32(i{{ d }});
{% endfor %}
      result = x[element];
    }
{% else %}
    var result = {{ real }}(0);
{% for d in range(rank) %}
    let first{{ d }} = floor(x{{ d }}){{ " - 1.0" if mode == "Cubic" }};
    for (var k{{ d }} = 0; k{{ d }} < {{ 4 if mode == "Cubic" else 2 }}; k{{ d }}++) {
    let c{{ d }} = first{{ d }} + {{ real }}(k{{ d }});
    let i{{ d }} = source(c{{ d }}, p.size{{ d }});
    let w{{ d }} = {{ "w" ~ (d - 1) ~ " * " if d > 0 }}weight(c{{ d }} - x{{ d }});
    let e{{ d }} = {{ "plane" if d == 0 else "e" ~ (d - 1) }} * p.size{{ d }} + u32(i{{ d }});
    if i{{ d }} >= 0 {
{% endfor %}
      result += w{{ rank - 1 }} * {{ real }}(x[e{{ rank - 1 }}]);
{% for d in range(rank) %}
    }
    }
{% endfor %}
{% endif %}
    y[o] = finish({{ result }}, o, 0u, 0u);
  }
}
