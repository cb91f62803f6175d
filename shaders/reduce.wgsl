{% if share == "workgroup" %}
{% for fold in folds %}
var<workgroup> shared{{ fold.k }}: array<{{ fold.word }}, {{ workgroup }}>;
{% endfor %}
{% endif %}
@compute @workgroup_size({{ workgroup }})
fn main(
{% if share == "subgroup" %}
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) lane: u32,
{% else %}
  @builtin(local_invocation_index) lane: u32,
{% endif %}
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
) {
  // 0, but not for the compiler: lavapipe 22.3 inlines uniforms that bound loops, and may then compile at every submit.
  let zero = group.z >> 20u;
{% if share == "workgroup" %}
  let g = group.x + group.y * groups.x;
  let exists = g < p.count;
{% elif share == "subgroup" %}
  let wanted = (group.x + group.y * groups.x) * {{ workgroup // lanes }}u + subgroup;
  let exists = wanted < p.count;
  // Subgroups beyond the last go through it as well, and store nothing: subgroup operations want uniform control flow.
  let g = min(wanted, p.count - 1u);
{% else %}
  let g = (group.x + group.y * groups.x) * {{ workgroup }}u + lane;
  let exists = g < p.count;
{% endif %}
  {{ "{" if share == "subgroup" else "if exists {" }}
{% if across %}
    let row = g % p.rows;
    let part = g / p.rows;
{% else %}
    let row = g / p.parts;
    let part = g % p.parts;
{% endif %}
    let base = kept_at(row);
{% if share == "alone" %}
    let first = part{{ by }};
    let end = p.length + zero;
    let step = p.parts{{ by }};
{% else %}
    let span = (p.length + p.parts{{ by }} - 1u) / (p.parts{{ by }}){{ by }};
    let first = part * span + lane{{ by }};
    let end = min(p.length, (part + 1u) * span) + zero;
    const step = {{ lanes }}u{{ by }};
{% endif %}
{% for side in sides %}
    let q{{ side.operand }} = s{{ side.operand }}[{{ side.index }}];
{% endfor %}
{% for k in given %}
    let v{{ k }} = g{{ k }}[row];
{% endfor %}
    var at = 0u;
    var j = 0u;
{% for fold in folds %}
{% set k = fold.k %}
{% for i in range(4) %}
    var a{{ k }}_{{ i }} = {{ fold.identity }};
{% endfor %}
    // Four accumulators: a chain of dependent operations would wait for each.
{% if vector %}
    for (j = first; j < end; j += step) {
      at = base + j;
      let e = x[at / 4u];
{% for i in range(4) %}
      a{{ k }}_{{ i }} = combine{{ k }}(a{{ k }}_{{ i }}, map{{ k }}(e[{{ i }}], at + {{ i }}u, j + {{ i }}u, row{{ fold.arguments }}));
{% endfor %}
    }
{% else %}
    for (j = first; j + 3u * step < end; j += 4u * step) {
{% for i in range(4) %}
      at = base + reduced_at(j + {{ i }}u * step);
      a{{ k }}_{{ i }} = combine{{ k }}(a{{ k }}_{{ i }}, map{{ k }}(x[at], at, j + {{ i }}u * step, row{{ fold.arguments }}));
{% endfor %}
    }
    for (; j < end; j += step) {
      at = base + reduced_at(j);
      a{{ k }}_0 = combine{{ k }}(a{{ k }}_0, map{{ k }}(x[at], at, j, row{{ fold.arguments }}));
    }
{% endif %}
    let a{{ k }} = combine{{ k }}(combine{{ k }}(a{{ k }}_0, a{{ k }}_1), combine{{ k }}(a{{ k }}_2, a{{ k }}_3));
{% if share == "workgroup" %}
    shared{{ k }}[lane] = a{{ k }};
    workgroupBarrier();
    for (var s = {{ workgroup // 2 }}u; s > 0u; s /= 2u) {
      if lane < s {
        shared{{ k }}[lane] = combine{{ k }}(shared{{ k }}[lane], shared{{ k }}[lane + s]);
      }
      workgroupBarrier();
    }
    let v{{ k }} = finish{{ k }}(shared{{ k }}[0], 0u, 0u, row{{ fold.arguments }});
{% elif share == "subgroup" %}
{% for s in fold.steps %}
    let t{{ k }}_{{ s }} = combine{{ k }}({{ "a%s" | format(k) if loop.first else "t%s_%s" | format(k, 2 * s) }}, subgroupShuffleXor({{ "a%s" | format(k) if loop.first else "t%s_%s" | format(k, 2 * s) }}, {{ s }}u));
{% endfor %}
    let v{{ k }} = finish{{ k }}(t{{ k }}_1, 0u, 0u, row{{ fold.arguments }});
{% else %}
    let v{{ k }} = finish{{ k }}(a{{ k }}, 0u, 0u, row{{ fold.arguments }});
{% endif %}
{% endfor %}
{% if by_row %}
{% set place = "g" if folds else "row" %}
    if exists{{ "" if share == "alone" else " && lane == 0u" }}{{ "" if folds else " && part == 0u" }} {
{% for result in by_row %}
      let r{{ result.k }} = result{{ result.k }}({{ zero }}, 0u, 0u, row{{ arguments }});
{% if result.k == 0 %}
      {{ result.name }}[{{ place }}] = epilogue(r0, {{ place }}, 0u, 0u);
{% else %}
      {{ result.name }}[{{ place }}] = r{{ result.k }};
{% endif %}
{% endfor %}
    }
{% endif %}
{% if by_element %}
    for (j = first; j < {{ "select(0u, end, exists)" if share == "subgroup" else "end" }}; j += step) {
{% if vector %}
      at = base + j;
      let e = x[at / 4u];
{% for result in by_element %}
{% for i in range(4) %}
      let r{{ result.k }}_{{ i }} = result{{ result.k }}(e[{{ i }}], at + {{ i }}u, j + {{ i }}u, row{{ arguments }});
{% if result.k == 0 %}
      let z{{ i }} = epilogue(r0_{{ i }}, at + {{ i }}u, row, j + {{ i }}u);
{% endif %}
{% endfor %}
      {{ result.name }}[at / 4u] = vec4<{{ result.word }}>({% for i in range(4) %}{{ "z%s" | format(i) if result.k == 0 else "r%s_%s" | format(result.k, i) }}{{ ", " if not loop.last }}{% endfor %});
{% endfor %}
{% else %}
      at = base + reduced_at(j);
{% for result in by_element %}
      let r{{ result.k }} = result{{ result.k }}(x[at], at, j, row{{ arguments }});
{% if result.k == 0 %}
      {{ result.name }}[at] = epilogue(r0, at, row, j);
{% else %}
      {{ result.name }}[at] = r{{ result.k }};
{% endif %}
{% endfor %}
{% endif %}
    }
{% endif %}
  }
}
