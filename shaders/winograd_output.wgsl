{# Results of Winograd convolution F(4x4, 3x3): an invocation computes 4 output channels of one tile of 4x4 places. Results that are not
   finite are computed again as the convolution is defined: there the transforms give NaN to a whole tile. #}
const SQRT_HALF = 0.70710678;
const SQRT_2 = 1.41421356;
/// Stores results of up to 4 neighbours, from row `oy` and column `ox` on.
fn store(values: vec4<f32>, image: u32, channel: u32, oy: u32, ox: u32) {
  let column = oy * p.output1 + ox;
  let o = (image * p.filters + channel) * p.output0 * p.output1 + column;
{% if runs %}
  y_store_run(o, min(p.output1 - ox, 4u), array(
{% for j in range(4) %}
    epilogue(values[{{ j }}], o + {{ j }}u, channel, column + {{ j }}u),
{% endfor %}
  ));
{% else %}
{% for j in range(4) %}
  if ox + {{ j }}u < p.output1 {
    y[o + {{ j }}u] = epilogue(values[{{ j }}], o + {{ j }}u, channel, column + {{ j }}u);
  }
{% endfor %}
{% endif %}
}
@compute @workgroup_size({{ workgroup }})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  // 0, but not for the compiler: lavapipe 22.3 inlines uniforms that bound loops, and may then compile at every submit.
  let zero = group.z >> 20u;
  let i = (group.x + group.y * groups.x) * {{ workgroup }}u + local.x;
  let tile = p.first + i % p.strip;
  if i >= p.count || tile >= p.tiles {
    return;
  }
  let top = i / p.strip * 4u;
  let image = tile / (p.tiles0 * p.tiles1);
  let oy = tile / p.tiles1 % p.tiles0 * 4u;
  let ox = tile % p.tiles1 * 4u;
{% for r in range(4) %}{% for j in range(4) %}
  var s{{ r }}_{{ j }} = vec4<f32>();
{% endfor %}{% endfor %}
  // [row of the tile][column of the tile][tile][channel]
  var at = (i % p.strip * p.filters + top) / 4u;
  for (var r = 0u; r < 6u + zero; r++) {
{% for j in range(6) %}
    let m{{ j }} = m[at];
    at += p.count;
{% endfor %}
    let inner_even = m1 + m2;
    let inner_odd = m1 - m2;
    let outer_even = m3 + m4;
    let outer_odd = m3 - m4;
    let t0 = m0 + inner_even + outer_even;
    let t1 = SQRT_HALF * (inner_odd + 2.0 * outer_odd);
    let t2 = 0.5 * inner_even + 2.0 * outer_even;
    let t3 = SQRT_HALF * (0.5 * inner_odd + 4.0 * outer_odd) + m5;
    // Row r of the tile belongs to this point, the last to infinity. Row 0 of the results adds up all rows but the last, row 1
    // takes each times its point, and so on; the last row of the tile is only in the last row of the results.
    let last = r == 5u;
    let wide = r >= 3u;
    let sign = select(1.0, -1.0, r == 2u || r == 4u);
    let inner = r > 0u && !last;
    let a0 = select(1.0, 0.0, last);
    let a1 = select(0.0, sign * select(SQRT_HALF, SQRT_2, wide), inner);
    let a2 = select(0.0, select(0.5, 2.0, wide), inner);
    let a3 = select(select(0.0, sign * SQRT_HALF * select(0.5, 4.0, wide), inner), 1.0, last);
{% for r in range(4) %}{% for j in range(4) %}
    s{{ r }}_{{ j }} += a{{ r }} * t{{ j }};
{% endfor %}{% endfor %}
  }
  // A bit for each row and channel of which not all results are finite.
  var bad = 0u;
  let rows = min(p.output0 - oy, 4u);
  for (var r = 0u; r < rows + zero; r++) {
    for (var q = 0u; q < 4u + zero; q++) {
      let values = vec4<f32>(s0_0.x, s0_1.x, s0_2.x, s0_3.x);
      let bits = bitcast<vec4<u32>>(values) & vec4<u32>(0x7fffffffu);
      if max(max(bits.x, bits.y), max(bits.z, bits.w)) < 0x7f800000u {
        store(values, image, top + q, oy + r, ox);
      } else {
        bad |= 1u << (4u * r + q);
      }
{% for j in range(4) %}
      s0_{{ j }} = s0_{{ j }}.yzwx;
{% endfor %}
    }
{% for r in range(3) %}{% for j in range(4) %}
    s{{ r }}_{{ j }} = s{{ r + 1 }}_{{ j }};
{% endfor %}{% endfor %}
  }
  let count = countOneBits(bad);
  for (var k = 0u; k < count; k++) {
    let place = firstTrailingBit(bad);
    bad &= bad - 1u;
    let channel = top + place % 4u;
    let row = oy + place / 4u;
    let ix = i32(ox) - i32(p.begin1);
    var values = vec4<f32>();
    for (var line = 0u; line < p.channels * 3u + zero; line++) {
      let iy = i32(row + line % 3u) - i32(p.begin0);
      let inside = u32(iy) < p.input0;
      let start = (i32(image * p.channels + line / 3u) * i32(p.input0) + iy) * i32(p.input1) + ix;
{% for j in range(6) %}
      let b{{ j }} = select(0.0, x[u32(start + {{ j }})], inside && u32(ix + {{ j }}) < p.input1);
{% endfor %}
      let taps = (channel * p.channels * 3u + line) * 3u;
      values += w[taps] * vec4<f32>(b0, b1, b2, b3);
      values += w[taps + 1u] * vec4<f32>(b1, b2, b3, b4);
      values += w[taps + 2u] * vec4<f32>(b2, b3, b4, b5);
    }
    store(values, image, channel, row, ox);
  }
}
