{# A lane computes `p.rows` rows of `places` results of one channel. It goes down the input and loads each row once, as aligned vectors
   that it shifts into place. `depth` output rows are being summed at a time: sums c0 are of the row whose window begins here, and the
   last sums are complete after this step. #}
{% set reach = (places - 1) * stride1 + (kernel1 - 1) * dilation1 + 1 %}
{% set loads = (reach + 6) // 4 %}
{% set weights = (kernel0 * kernel1 + 3) // 4 %}
@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  // 0, but not for the compiler: lavapipe 22.3 inlines uniforms that bound loops, and may then compile at every submit.
  let zero = id.z >> 20u;
  let tile = id.x + id.y * groups.x * {{ workgroup }}u;
  let across = (p.output1 + {{ places - 1 }}u) / {{ places }}u;
  let down = (p.output0 + p.rows - 1u) / p.rows;
  // Tiles are numbered through all channels, so that small planes fill whole workgroups.
  let plane = tile / across / down;
  if plane < p.planes * p.filters {
    let ox = (tile % across) * {{ places }}u;
    let oy = (tile / across % down) * p.rows;
    let channel = plane % (p.groups * p.filters);
    let ix = i32(ox * {{ stride1 }}u) - i32(p.begin1);
    var iy = i32(oy * {{ stride0 }}u) - i32(p.begin0);
{% if padded %}
{% for i in range(reach) %}
    let inside{{ i }} = u32(ix + {{ i }}) < p.input1;
{% endfor %}
{% endif %}
{% for j in range(weights) %}
    let w{{ j }} = w[channel * {{ weights }}u + {{ j }}u];
{% endfor %}
{% for j in range(depth) %}{% for e in range(places) %}
    var c{{ j }}_{{ e }} = {{ word }}(0);
{% endfor %}{% endfor %}
    let line = plane / p.filters;
    var base = (i32(line * p.input0) + iy) * i32(p.input1) + ix;
    let size = p.output0 * p.output1;
    for (var step = 0u; step < p.rows + {{ depth - 1 }}u + zero; step++) {
{% for q in range(stride0) %}
{% set used = namespace(any=false) %}
{% for j in range(depth) %}{% if (j * stride0 + q) % dilation0 == 0 and j * stride0 + q < kernel0 * dilation0 %}{% set used.any = true %}{% endif %}{% endfor %}
{% if used.any %}
      {
        let at = base + {{ q }} * i32(p.input1);
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
        let inside = u32(iy + {{ q }}) < p.input0;
{% endif %}
{% if prologue %}
        let column = u32((iy + {{ q }}) * i32(p.input1) + ix);
{% endif %}
{% for i in range(reach) %}
{% set element = computed("select(h%s, h%s, odd)" | format(i, i + 1), "u32(at) + %su" | format(i), "line", "column + %su" | format(i)) %}
{% if padded %}
        let b{{ i }} = select({{ word }}(0), {{ element }}, inside{{ i }} && inside);
{% else %}
        let b{{ i }} = {{ element }};
{% endif %}
{% endfor %}
{% for j in range(depth) %}{% if (j * stride0 + q) % dilation0 == 0 and j * stride0 + q < kernel0 * dilation0 %}
{% set ky = (j * stride0 + q) // dilation0 %}
{% for e in range(places) %}
        c{{ j }}_{{ e }} = c{{ j }}_{{ e }}{% for kx in range(kernel1) %}{% set f = ky * kernel1 + kx %} + w{{ f // 4 }}[{{ f % 4 }}] * b{{ e * stride1 + kx * dilation1 }}{% endfor %};
{% endfor %}
{% endif %}{% endfor %}
      }
{% endif %}
{% endfor %}
      iy += {{ stride0 }};
      base += {{ stride0 }} * i32(p.input1);
      let row = oy + step - {{ depth - 1 }}u;
      if step >= {{ depth - 1 }}u && row < p.output0 {
        let pixel = row * p.output1 + ox;
        let o = plane * size + pixel;
{% if runs %}
        y_store_run(o, min(p.output1 - ox, {{ places }}u), array(
{% for e in range(places) %}
          epilogue(c{{ depth - 1 }}_{{ e }}, o + {{ e }}u, channel, pixel + {{ e }}u),
{% endfor %}
        ));
{% else %}
{% for e in range(places) %}
        if ox + {{ e }}u < p.output1 {
          y[o + {{ e }}u] = epilogue(c{{ depth - 1 }}_{{ e }}, o + {{ e }}u, channel, pixel + {{ e }}u);
        }
{% endfor %}
{% endif %}
      }
{% for j in range(depth - 1, 0, -1) %}{% for e in range(places) %}
      c{{ j }}_{{ e }} = c{{ j - 1 }}_{{ e }};
{% endfor %}{% endfor %}
{% for e in range(places) %}
      c0_{{ e }} = {{ word }}(0);
{% endfor %}
    }
  }
}
