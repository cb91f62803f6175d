{# Attention for software devices. A workgroup is one subgroup, and computes `rows` query rows of one head. It takes `lanes * keys` keys at
   a time, each lane `keys` of them, and keeps their scores in registers. For the values, each lane keeps every `lanes`th vector of the
   rows' results. Operands are loaded as in gemm_lanes.wgsl; the softmax is carried along the keys as in attention.wgsl. #}
{% set steps = [4, 2, 1] if lanes == 8 else [2, 1] %}
{% set row_groups = (rows + lanes - 1) // lanes %}
@compute @workgroup_size({{ lanes }})
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  // 0, but not for the compiler: lavapipe 22.3 inlines uniforms that bound loops, and may then compile at every submit.
  let zero = workgroup.z >> 20u;
  let group = workgroup.x + workgroup.y * groups.x;
  let blocks = (p.rows + {{ rows - 1 }}u) / {{ rows }}u;
  let first = group % blocks * {{ rows }}u;
  let head = group / blocks % p.heads;
  let batch = group / blocks / p.heads;
  // One answer for the whole workgroup.
  if batch < p.batches {
    let q_at = batch * p.q_batch + head * p.q_head;
    let k_at = batch * p.k_batch + head / p.group * p.k_head;
    let v_at = batch * p.v_batch + head / p.group * p.v_head;
    let y_at = batch * p.y_batch + head * p.y_head + first * p.y_row;
{% for g in range(row_groups) %}
    let q_row{{ g }} = q_at + min(first + {{ g * lanes }}u + lane{{ " %% %su" | format(rows) if rows < lanes else "" }}, p.rows - 1u) * p.q_row;
{% endfor %}
{% for s in range(vectors) %}
    let d{{ s }} = lane + {{ s * lanes }}u;
    let own{{ s }} = v_at + min(d{{ s }}, p.depth_v - 1u);
{% endfor %}
{% for m in range(rows) %}
    var top{{ m }} = -3.40282347e38;
    // Of this lane's keys.
    var sum{{ m }} = 0.0;
{% for s in range(vectors) %}
    var c{{ m }}_{{ s }} = vec4<f32>();
{% endfor %}
{% endfor %}
{% if lengths %}
    let low = 0u;
    let high = p.keys + zero;
{% else %}
    // The keys that any row of the workgroup sees.
    let offset = i32(first + p.past);
    let low = u32(max(0, offset - i32(p.left)));
    let high = u32(max(0, min(i32(p.keys), offset + {{ rows }} + i32(p.right)))) + zero;
{% endif %}
    for (var key = low; key < high; key += {{ lanes * keys }}u) {
{% for j in range(keys) %}
      let key{{ j }} = key + {{ j * lanes }}u + lane;
      let k_row{{ j }} = k_at + min(key{{ j }}, p.keys - 1u) * p.k_row;
{% endfor %}
{% for m in range(rows) %}{% for j in range(keys) %}
      var s{{ m }}_{{ j }} = 0.0;
{% endfor %}{% endfor %}
      for (var d = 0u; d < p.depth + zero; d++) {
{% for g in range(row_groups) %}
        let q{{ g }} = q[q_row{{ g }} + d];
{% endfor %}
{% for j in range(keys) %}
        let k{{ j }} = k[k_row{{ j }} + d];
{% endfor %}
{% for m in range(rows) %}
{% for u in range(4) %}
        let q{{ m }}_{{ u }} = subgroupBroadcast(q{{ m // lanes }}[{{ u }}], {{ m % lanes }}u);
{% endfor %}
{% for j in range(keys) %}
        s{{ m }}_{{ j }} += {% for u in range(4) %}{{ " + " if u }}q{{ m }}_{{ u }} * k{{ j }}[{{ u }}]{% endfor %};
{% endfor %}
{% endfor %}
      }
{% if mask_row %}
{% for j in range(keys) %}
      let mask{{ j }} = mask_of(batch, head, 0u, key{{ j }});
{% endfor %}
{% endif %}
{% for m in range(rows) %}
      {
{% for j in range(keys) %}
{% set own_mask = "mask%s" | format(j) if mask_row else "mask_of(batch, head, first + %su, key%s)" | format(m, j) %}
        let bias{{ j }} = seen(batch, first + {{ m }}u, key{{ j }}, {{ own_mask }});
        s{{ m }}_{{ j }} = select(score(s{{ m }}_{{ j }}) + bias{{ j }}, bias{{ j }}, replaces(bias{{ j }}, key{{ j }}));
{% if unseen != "zeros" %}
        // A key whose score is no number is hidden, and spoils the sum.
        let spoils{{ j }} = !is_finite(s{{ m }}_{{ j }}) & !is_hidden(s{{ m }}_{{ j }});
        s{{ m }}_{{ j }} = select(s{{ m }}_{{ j }}, -infinity(), spoils{{ j }});
{% endif %}
{% endfor %}
        let t0 = {% for j in range(keys) %}{{ "max(" if not loop.last }}s{{ m }}_{{ j }}{{ ", " if not loop.last }}{% endfor %}{{ ")" * (keys - 1) }};
{% for step in steps %}
        let t{{ loop.index }} = max(t{{ loop.index0 }}, subgroupShuffleXor(t{{ loop.index0 }}, {{ step }}u));
{% endfor %}
        let next = max(top{{ m }}, t{{ steps | length }});
{% for j in range(keys) %}
        s{{ m }}_{{ j }} = select(exp(s{{ m }}_{{ j }} - next), 0.0, is_hidden(s{{ m }}_{{ j }}));
{% endfor %}
        let shrink = exp(top{{ m }} - next);
        top{{ m }} = next;
        sum{{ m }} = sum{{ m }} * shrink{% for j in range(keys) %} + s{{ m }}_{{ j }}{% endfor %};
{% if unseen != "zeros" %}
        sum{{ m }} += select(0.0, infinity(), {% for j in range(keys) %}{{ " | " if not loop.first }}spoils{{ j }}{% endfor %});
{% endif %}
{% for s in range(vectors) %}
        c{{ m }}_{{ s }} *= shrink;
{% endfor %}
      }
{% endfor %}
      // The values of four keys at a time, whose weights are in the first lanes: then those of the next keys are turned there.
      for (var i = 0u; i < {{ lanes * keys }}u + zero; i += 4u) {
{% for u in range(4) %}
        let row{{ u }} = min(key + i + {{ u }}u, p.keys - 1u) * p.v_row;
        let exists{{ u }} = key + i + {{ u }}u < p.keys;
{% for s in range(vectors) %}
        let v{{ u }}_{{ s }} = select(vec4<f32>(), v[own{{ s }} + row{{ u }}], exists{{ u }});
{% endfor %}
{% endfor %}
{% for m in range(rows) %}
{% for u in range(4) %}
        let w{{ m }}_{{ u }} = subgroupBroadcast(s{{ m }}_0, {{ u }}u);
{% endfor %}
{% for s in range(vectors) %}
        c{{ m }}_{{ s }} += {% for u in range(4) %}{{ " + " if not loop.first }}w{{ m }}_{{ u }} * v{{ u }}_{{ s }}{% endfor %};
{% endfor %}
{% endfor %}
{% if lanes == 8 %}
        let turn = (i & 4u) == 0u;
{% endif %}
{% for m in range(rows) %}
{% if lanes == 8 %}
        let turned{{ m }} = subgroupShuffleXor(s{{ m }}_0, 4u);
        s{{ m }}_0 = select({{ "s%s_1" | format(m) if keys > 1 else "turned%s" | format(m) }}, turned{{ m }}, turn);
{% for j in range(1, keys - 1) %}
        s{{ m }}_{{ j }} = select(s{{ m }}_{{ j + 1 }}, s{{ m }}_{{ j }}, turn);
{% endfor %}
{% else %}
{% for j in range(keys - 1) %}
        s{{ m }}_{{ j }} = s{{ m }}_{{ j + 1 }};
{% endfor %}
{% endif %}
{% endfor %}
      }
    }
    // One row is stored at a time, and the rest moves up: stores are most of what the driver compiles.
    for (var r = 0u; r < min({{ rows }}u, p.rows - first) + zero; r++) {
      let z0 = sum0;
{% for step in steps %}
      let z{{ loop.index }} = z{{ loop.index0 }} + subgroupShuffleXor(z{{ loop.index0 }}, {{ step }}u);
{% endfor %}
      let total = z{{ steps | length }};
{% for s in range(vectors) %}
      if d{{ s }} < p.depth_v {
        y[y_at + r * p.y_row + d{{ s }}] = finished(c0_{{ s }}, total);
      }
{% endfor %}
{% for m in range(rows - 1) %}
      sum{{ m }} = sum{{ m + 1 }};
{% for s in range(vectors) %}
      c{{ m }}_{{ s }} = c{{ m + 1 }}_{{ s }};
{% endfor %}
{% endfor %}
    }
  }
}
