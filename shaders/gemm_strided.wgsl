// Operands of any strides. An invocation computes {{ rows }} rows of {{ columns }} columns that lie a workgroup's width apart.
@compute @workgroup_size({{ workgroup }})
fn main(
  @builtin(local_invocation_id) local: vec3<u32>,
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
) {
  // 0, but not for the compiler: lavapipe 22.3 inlines uniforms that bound loops, and may then compile at every submit.
  let zero = group.z >> 20u;
  let tile = group.x + group.y * groups.x;
  let tiles_n = (p.n + {{ columns * workgroup - 1 }}u) / {{ columns * workgroup }}u;
  let tiles_m = (p.m + {{ rows - 1 }}u) / {{ rows }}u;
  let batch = tile / (tiles_n * tiles_m);
  if batch < p.batches {
    let top = (tile / tiles_n % tiles_m) * {{ rows }}u;
    let left = (tile % tiles_n) * {{ columns * workgroup }}u + local.x;
    let at = batch_offsets(batch);
{% if prologue == "a" %}
    let a_line = at.x / p.a_row;
{% elif prologue == "b" %}
    let b_line = at.y / p.b_k;
{% endif %}
    var a_at = at.x + p.first * p.a_k;
    var b_at = at.y + p.first * p.b_k;
    // Rows and columns beyond the last are computed from the last, and not stored.
{% for i in range(rows) %}
    let a{{ i }} = min(top + {{ i }}u, p.m - 1u) * p.a_row;
{% endfor %}
{% for j in range(columns) %}
    let n{{ j }} = left + {{ j * workgroup }}u;
    let b{{ j }} = min(n{{ j }}, p.n - 1u) * p.b_column;
{% endfor %}
{% for i in range(rows) %}{% for j in range(columns) %}
    var c{{ i }}_{{ j }} = {{ word }}(0);
{% endfor %}{% endfor %}
    for (var k = p.first; k < p.last + zero; k++) {
{% for j in range(columns) %}
      let v{{ j }} = {{ load("b", "b_at + b%s" | format(j), "b_line + k", "min(n%s, p.n - 1u)" | format(j)) }};
{% endfor %}
{% for i in range(rows) %}
      let u{{ i }} = {{ load("a", "a_at + a%s" | format(i), "a_line + min(top + %su, p.m - 1u)" | format(i), "k") }};
{% for j in range(columns) %}
{% if sums %}
      c{{ i }}_{{ j }} = {{ sums[0] }}(c{{ i }}_{{ j }}, {{ sums[1] }}(u{{ i }}, v{{ j }}));
{% else %}
      c{{ i }}_{{ j }} += u{{ i }} * v{{ j }};
{% endif %}
{% endfor %}
{% endfor %}
      a_at += p.a_k;
      b_at += p.b_k;
    }
{% for i in range(rows) %}
    if top + {{ i }}u < p.m {
      let o = (batch * p.m + top + {{ i }}u) * p.n;
{% for j in range(columns) %}
      if n{{ j }} < p.n {
        y[o + n{{ j }}] = epilogue(c{{ i }}_{{ j }}, o + n{{ j }}, top + {{ i }}u, n{{ j }});
      }
{% endfor %}
    }
{% endfor %}
  }
}
