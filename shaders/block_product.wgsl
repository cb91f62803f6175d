{# For few rows. The invocations of a workgroup share the sums of some columns: each takes every so many-th unit of a column, and
   reads the terms of the left operand once for all columns. A subtraction takes a zero point away: signed numbers would save it, but
   SwiftShader takes twice as long for their shifts. #}
{% set per_word = 32 // bits %}
{% set terms = words * per_word %}
{% if share == "workgroup" %}
var<workgroup> parts: array<vec{{ columns }}<f32>, {{ threads }}>;

{% endif %}
@compute @workgroup_size({{ threads }})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  // 0, but not for the compiler: lavapipe 22.3 inlines uniforms that bound loops, and may then compile at every submit.
  let zero = group.z >> 20u;
  let lane = local.x;
  let left = group.x * {{ columns }}u;
  let row = group.y;
  let a_at = row * p.a_vectors;
{% for j in range(columns) %}
  let at{{ j }} = min(left + {{ j }}u, p.n - 1u) * p.units;
  var sum{{ j }} = 0.0;
{% endfor %}
  for (var unit = lane; unit < p.units + zero; unit += {{ threads }}u) {
{% for i in range(terms // 4) %}
    let a{{ i }} = a[a_at + unit * {{ terms // 4 }}u + {{ i }}u];
{% endfor %}
{% for j in range(columns) %}
    {
      let block = (at{{ j }} + unit) / {{ units }}u;
      let zero_point = {{ "f32(zeros[block])" if zeros else "%s.0" | format(2 ** (bits - 1)) }};
{% if words == 4 %}
      let w = b[at{{ j }} + unit];
{% else %}
      let w = array<u32, {{ words }}>(
{%- for q in range(words) %}b[(at{{ j }} + unit) * {{ words }}u + {{ q }}u]{{ ", " if not loop.last }}{% endfor %});
{% endif %}
      sum{{ j }} += scales[block] * (
{%- for q in range(words) %}{% for i in range(per_word) %}
{% set term = q * per_word + i %}
{% if term > 0 %} + {% endif %}a{{ term // 4 }}[{{ term % 4 }}] * (f32(bitcast<i32>((w[{{ q }}] >> {{ bits * i }}u) & {{ 2 ** bits - 1 }}u)) - zero_point)
{%- endfor %}{% endfor %});
    }
{% endfor %}
  }
{% if share == "subgroup" %}
  var own = subgroupAdd(sum0);
{% for j in range(1, columns) %}
  own = select(own, subgroupAdd(sum{{ j }}), lane == {{ j }}u);
{% endfor %}
{% else %}
  parts[lane] = vec{{ columns }}<f32>({% for j in range(columns) %}sum{{ j }}{{ ", " if not loop.last }}{% endfor %});
  workgroupBarrier();
  for (var width = {{ threads // 2 }}u; width > 0u; width /= 2u) {
    if lane < width {
      parts[lane] += parts[lane + width];
    }
    workgroupBarrier();
  }
  let own = parts[0][lane % {{ columns }}u];
{% endif %}
  let column = left + lane;
  if lane < {{ columns }}u && column < p.n {
    let o = row * p.n + column;
    y[o] = epilogue(own, o, row, column);
  }
}
