{# Register tile for software devices, as in gemm_lanes. A lane computes `places` neighbouring results of one output row, and gets the
   weights of `rows` output channels by subgroupBroadcast. It loads an input row once for each channel and kernel row, as aligned
   vectors that it shifts into place. `line` numbers the output rows of a plane, or, with three axes, of all planes of a channel. #}
{% set (y, x) = (1, 2) if deep else (0, 1) %}
{% set reach = (places - 1) * stride + (kernel - 1) * dilation + 1 %}
{% set loads = (reach + 6) // 4 %}
{% set taps = 4 // low_rows %}
{% set high = rows // lanes // low_rows %}
@compute @workgroup_size({{ lanes }})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  // 0, but not for the compiler: lavapipe 22.3 inlines uniforms that bound loops, and may then compile at every submit.
  let zero = group.z >> 20u;
  let lane = local.x;
  // Segments of an output row, numbered through all rows.
  let segments = (p.output{{ x }} + {{ places - 1 }}u) / {{ places }}u;
  let segment = group.x * {{ lanes }}u + lane;
  let line = segment / segments;
{% if deep %}
  let oz = line / p.output1;
  let oy = line % p.output1;
  let lines = p.output0 * p.output1;
  let size_in = i32(p.input0 * p.input1 * p.input2);
{% else %}
  let oy = line;
  let lines = p.output0;
  let size_in = i32(p.input0 * p.input1);
{% endif %}
  let ox = (segment % segments) * {{ places }}u;
  let top = group.y * {{ rows }}u;
  let ix = i32(ox) * {{ stride }} - i32(p.begin{{ x }});
{% if padded %}
{% for i in range(reach) %}
  let inside{{ i }} = u32(ix + {{ i }}) < p.input{{ x }};
{% endfor %}
{% endif %}
{% for m in range(rows) %}{% for e in range(places) %}
  var c{{ m }}_{{ e }} = {{ word }}(0);
{% endfor %}{% endfor %}
  // [group][channel tile][channel][kernel row][vector][lane]
  let blocks = (p.filters + {{ rows - 1 }}u) / {{ rows }}u;
  var next = ((group.z % p.groups * blocks + group.y) * p.channels * {{ "p.kernel0 * p.kernel1" if deep else "p.kernel0" }}) * {{ weights * lanes }}u + lane;
  var plane = i32(group.z * p.channels) * size_in + ix;
  for (var channel = 0u; channel < p.channels + zero; channel++) {
{% if prologue %}
    let prologue_line = group.z * p.channels + channel;
{% endif %}
{% if deep %}
    var iz = i32(oz * p.stride0) - i32(p.begin0);
    for (var kz = 0u; kz < p.kernel0 + zero; kz++) {
{% endif %}
    var iy = i32(oy * p.stride{{ y }}) - i32(p.begin{{ y }});
    for (var ky = 0u; ky < p.kernel{{ y }} + zero; ky++) {
{% for j in range(weights) %}
      let w{{ j }} = w[next + {{ j * lanes }}u];
{% endfor %}
      let at_row = {{ "(iz * i32(p.input1) + iy) * i32(p.input2)" if deep else "iy * i32(p.input1)" }};
      let at = plane + at_row;
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
      let inside = u32(iy) < p.input{{ y }}{{ " && u32(iz) < p.input0" if deep }};
{% endif %}
{% if prologue %}
      let column = u32(at_row + ix);
{% endif %}
{% for i in range(reach) %}
{% set element = computed("select(h%s, h%s, odd)" | format(i, i + 1), "u32(at) + %su" | format(i), "prologue_line", "column + %su" | format(i)) %}
{% if padded %}
      let b{{ i }} = select({{ word }}(0), {{ element }}, inside{{ i }} && inside);
{% else %}
      let b{{ i }} = {{ element }};
{% endif %}
{% endfor %}
{% for m in range(rows) %}
{% for kx in range(kernel) %}
{% set own = m // lanes %}
{% set vector = kx // taps * high + own // low_rows %}
      let a{{ m }}_{{ kx }} = subgroupBroadcast(w{{ vector }}[{{ kx % taps * low_rows + own % low_rows }}], {{ m % lanes }}u);
{% endfor %}
{% for e in range(places) %}
      c{{ m }}_{{ e }} = c{{ m }}_{{ e }}{% for kx in range(kernel) %} + a{{ m }}_{{ kx }} * b{{ e * stride + kx * dilation }}{% endfor %};
{% endfor %}
{% endfor %}
      next += {{ weights * lanes }}u;
      iy += i32(p.dilation{{ y }});
    }
{% if deep %}
      iz += i32(p.dilation0);
    }
{% endif %}
    plane += size_in;
  }
  // Stores are most of what the driver compiles: the first row is stored, the tile moves up by one, and again.
  let size = lines * p.output{{ x }};
  let pixel = line * p.output{{ x }} + ox;
  for (var r = 0u; r < p.rows + zero; r++) {
    let channel = top + r;
    if channel < p.filters && line < lines {
      let o = (group.z * p.filters + channel) * size + pixel;
      let row = group.z % p.groups * p.filters + channel;
{% if runs %}
      y_store_run(o, min(p.output{{ x }} - ox, {{ places }}u), array(
{% for e in range(places) %}
        epilogue(c0_{{ e }}, o + {{ e }}u, row, pixel + {{ e }}u),
{% endfor %}
      ));
{% else %}
{% for e in range(places) %}
      if ox + {{ e }}u < p.output{{ x }} {
        y[o + {{ e }}u] = epilogue(c0_{{ e }}, o + {{ e }}u, row, pixel + {{ e }}u);
      }
{% endfor %}
{% endif %}
    }
{% for m in range(rows - 1) %}{% for e in range(places) %}
    c{{ m }}_{{ e }} = c{{ m + 1 }}_{{ e }};
{% endfor %}{% endfor %}
  }
}
