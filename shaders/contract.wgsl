@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  // 0, but not for the compiler: lavapipe 22.3 inlines uniforms that bound loops, and may then compile at every submit.
  let zero = id.z >> 20u;
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  if o < p.count {
    var rest = o;
{% for i in range(operands) %}
    var at{{ i }} = 0u;
{% endfor %}
{% for d in range(outer) | reverse %}
    {
      let at = {{ "rest" if loop.last else "rest % p.outer_size" ~ d }};
{% for i in range(operands) %}
      at{{ i }} += at * p.outer_step{{ d }}_{{ i }};
{% endfor %}
{% if not loop.last %}
      rest /= p.outer_size{{ d }};
{% endif %}
    }
{% endfor %}
    rest = p.first;
{% for d in range(inner) | reverse %}
    var k{{ d }} = {{ "rest" if loop.last else "rest % p.inner_size" ~ d }};
{% for i in range(operands) %}
    at{{ i }} += k{{ d }} * p.inner_step{{ d }}_{{ i }};
{% endfor %}
{% if not loop.last %}
    rest /= p.inner_size{{ d }};
{% endif %}
{% endfor %}
    var sum = {{ word }}(0);
    for (var term = p.first; term < p.last + zero; term++) {
{% if sums %}
      var product = x0[at0];
{% for i in range(1, operands) %}
      product = {{ sums[1] }}(product, x{{ i }}[at{{ i }}]);
{% endfor %}
      sum = {{ sums[0] }}(sum, product);
{% else %}
      sum += {% for i in range(operands) %}x{{ i }}[at{{ i }}]{{ " * " if not loop.last }}{% endfor %};
{% endif %}
{% for d in range(inner) | reverse %}
      {{ "if k" ~ (d + 1) ~ " == 0u {" if not loop.first }}
      k{{ d }}++;
{% for i in range(operands) %}
      at{{ i }} += p.inner_step{{ d }}_{{ i }};
{% endfor %}
{% if not loop.last %}
      if k{{ d }} == p.inner_size{{ d }} {
        k{{ d }} = 0u;
{% for i in range(operands) %}
        at{{ i }} -= p.inner_size{{ d }} * p.inner_step{{ d }}_{{ i }};
{% endfor %}
      }
{% endif %}
{% endfor %}
{% for d in range(1, inner) %}
      }
{% endfor %}
    }
    y[o] = epilogue(sum, o, 0u, o);
  }
}
