// Scaled dot-product attention. One query row per invocation; the rows of a workgroup belong to one head, so that all
// of its invocations read the same keys and values. The softmax is carried along the keys: `top` is the greatest score
// so far, `sum` the sum of exp(score - top), and the row of `y` holds the weighted values until it is divided by `sum`.
{% if scores == "none" %}
@compute @workgroup_size({{ workgroup }})
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let group = workgroup.x + workgroup.y * groups.x;
  let blocks = (p.rows + {{ workgroup - 1 }}u) / {{ workgroup }}u;
  let first = group % blocks * {{ workgroup }}u;
  let row = first + lane;
  let head = group / blocks % p.heads;
  let batch = group / blocks / p.heads;
  if batch < p.batches && row < p.rows {
    let q_at = batch * p.q_batch + head * p.q_head + row * p.q_row;
    let k_at = batch * p.k_batch + head / p.group * p.k_head;
    let v_at = batch * p.v_batch + head / p.group * p.v_head;
    let y_at = batch * p.y_batch + head * p.y_head + row * p.y_row;
    let stat = 2u * ((batch * p.heads + head) * p.rows + row);
    var top = {{ "-1.7976931348623157e308lf" if double else "-3.40282347e38" }};
    var sum = 0.0{{ suffix }};
    if p.start > 0u {
      top = stats[stat];
      sum = stats[stat + 1u];
    }
    // The keys that any row of the workgroup sees.
    let offset = i32(first) + offset_of(batch);
    let low = u32(max(i32(p.start), offset - i32(p.left)));
    let high = u32(max(0, min(i32(p.end), offset + {{ workgroup }} + i32(p.right))));
    for (var key = low; key < high; key += {{ block }}u) {
{% for i in range(block) %}
      let k{{ i }} = k_at + min(key + {{ i }}u, p.keys - 1u) * p.k_row;
      let v{{ i }} = v_at + min(key + {{ i }}u, p.keys - 1u) * p.v_row;
      var dot{{ i }} = 0.0{{ suffix }};
{% endfor %}
      for (var d = 0u; d < p.depth; d++) {
        let a = q[q_at + d];
{% for i in range(block) %}
        dot{{ i }} += {{ "dot(a, k[k%s + d])" | format(i) if vector else "a * k[k%s + d]" | format(i) }};
{% endfor %}
      }
      var next = top;
{% for i in range(block) %}
      let bias{{ i }} = bias(batch, head, row, key + {{ i }}u);
      let hidden{{ i }} = (key + {{ i }}u >= p.end) | is_hidden(bias{{ i }});
      let score{{ i }} = score(dot{{ i }}) + bias{{ i }};
      next = select(max(next, score{{ i }}), next, hidden{{ i }});
{% endfor %}
{% for i in range(block) %}
      let e{{ i }} = select({{ exp }}(score{{ i }} - next), 0.0{{ suffix }}, hidden{{ i }});
{% endfor %}
      let shrink = {{ exp }}(top - next);
      let begun = sum > 0.0{{ suffix }};
      top = next;
      sum = sum * shrink{% for i in range(block) %} + e{{ i }}{% endfor %};
      for (var d = 0u; d < p.depth_v; d++) {
        var acc = select({{ element }}(), y[y_at + d] * shrink, begun);
{% for i in range(block) %}
        acc += e{{ i }} * v[v{{ i }} + d];
{% endfor %}
        y[y_at + d] = acc;
      }
    }
    stats[stat] = top;
    stats[stat + 1u] = sum;
    if p.end == p.keys {
      for (var d = 0u; d < p.depth_v; d++) {
        let value = finished(y[y_at + d], sum);
        y[y_at + d] = value;
      }
    }
  }
}
{% else %}
@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  if o < p.batches * p.heads * p.rows * p.keys {
    let key = o % p.keys;
    let row = o / p.keys % p.rows;
    let head = o / p.keys / p.rows % p.heads;
    let batch = o / p.keys / p.rows / p.heads;
    let q_at = batch * p.q_batch + head * p.q_head + row * p.q_row;
    let k_at = batch * p.k_batch + head / p.group * p.k_head + key * p.k_row;
    var product = 0.0{{ suffix }};
    for (var d = 0u; d < p.depth; d++) {
      product += {{ "dot(q[q_at + d], k[k_at + d])" if vector else "q[q_at + d] * k[k_at + d]" }};
    }
{% if scores == "raw" %}
    let value = product * {{ scale }};
{% elif scores == "capped" %}
    let value = score(product);
{% elif scores == "biased" %}
    let value = score(product) + bias(batch, head, row, key);
{% else %}
    let own = bias(batch, head, row, key);
    let stat = 2u * (o / p.keys);
    let weight = {{ exp }}(score(product) + own - stats[stat]) / stats[stat + 1u];
    let value = select(weight, 0.0{{ suffix }}, is_hidden(own) | (stats[stat + 1u] == 0.0{{ suffix }}));
{% endif %}
    y[o] = value;
  }
}
{% endif %}
