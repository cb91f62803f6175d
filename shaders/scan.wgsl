@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let g = id.x + id.y * groups.x * {{ workgroup }}u;
  if g < p.count {
    // Neighbouring invocations take neighbours in memory.
    let inner = g % p.inner;
    let part = (g / p.inner) % p.parts;
    let outer = g / p.inner / p.parts;
    let base = outer * p.length * p.inner + inner;
    let end = min(p.length, (part + 1u) * p.span);
{% if carry %}
    var total = before[g];
{% else %}
    var total = {{ identity }};
{% endif %}
    for (var j = part * p.span; j < end; j += 1u) {
{% if reverse %}
      let at = base + (p.length - 1u - j) * p.inner;
{% else %}
      let at = base + j * p.inner;
{% endif %}
      let own = x[at];
{% if exclusive and not totals %}
      {{ output }}[at] = epilogue(total, at, 0u, 0u);
{% endif %}
      total = {{ combine }};
{% if not exclusive and not totals %}
      {{ output }}[at] = epilogue(total, at, 0u, 0u);
{% endif %}
    }
{% if totals %}
    y[g] = total;
{% endif %}
  }
}
