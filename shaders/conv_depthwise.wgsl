{# A lane computes `rows` rows of `places` results of one channel. It loads each input row that they need once, as aligned vectors that
   it shifts into place. #}
{% set reach = (places - 1) * stride1 + (kernel1 - 1) * dilation1 + 1 %}
{% set input_rows = (rows - 1) * stride0 + (kernel0 - 1) * dilation0 + 1 %}
{% set loads = (reach + 6) // 4 %}
{% set weights = (kernel0 * kernel1 + 3) // 4 %}
@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let tile = id.x + id.y * groups.x * {{ workgroup }}u;
  let across = (p.output1 + {{ places - 1 }}u) / {{ places }}u;
  let down = (p.output0 + {{ rows - 1 }}u) / {{ rows }}u;
  // Tiles are numbered through all channels, so that small planes fill whole workgroups.
  let plane = tile / across / down;
  if plane < p.planes * p.filters {
    let ox = (tile % across) * {{ places }}u;
    let oy = (tile / across % down) * {{ rows }}u;
    let channel = plane % (p.groups * p.filters);
    let ix = i32(ox * {{ stride1 }}u) - i32(p.begin1);
    let iy = i32(oy * {{ stride0 }}u) - i32(p.begin0);
{% if padded %}
{% for i in range(reach) %}
    let inside{{ i }} = u32(ix + {{ i }}) < p.input1;
{% endfor %}
{% endif %}
{% for j in range(weights) %}
    let w{{ j }} = w[channel * {{ weights }}u + {{ j }}u];
{% endfor %}
{% for r in range(rows) %}{% for e in range(places) %}
    var c{{ r }}_{{ e }} = {{ word }}(0);
{% endfor %}{% endfor %}
    let line = plane / p.filters;
    let base = (i32(line * p.input0) + iy) * i32(p.input1) + ix;
{% for row in range(input_rows) %}
{% set used = namespace(any=false) %}
{% for r in range(rows) %}{% for ky in range(kernel0) %}{% if r * stride0 + ky * dilation0 == row %}{% set used.any = true %}{% endif %}{% endfor %}{% endfor %}
{% if used.any %}
    {
      let at = base + {{ row }} * i32(p.input1);
      let v = at >> 2u;
      let odd = (at & 1) != 0;
      let half = (at & 2) != 0;
{% for j in range(loads) %}
      let v{{ j }} = x[u32(v + {{ j }})];
{% endfor %}
{% for i in range(reach + 1) %}
      let h{{ i }} = select(v{{ i // 4 }}[{{ i % 4 }}], v{{ (i + 2) // 4 }}[{{ (i + 2) % 4 }}], half);
{% endfor %}
{% if padded %}
      let inside = u32(iy + {{ row }}) < p.input0;
{% endif %}
{% if prologue %}
      let column = u32((iy + {{ row }}) * i32(p.input1) + ix);
{% endif %}
{% for i in range(reach) %}
{% set element = computed("select(h%s, h%s, odd)" | format(i, i + 1), "u32(at) + %su" | format(i), "line", "column + %su" | format(i)) %}
{% if padded %}
      let b{{ i }} = select({{ word }}(0), {{ element }}, inside{{ i }} && inside);
{% else %}
      let b{{ i }} = {{ element }};
{% endif %}
{% endfor %}
{% for r in range(rows) %}{% for ky in range(kernel0) %}{% if r * stride0 + ky * dilation0 == row %}
{% for e in range(places) %}
      c{{ r }}_{{ e }} = c{{ r }}_{{ e }}{% for kx in range(kernel1) %}{% set f = ky * kernel1 + kx %} + w{{ f // 4 }}[{{ f % 4 }}] * b{{ e * stride1 + kx * dilation1 }}{% endfor %};
{% endfor %}
{% endif %}{% endfor %}{% endfor %}
    }
{% endif %}
{% endfor %}
    let pixel = oy * p.output1 + ox;
    let o = plane * p.output0 * p.output1 + pixel;
{% for r in range(rows) %}
    if oy + {{ r }}u < p.output0 {
{% if runs %}
      let at = {{ r }}u * p.output1;
      y_store_run(o + at, min(p.output1 - ox, {{ places }}u), array(
{% for e in range(places) %}
        epilogue(c{{ r }}_{{ e }}, o + at + {{ e }}u, channel, pixel + at + {{ e }}u),
{% endfor %}
      ));
{% else %}
{% for e in range(places) %}
      if ox + {{ e }}u < p.output1 {
        let at = {{ r }}u * p.output1 + {{ e }}u;
        y[o + at] = epilogue(c{{ r }}_{{ e }}, o + at, channel, pixel + at);
      }
{% endfor %}
{% endif %}
    }
{% endfor %}
  }
}
