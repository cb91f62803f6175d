{# The tile of GPUs. `bk` terms of both operands at a time go through workgroup memory, as vectors: of a row's terms on the left, of a
   term's columns on the right. An invocation adds up `tm` by `tn` results in registers. Each has a name, because a register that a
   loop indexes is memory. The right operand may be the windows of an image, which the loads find. #}
{% set threads = bm // tm * (bn // tn) %}
{% set across = bn // tn %}
{% set quads = bk // 4 %}
{% set strip = bn // 4 %}
{% set image = b_form == "image" or b_form == "flat" %}
{# Where neighbouring invocations store a row apart, a vector more in each row spreads their stores over the banks. #}
{% set a_step = quads + (1 if a_form == "rows" else 0) %}
{% set b_step = strip + (1 if b_form == "terms" else 0) %}
{# A vector of the right operand holds neighbouring columns if a vector of memory does. Otherwise its columns are `strip` apart, so that
   neighbouring invocations load and store neighbours. #}
{% set near = b_form == "vectors" %}
{# The vectors of the terms from k on that an invocation copies. #}
{% macro load_a(i, k) %}
{% if a_form == "packed" %}
a[a_at{{ i }} + {{ k }} * {{ bm // 4 }}u]
{%- elif a_form == "vectors" %}
{% set term = "%s + a_q%s * 4u" | format(k, i) %}
select(vec4<{{ word }}>(), {{ load("a", "(a_at%s + %s) / 4u" | format(i, term), "a_line%s" | format(i), term) }}, {{ term }} < last)
{%- else %}
vec4<{{ word }}>(
{% for u in range(4) %}
{% set term = "%s + a_q%s * 4u + %su" | format(k, i, u) %}
        select({{ word }}(0), {{ load("a", "a_at%s + (%s) * %s" | format(i, term, a_k), "a_line%s" | format(i), term) }}, {{ term }} < last),
{% endfor %}
      )
{%- endif %}
{% endmacro %}
{% macro load_b(i, k) %}
{% set own = "(b_k + %su)" | format(i * threads // strip) %}
{% if b_form == "packed" %}
b[b_at + {{ k }} * {{ strip }}u + {{ i * threads }}u]
{%- elif b_form == "terms" %}
vec4<{{ word }}>(
{% for u in range(4) %}
        select({{ word }}(0), {{ load("b", "b_at%s_%s + (%s + b_k) * p.b_k" | format(i, u, k), "b_line%s_%s" | format(i, u), "%s + b_k" | format(k)) }}, {{ k }} + b_k < last),
{% endfor %}
      )
{%- elif near %}
select(vec4<{{ word }}>(), {{ load("b", "(b_at + (%s + %s) * p.b_k) / 4u" | format(k, own), "b_line + %s + %s" | format(k, own), "left + b_q * 4u") }}, {{ k }} + {{ own }} < last)
{%- elif b_form == "columns" %}
vec4<{{ word }}>(
{% for u in range(4) %}
        select({{ word }}(0), {{ load("b", "b_at%s + (%s + %s) * p.b_k" | format(u, k, own), "b_line + %s + %s" | format(k, own), "b_n%s" | format(u)) }}, {{ k }} + {{ own }} < last),
{% endfor %}
      )
{%- elif b_form == "image" %}
pixels(channel + {{ own }}, ky, kx, vec4<u32>(b_plane0, b_plane1, b_plane2, b_plane3), vec4<u32>(b_y0, b_y1, b_y2, b_y3), vec4<u32>(b_x0, b_x1, b_x2, b_x3))
{%- else %}
window({{ k }} + {{ own }}, last, vec4<u32>(b_plane0, b_plane1, b_plane2, b_plane3), vec4<u32>(b_y0, b_y1, b_y2, b_y3), vec4<u32>(b_x0, b_x1, b_x2, b_x3))
{%- endif %}
{% endmacro %}
{% if image %}
// Of four windows that begin at these planes{{ ", which are numbers here" if prologue == "x" }}, rows and columns, the pixels under one tap in one channel.
fn pixels(channel: u32, ky: u32, kx: u32, planes: vec4<u32>, ys: vec4<u32>, xs: vec4<u32>) -> vec4<{{ word }}> {
  let y = ys + ky * p.dilation0;
  let x0 = xs + kx * p.dilation1;
{% if prologue == "x" %}
  let plane = planes + channel;
  let pixel = y * p.input1 + x0;
  let at = plane * p.in_size + pixel;
{% else %}
  let at = planes + channel * p.in_size + y * p.input1 + x0;
{% endif %}
  let inside = (y < vec4<u32>(p.input0)) & (x0 < vec4<u32>(p.input1)) & vec4<bool>(channel < p.channels);
  return select(vec4<{{ word }}>(), vec4<{{ word }}>({% for u in range(4) %}{{ load("x", "at[%s]" | format(u), "plane[%s]" | format(u), "pixel[%s]" | format(u)) }}{{ ", " if not loop.last }}{% endfor %}), inside);
}

{% endif %}
{% if b_form == "flat" %}
// Term k of four windows.
fn window(k: u32, last: u32, planes: vec4<u32>, ys: vec4<u32>, xs: vec4<u32>) -> vec4<{{ word }}> {
  let tap = k % p.taps;
  let channel = select(p.channels, k / p.taps, k < last);
  return pixels(channel, tap / p.kernel1, tap % p.kernel1, planes, ys, xs);
}

{% endif %}
var<workgroup> a_tile: array<vec4<{{ word }}>, {{ bm * a_step }}>;
var<workgroup> b_tile: array<vec4<{{ word }}>, {{ bk * b_step }}>;

@compute @workgroup_size({{ threads }})
fn main(
  @builtin(local_invocation_index) lane: u32,
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
) {
  // 0, but not for the compiler: lavapipe 22.3 inlines uniforms that bound loops, and may then compile at every submit.
  let zero = group.z >> 20u;
  let tile = group.x + group.y * groups.x;
  let tiles_m = ({{ m }} + {{ bm - 1 }}u) / {{ bm }}u;
  let tile_n = tile % p.tiles;
  let tile_m = tile / p.tiles % tiles_m;
  let batch = tile / p.tiles / tiles_m % {{ batches }};
  let slice = tile / p.tiles / tiles_m / {{ batches }};
  // One answer for the whole workgroup, so that barriers may follow.
  if slice < p.slices {
    let first = p.first + slice * p.span;
    let last = min(p.last, first + p.span);
    let top = tile_m * {{ bm }}u;
{% if image %}
    let left = tile_n * {{ bn }}u;
    let a_base = batch * {{ "tiles_m * p.blocks * %su" | format(bm * bk) if a_form == "packed" else "p.filters * p.a_row" }};
{% else %}
    let left = (p.first_tile + tile_n) * {{ bn }}u;
    let at = batch_offsets(batch);
    let a_base = at.x;
    let b_base = at.y;
{% endif %}
{% for i in range(bm * quads // threads) %}
{% set e = "(lane + %su)" | format(i * threads) %}
{% if a_form == "packed" %}
    let a_at{{ i }} = a_base / 4u + tile_m * p.blocks * {{ bm * quads }}u + lane + {{ i * threads }}u;
{% else %}
{% if a_form == "rows" %}
    let a_r{{ i }} = {{ e }} % {{ bm }}u;
    let a_q{{ i }} = {{ e }} / {{ bm }}u;
{% else %}
    let a_r{{ i }} = {{ e }} / {{ quads }}u;
    let a_q{{ i }} = {{ e }} % {{ quads }}u;
{% endif %}
    // Rows beyond the last are computed from the last, and not stored.
    let a_at{{ i }} = a_base + min(top + a_r{{ i }}, {{ m }} - 1u) * p.a_row;
{% if prologue == "a" %}
    let a_line{{ i }} = a_base / p.a_row + min(top + a_r{{ i }}, {{ m }} - 1u);
{% endif %}
{% endif %}
{% endfor %}
{% if b_form == "packed" %}
    let b_at = b_base / 4u + tile_n * p.blocks * {{ bk * strip }}u + lane;
{% elif b_form == "terms" %}
{% for i in range(bk * strip // threads) %}
    let b_q{{ i }} = (lane + {{ i * threads }}u) / {{ bk }}u;
{% for u in range(4) %}
    let b_at{{ i }}_{{ u }} = b_base + min(left + b_q{{ i }} + {{ u * strip }}u, p.n - 1u) * p.b_column;
{% if prologue == "b" %}
    let b_line{{ i }}_{{ u }} = b_base / p.b_column + min(left + b_q{{ i }} + {{ u * strip }}u, p.n - 1u);
{% endif %}
{% endfor %}
{% endfor %}
    let b_k = lane % {{ bk }}u;
{% else %}
    let b_q = lane % {{ strip }}u;
    let b_k = lane / {{ strip }}u;
{% if prologue == "b" %}
    let b_line = b_base / p.b_k;
{% endif %}
{% if near %}
    let b_at = b_base + left + b_q * 4u;
{% else %}
{% for u in range(4) %}
    let b_n{{ u }} = min(left + b_q + {{ u * strip }}u, p.n - 1u);
{% if image %}
    let b_pixel{{ u }} = b_n{{ u }} % p.out_size;
    // A place before the first wraps to a large number.
    let b_y{{ u }} = b_pixel{{ u }} / p.output1 * p.stride0 - p.begin0;
    let b_x{{ u }} = b_pixel{{ u }} % p.output1 * p.stride1 - p.begin1;
    let b_plane{{ u }} = (b_n{{ u }} / p.out_size * p.groups + batch) * p.channels{{ " * p.in_size" if prologue != "x" }};
{% else %}
    let b_at{{ u }} = b_base + b_n{{ u }} * p.b_column;
{% endif %}
{% endfor %}
{% endif %}
{% endif %}
{% if b_form == "image" %}
    // The sum runs over kernel rows, kernel columns, and channels, whose number is padded to whole blocks.
    let steps = (p.channels + {{ bk - 1 }}u) / {{ bk }}u;
    let step = first / {{ bk }}u;
    var channel = step % steps * {{ bk }}u;
    var kx = step / steps % p.kernel1;
    var ky = step / steps / p.kernel1;
{% endif %}
    let tx = lane % {{ across }}u;
    let ty = lane / {{ across }}u;
{% for i in range(tm) %}{% for j in range(tn // 4) %}
    var c{{ i }}_{{ j }} = vec4<{{ word }}>();
{% endfor %}{% endfor %}
{% if prefetch %}
{% for i in range(bm * quads // threads) %}
    var next_a{{ i }} = {{ load_a(i, "first") }};
{% endfor %}
{% for i in range(bk * strip // threads) %}
    var next_b{{ i }} = {{ load_b(i, "first") }};
{% endfor %}
{% endif %}
    for (var k = first; k < last + zero; k += {{ bk }}u) {
{% if not prefetch %}
{% for i in range(bm * quads // threads) %}
      let next_a{{ i }} = {{ load_a(i, "k") }};
{% endfor %}
{% for i in range(bk * strip // threads) %}
      let next_b{{ i }} = {{ load_b(i, "k") }};
{% endfor %}
{% endif %}
{% for i in range(bm * quads // threads) %}
{% if a_form == "packed" %}
      a_tile[lane + {{ i * threads }}u] = next_a{{ i }};
{% else %}
      a_tile[a_r{{ i }} * {{ a_step }}u + a_q{{ i }}] = next_a{{ i }};
{% endif %}
{% endfor %}
{% for i in range(bk * strip // threads) %}
{% if b_form == "packed" %}
      b_tile[lane + {{ i * threads }}u] = next_b{{ i }};
{% elif b_form == "terms" %}
      b_tile[b_k * {{ b_step }}u + b_q{{ i }}] = next_b{{ i }};
{% else %}
      b_tile[(b_k + {{ i * threads // strip }}u) * {{ b_step }}u + b_q] = next_b{{ i }};
{% endif %}
{% endfor %}
{% if b_form == "image" %}
      channel += {{ bk }}u;
      if channel >= p.channels {
        channel = 0u;
        kx++;
        if kx == p.kernel1 {
          kx = 0u;
          ky++;
        }
      }
{% endif %}
      workgroupBarrier();
{% if prefetch %}
      // What comes next is on its way while this is computed.
      let next = k + {{ bk }}u;
{% for i in range(bm * quads // threads) %}
      next_a{{ i }} = {{ load_a(i, "next") }};
{% endfor %}
{% for i in range(bk * strip // threads) %}
      next_b{{ i }} = {{ load_b(i, "next") }};
{% endfor %}
{% endif %}
      for (var q = 0u; q < {{ quads }}u; q++) {
{% for u in range(4) %}{% for j in range(tn // 4) %}
        let b{{ u }}_{{ j }} = b_tile[(q * 4u + {{ u }}u) * {{ b_step }}u + tx + {{ j * across }}u];
{% endfor %}{% endfor %}
{% for i in range(tm) %}
        let a{{ i }} = a_tile[(ty * {{ tm }}u + {{ i }}u) * {{ a_step }}u + q];
{% for j in range(tn // 4) %}
        c{{ i }}_{{ j }} = c{{ i }}_{{ j }}{% for u in range(4) %} + a{{ i }}[{{ u }}] * b{{ u }}_{{ j }}{% endfor %};
{% endfor %}
{% endfor %}
      }
      workgroupBarrier();
    }
{% for j in range(tn // 4) %}{% for u in range(4) %}
    let n{{ j }}_{{ u }} = left + {{ "(tx + %su) * 4u + %su" | format(j * across, u) if near else "tx + %su" | format(j * across + u * strip) }};
{% if image %}
    let o{{ j }}_{{ u }} = (n{{ j }}_{{ u }} / p.out_size * p.groups + batch) * p.filters * p.out_size + n{{ j }}_{{ u }} % p.out_size;
{% endif %}
{% endfor %}{% endfor %}
    // A few rows are stored, the tile moves up by as many, and again: the epilogue stands here for each store.
    for (var r = 0u; r < {{ tm }}u; r += {{ stored }}u) {
{% for i in range(stored) %}
      let row{{ i }} = top + ty * {{ tm }}u + r + {{ i }}u;
      if row{{ i }} < {{ m }} {
{% if not image %}
        let o = (batch * p.m + row{{ i }}) * p.n;
{% endif %}
{% if runs %}
{% for j in range(tn // 4) %}
        if n{{ j }}_0 < p.n {
          y_store_run(slice * p.size + o + n{{ j }}_0, min(p.n - n{{ j }}_0, 4u), array(
{% for u in range(4) %}
            epilogue(c{{ i }}_{{ j }}[{{ u }}], o + n{{ j }}_{{ u }}, row{{ i }}, n{{ j }}_{{ u }}),
{% endfor %}
          ));
        }
{% endfor %}
{% else %}
{% for j in range(tn // 4) %}{% for u in range(4) %}
        if n{{ j }}_{{ u }} < p.n {
{% if image %}
          let o = o{{ j }}_{{ u }} + row{{ i }} * p.out_size;
          y[slice * p.size + o] = epilogue(c{{ i }}_{{ j }}[{{ u }}], o, batch * p.filters + row{{ i }}, n{{ j }}_{{ u }} % p.out_size);
{% else %}
          y[slice * p.size + o + n{{ j }}_{{ u }}] = epilogue(c{{ i }}_{{ j }}[{{ u }}], o + n{{ j }}_{{ u }}, row{{ i }}, n{{ j }}_{{ u }});
{% endif %}
        }
{% endfor %}{% endfor %}
{% endif %}
      }
{% endfor %}
{% for i in range(tm - stored) %}{% for j in range(tn // 4) %}
      c{{ i }}_{{ j }} = c{{ i + stored }}_{{ j }};
{% endfor %}{% endfor %}
    }
  }
}
