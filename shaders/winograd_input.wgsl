{# Tiles of the input for Winograd convolution F(4x4, 3x3): an invocation transforms the 6x6 tile of one channel. The points are 0,
   ±√½, ±√2 and infinity. Rows move up through the registers d0 to d5, as each load and store that is written out takes a driver
   long to compile. #}
const SQRT_HALF = 0.70710678;
const SQRT_2 = 1.41421356;
{% macro points(to, at, d, c) %}
    let inner_even{{ at }} = {{ d[4] }}{{ c }} - 2.0 * {{ d[2] }}{{ c }};
    let inner_odd{{ at }} = SQRT_HALF * ({{ d[3] }}{{ c }} - 2.0 * {{ d[1] }}{{ c }});
    let outer_even{{ at }} = {{ d[4] }}{{ c }} - 0.5 * {{ d[2] }}{{ c }};
    let outer_odd{{ at }} = SQRT_2 * ({{ d[3] }}{{ c }} - 0.5 * {{ d[1] }}{{ c }});
    {{ to }}0{{ at }} = ({{ d[0] }}{{ c }} + {{ d[4] }}{{ c }}) - 2.5 * {{ d[2] }}{{ c }};
    {{ to }}1{{ at }} = inner_even{{ at }} + inner_odd{{ at }};
    {{ to }}2{{ at }} = inner_even{{ at }} - inner_odd{{ at }};
    {{ to }}3{{ at }} = outer_even{{ at }} + outer_odd{{ at }};
    {{ to }}4{{ at }} = outer_even{{ at }} - outer_odd{{ at }};
    {{ to }}5{{ at }} = ({{ d[1] }}{{ c }} + {{ d[5] }}{{ c }}) - 2.5 * {{ d[3] }}{{ c }};
{% endmacro %}
@compute @workgroup_size({{ workgroup }})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  // 0, but not for the compiler: lavapipe 22.3 inlines uniforms that bound loops, and may then compile at every submit.
  let zero = group.z >> 20u;
  let i = (group.x + group.y * groups.x) * {{ workgroup }}u + local.x;
  if i >= p.count {
    return;
  }
  let tile = p.first + i / p.channels;
  let image = tile / (p.tiles0 * p.tiles1);
  let ix = i32(tile % p.tiles1 * 4u) - i32(p.begin1);
  var iy = i32(tile / p.tiles1 % p.tiles0 * 4u) - i32(p.begin0);
  var at = (i32(image * p.channels + i % p.channels) * i32(p.input0) + iy) * i32(p.input1) + ix;
{% for j in range(6) %}
  let inside{{ j }} = u32(ix + {{ j }}) < p.input1;
{% endfor %}
{% for r in range(6) %}{% for j in range(6) %}
  var d{{ r }}_{{ j }} = 0.0;
{% endfor %}{% endfor %}
  for (var r = 0u; r < 6u + zero; r++) {
{% for r in range(5) %}{% for j in range(6) %}
    d{{ r }}_{{ j }} = d{{ r + 1 }}_{{ j }};
{% endfor %}{% endfor %}
    let inside = u32(iy) < p.input0 && tile < p.tiles;
    let v = at >> 2u;
    let odd = (at & 1) != 0;
    let half = (at & 2) != 0;
{% for j in range(3) %}
    let v{{ j }} = x[u32(v + {{ j }})];
{% endfor %}
{% for j in range(7) %}
    let h{{ j }} = select(v{{ j // 4 }}[{{ j % 4 }}], v{{ (j + 2) // 4 }}[{{ (j + 2) % 4 }}], half);
{% endfor %}
{% for j in range(6) %}
    let b{{ j }} = select(0.0, select(h{{ j }}, h{{ j + 1 }}, odd), inside && inside{{ j }});
{% endfor %}
{{ points("d5_", "", ["b0", "b1", "b2", "b3", "b4", "b5"], "") }}
    iy += 1;
    at += i32(p.input1);
  }
{% for j in range(6) %}
{{ points("let e", "_%s" | format(j), ["d0", "d1", "d2", "d3", "d4", "d5"], "_%s" | format(j)) }}
{% endfor %}
{% for r in range(6) %}{% for j in range(6) %}
  d{{ r }}_{{ j }} = e{{ r }}_{{ j }};
{% endfor %}{% endfor %}
  // [row of the tile][column of the tile][tile][channel]
  var o = i;
  for (var r = 0u; r < 6u + zero; r++) {
{% for j in range(6) %}
    y[o] = d0_{{ j }};
    o += p.count;
{% endfor %}
{% for r in range(5) %}{% for j in range(6) %}
    d{{ r }}_{{ j }} = d{{ r + 1 }}_{{ j }};
{% endfor %}{% endfor %}
  }
}
