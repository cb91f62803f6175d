// One time step of a recurrent layer. Each invocation computes one hidden unit of one batch and direction; those of a
// workgroup share both, and read the previous hidden state at the same addresses.
fn clipped(x: {{ word }}) -> {{ word }} {
{% if clip %}
  return clamp(x, -{{ clip }}, {{ clip }});
{% else %}
  return x;
{% endif %}
}
{% for k in range(activations) %}

fn act{{ k }}(x: {{ word }}) -> {{ word }} {
  return f{{ k }}(clipped(x), 0u, 0u, 0u);
}
{% endfor %}

@compute @workgroup_size({{ workgroup }})
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let group = workgroup.x + workgroup.y * groups.x;
  let blocks = (p.hidden + {{ workgroup - 1 }}u) / {{ workgroup }}u;
  let j = group % blocks * {{ workgroup }}u + lane;
  let batch = group / blocks % p.batches;
  let direction = p.direction + group / blocks / p.batches;
  if group / blocks < p.batches * p.directions && j < p.hidden {
{% if lengths %}
    let length = u32(clamp(lengths[batch], 0, i32(p.steps)));
{% else %}
    let length = p.steps;
{% endif %}
    let running = p.step < length;
    let backward = (p.backward >> direction & 1u) == 1u;
    let t = select(p.step, length - 1u - p.step, backward && running);
    let state = direction * p.h_direction + batch * p.h_batch;
    let has_h = p.step > 0u || p.has_h == 1u;
    var h_old = 0.0{{ suffix }};
    if has_h { h_old = h[p.h_in + state + j]; }
    var h_new = h_old;
    var y_new = 0.0{{ suffix }};
    if running {
      let x_at = (t * p.x_step + batch * p.x_batch) * p.columns + direction * {{ gates }}u * p.hidden + j;
{% for g in own %}
      var a{{ g }} = x[x_at + {{ g }}u * p.hidden];
      var b{{ g }} = 0.0{{ suffix }};
{% endfor %}
      if has_h {
        for (var k = 0u; k < p.hidden; k++) {
          let r_at = (direction * p.hidden + k) * {{ gates }}u * p.hidden + j;
          let before = {{ "gated[p.gated + state + k]" if cell == "gru_candidate" else "h[p.h_in + state + k]" }};
{% for g in own %}
          b{{ g }} += before * r[r_at + {{ g }}u * p.hidden];
{% endfor %}
        }
      }
{% if bias %}
      let b_at = direction * {{ 2 * gates }}u * p.hidden + j;
{% for g in own %}
      a{{ g }} += bias[b_at + {{ g }}u * p.hidden];
      b{{ g }} += bias[b_at + {{ gates + g }}u * p.hidden];
{% endfor %}
{% endif %}
{% if cell == "lstm" %}
      var c_old = 0.0{{ suffix }};
      if p.step > 0u || p.has_c == 1u { c_old = c[state + j]; }
{% if peephole %}
      let p_at = direction * 3u * p.hidden + j;
      a0 += peephole[p_at] * c_old;
      a2 += peephole[p_at + 2u * p.hidden] * c_old;
{% endif %}
      let open = act0(a0 + b0);
      let keep = {{ "1.0%s - open" | format(suffix) if coupled else "act0(a2 + b2)" }};
      let c_new = keep * c_old + open * act1(a3 + b3);
{% if peephole %}
      a1 += peephole[p_at + p.hidden] * c_new;
{% endif %}
      h_new = act0(a1 + b1) * act2(c_new);
      c[state + j] = c_new;
{% elif cell == "gru" %}
      let update = act0(a0 + b0);
      let candidate = act1(a2 + act0(a1 + b1) * b2);
      h_new = (1.0{{ suffix }} - update) * candidate + update * h_old;
{% elif cell == "gru_gates" %}
      gated[state + j] = act0(a0 + b0);
      gated[p.gated + state + j] = act0(a1 + b1) * h_old;
{% elif cell == "gru_candidate" %}
      let update = gated[state + j];
      h_new = (1.0{{ suffix }} - update) * act1(a2 + b2) + update * h_old;
{% else %}
      h_new = act0(a0 + b0);
{% endif %}
      y_new = h_new;
    }
{% if cell != "gru_gates" %}
    h[p.h_out + state + j] = h_new;
{% if y %}
    y[t * p.y_step + direction * p.y_direction + batch * p.y_batch + j] = y_new;
{% endif %}
{% endif %}
  }
}
