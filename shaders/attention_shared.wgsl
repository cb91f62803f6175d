{# Attention for GPUs. A workgroup computes `rows` query rows of one head, and takes `lanes` keys at a time through workgroup memory:
   first the keys, then their values. `lanes` invocations share a row. In registers, each holds one of the keys, and every `lanes`th
   vector of the row's result. The softmax is carried along the keys as in attention.wgsl. #}
{% set width = lanes * kept %}
var<workgroup> query: array<vec4<f32>, {{ rows * width }}>;
// Rows are one vector apart from a multiple of the banks: neighbours read a row apart.
var<workgroup> tile: array<vec4<f32>, {{ lanes * (width + 1) }}>;
var<workgroup> scores: array<f32, {{ rows * lanes }}>;
var<workgroup> weights: array<f32, {{ rows * lanes }}>;

@compute @workgroup_size({{ rows * lanes }})
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  // 0, but not for the compiler: lavapipe 22.3 inlines uniforms that bound loops, and may then compile at every submit.
  let zero = workgroup.z >> 20u;
  let group = workgroup.x + workgroup.y * groups.x;
  let blocks = (p.rows + {{ rows - 1 }}u) / {{ rows }}u;
  let first = group % blocks * {{ rows }}u;
  let head = group / blocks % p.heads;
  let batch = group / blocks / p.heads;
  // One answer for the whole workgroup, so that barriers may follow.
  if batch < p.batches {
    let r = local / {{ lanes }}u;
    let lane = local % {{ lanes }}u;
    let exists = first + r < p.rows;
    let row = min(first + r, p.rows - 1u);
    let q_at = batch * p.q_batch + head * p.q_head + row * p.q_row;
    let k_at = batch * p.k_batch + head / p.group * p.k_head;
    let v_at = batch * p.v_batch + head / p.group * p.v_head;
    let y_at = batch * p.y_batch + head * p.y_head + row * p.y_row;
    let stat = 2u * ((batch * p.heads + head) * p.rows + row);
    var top = -3.40282347e38;
    var sum = 0.0;
    if p.start > 0u {
      top = stats[stat];
      sum = stats[stat + 1u];
    }
{% for i in range(kept) %}
    let d{{ i }} = lane + {{ i * lanes }}u;
    var acc{{ i }} = vec4<f32>();
    if p.start > 0u && d{{ i }} < p.depth_v {
      acc{{ i }} = y[y_at + d{{ i }}];
    }
    if d{{ i }} < p.depth {
      query[r * {{ width }}u + d{{ i }}] = q[q_at + d{{ i }}];
    }
{% endfor %}
{% if lengths %}
    let low = p.start;
    let high = p.end + zero;
{% else %}
    // The keys that any row of the workgroup sees.
    let offset = i32(first + p.past);
    let low = u32(max(i32(p.start), offset - i32(p.left)));
    let high = u32(max(0, min(i32(p.end), offset + {{ rows }} + i32(p.right)))) + zero;
{% endif %}
    for (var key = low; key < high; key += {{ lanes }}u) {
{% for i in range(lanes // rows) %}
      let own{{ i }} = r + {{ i * rows }}u;
      let k_row{{ i }} = k_at + min(key + own{{ i }}, p.keys - 1u) * p.k_row;
      let v_row{{ i }} = v_at + min(key + own{{ i }}, p.keys - 1u) * p.v_row;
{% for j in range(kept) %}
      if d{{ j }} < p.depth {
        tile[own{{ i }} * {{ width + 1 }}u + d{{ j }}] = k[k_row{{ i }} + d{{ j }}];
      }
{% endfor %}
{% endfor %}
      workgroupBarrier();
      var product = 0.0;
      for (var d = 0u; d < p.depth + zero; d++) {
        product += dot(query[r * {{ width }}u + d], tile[lane * {{ width + 1 }}u + d]);
      }
      let own_bias = bias(batch, head, row, key + lane);
      let hidden = (key + lane >= p.end) | is_hidden(own_bias);
      let own = score(product) + own_bias;
      scores[local] = select(own, -3.40282347e38, hidden);
      workgroupBarrier();
      var next = top;
      for (var i = 0u; i < {{ lanes }}u; i++) {
        next = max(next, scores[r * {{ lanes }}u + i]);
      }
      weights[local] = select(exp(own - next), 0.0, hidden);
{% for i in range(lanes // rows) %}
{% for j in range(kept) %}
      if d{{ j }} < p.depth_v {
        tile[own{{ i }} * {{ width + 1 }}u + d{{ j }}] = v[v_row{{ i }} + d{{ j }}];
      }
{% endfor %}
{% endfor %}
      workgroupBarrier();
      let shrink = exp(top - next);
      top = next;
      sum *= shrink;
{% for j in range(kept) %}
      acc{{ j }} *= shrink;
{% endfor %}
      for (var i = 0u; i < {{ lanes }}u; i++) {
        let weight = weights[r * {{ lanes }}u + i];
        sum += weight;
{% for j in range(kept) %}
        acc{{ j }} += weight * tile[i * {{ width + 1 }}u + d{{ j }}];
{% endfor %}
      }
      workgroupBarrier();
    }
    if exists {
      if lane == 0u {
        stats[stat] = top;
        stats[stat + 1u] = sum;
      }
{% for j in range(kept) %}
      if d{{ j }} < p.depth_v {
        let value{{ j }} = select(acc{{ j }}, finished(acc{{ j }}, sum), p.end == p.keys);
        y[y_at + d{{ j }}] = value{{ j }};
      }
{% endfor %}
    }
  }
}
