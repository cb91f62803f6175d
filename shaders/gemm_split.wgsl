{# For few rows. The invocations of a workgroup share each sum, and their parts are added up in a fixed order. An invocation takes 4
   columns and every `slices`th vector of terms. #}
{% set quads = columns // 4 %}
{% set threads = quads * slices %}
{% set terms = b_form == "terms" or b_form == "term_vectors" %}
var<workgroup> parts: array<vec4<{{ word }}>, {{ rows * threads }}>;

@compute @workgroup_size({{ threads }})
fn main(
  @builtin(local_invocation_index) lane: u32,
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
) {
  // 0, but not for the compiler: lavapipe 22.3 inlines uniforms that bound loops, and may then compile at every submit.
  let zero = group.z >> 20u;
  let tile = group.x + group.y * groups.x;
  let tile_n = tile % p.tiles;
  let tiles_m = (p.m + {{ rows - 1 }}u) / {{ rows }}u;
  let top = tile / p.tiles % tiles_m * {{ rows }}u;
  let batch = tile / p.tiles / tiles_m;
  // One answer for the whole workgroup, so that a barrier may follow.
  if batch < p.batches {
{% if b_form != "packed" %}
    let left = (p.first_tile + tile_n) * {{ columns }}u;
{% endif %}
    let at = batch_offsets(batch);
    // Neighbours go the way in which memory goes.
{% if terms %}
    let slice = lane % {{ slices }}u;
    let q = lane / {{ slices }}u;
{% else %}
    let slice = lane / {{ quads }}u;
    let q = lane % {{ quads }}u;
{% endif %}
{% if b_form == "packed" %}
    // Of this dispatch's vectors, which hold columns of a packed tile p.strip apart, those beyond the last repeat it.
    let vector = tile_n * {{ quads }}u + q;
    let b_tile = min(vector / p.strip, p.strips - 1u);
{% else %}
    let n = left + q * 4u;
{% endif %}
{% for i in range(rows) %}
    let a_at{{ i }} = at.x + min(top + {{ i }}u, p.m - 1u) * p.a_row;
    var c{{ i }} = vec4<{{ word }}>();
{% endfor %}
{% if prologue == "a" %}
{% for i in range(rows) %}
    let a_line{{ i }} = at.x / p.a_row + min(top + {{ i }}u, p.m - 1u);
{% endfor %}
{% elif prologue == "b" %}
    let b_line = at.y / p.{{ "b_column" if terms else "b_k" }};
{% endif %}
{% if b_form == "packed" %}
    let b_at = at.y / 4u + b_tile * p.blocks * p.terms * p.strip + vector % p.strip;
{% elif b_form == "vectors" %}
    let b_at = at.y + n;
{% else %}
{% for u in range(4) %}
    let b_at{{ u }} = at.y + min(n + {{ u }}u, p.n - 1u) * p.b_column;
{% endfor %}
{% endif %}
    for (var k = p.first + slice * 4u; k < p.last + zero; k += {{ slices * 4 }}u) {
{% for i in range(rows) %}
{% if a_form == "vectors" %}
      let a{{ i }} = {{ load("a", "(a_at%s + k) / 4u" | format(i), "a_line%s" | format(i), "k") }};
{% else %}
      let a{{ i }} = vec4<{{ word }}>(
{% for u in range(4) %}
{% set term = "k + %su" | format(u) %}
        select({{ word }}(0), {{ load("a", "a_at%s + (%s) * p.a_k" | format(i, term), "a_line%s" | format(i), term) }}, {{ term }} < p.last),
{% endfor %}
      );
{% endif %}
{% endfor %}
{% for u in range(4) %}
{% if b_form == "packed" %}
      let b{{ u }} = b[b_at + (k + {{ u }}u) * p.strip];
{% elif b_form == "vectors" %}
      let b{{ u }} = select(vec4<{{ word }}>(), {{ load("b", "(b_at + (k + %su) * p.b_k) / 4u" | format(u), "b_line + k + %su" | format(u), "n") }}, k + {{ u }}u < p.last);
{% elif b_form == "term_vectors" %}
      let b{{ u }} = {{ load("b", "(b_at%s + k) / 4u" | format(u), "b_line + min(n + %su, p.n - 1u)" | format(u), "k") }};
{% else %}
      let b{{ u }} = vec4<{{ word }}>(
{% for j in range(4) %}
{% set (term, column) = (j, u) if terms else (u, j) %}
{% set k, n = "k + %su" | format(term), "min(n + %su, p.n - 1u)" | format(column) %}
{% set row, place = (n, k) if terms else (k, n) %}
        select({{ word }}(0), {{ load("b", "b_at%s + (%s) * p.b_k" | format(column, k), "b_line + " ~ row, place) }}, {{ k }} < p.last),
{% endfor %}
      );
{% endif %}
{% endfor %}
{% for i in range(rows) %}
{% if terms %}
      c{{ i }} += vec4<{{ word }}>({% for u in range(4) %}dot(a{{ i }}, b{{ u }}){{ ", " if not loop.last }}{% endfor %});
{% else %}
      c{{ i }} = c{{ i }}{% for u in range(4) %} + a{{ i }}[{{ u }}] * b{{ u }}{% endfor %};
{% endif %}
{% endfor %}
    }
{% for i in range(rows) %}
    parts[({{ i }}u * {{ slices }}u + slice) * {{ quads }}u + q] = c{{ i }};
{% endfor %}
    workgroupBarrier();
    let row = lane / {{ quads }}u;
    if row < min({{ rows }}u, p.m - top) {
      let own = lane % {{ quads }}u;
{% if b_form == "packed" %}
      let own_vector = tile_n * {{ quads }}u + own;
      let first_column = (p.first_tile + own_vector / p.strip) * p.strip * 4u + own_vector % p.strip;
{% endif %}
      var sum = vec4<{{ word }}>();
      for (var s = 0u; s < {{ slices }}u; s++) {
        sum += parts[(row * {{ slices }}u + s) * {{ quads }}u + own];
      }
      let o = (batch * p.m + top + row) * p.n;
      for (var u = 0u; u < 4u; u++) {
{% if b_form == "packed" %}
        let column = first_column + u * p.strip;
{% else %}
        let column = left + own * 4u + u;
{% endif %}
        if column < p.n {
          y[o + column] = epilogue(sum[u], o + column, top + row, column);
        }
      }
    }
  }
}
