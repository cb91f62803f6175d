{# Register tile for software devices. A workgroup is one subgroup, and no memory is shared. On these devices a storage load costs a
   loop over the lanes, so each lane loads one row of a, which the other lanes get by subgroupBroadcast. #}
{% set columns = lanes * 4 * vectors - (4 if shifted else 0) %}
{% set strips = right == "packed" or right == "rows" %}
{% set per_lane = vectors * 4 %}
{% set row_groups = (rows + lanes - 1) // lanes %}
{# A vector of memory that must be shifted may hold elements of two rows: the prologue computes its elements after the shift. #}
{% set late = shifted and prologue == "b" %}
{% set placed = "m" if late else "b" %}
@compute @workgroup_size({{ lanes }})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
  // 0, but not for the compiler: lavapipe 22.3 inlines uniforms that bound loops, and may then compile at every submit.
  let zero = group.z >> 20u;
  let lane = local.x;
  let top = group.y * {{ rows }}u;
{% if strips %}
  let left = (p.first_tile + group.x) * {{ columns }}u + lane * 4u;
{% else %}
  let left = (p.first_tile + group.x) * {{ columns }}u + lane;
{% endif %}
  let at = batch_offsets(group.z);
  let a_at = at.x;
  let b_at = at.y;
{% for m in range(rows) %}{% for j in range(per_lane) %}
  var c{{ m }}_{{ j }} = {{ word }}(0);
{% endfor %}{% endfor %}
{% if a_form == "packed" %}
  // [row tile][k / 4][row][k % 4]
  var a_next = a_at / 4u + (group.y * p.k_blocks + p.first / 4u) * {{ rows }}u + lane;
{% else %}
{% for g in range(row_groups) %}
{% set own = "min(top + %su + lane%s, p.m - 1u)" | format(g * lanes, " %% %su" | format(rows) if rows < lanes else "") %}
  let a_row{{ g }} = a_at + {{ own }} * p.a_row;
{% if prologue == "a" %}
  let a_line{{ g }} = a_at / p.a_row + {{ own }};
{% endif %}
{% endfor %}
{% endif %}
{% if right == "packed" %}
  // [column tile][k][vector][lane][column]
  var b_next = b_at / 4u + (group.x * p.k_blocks * 4u + p.first) * {{ vectors * lanes }}u + lane;
{% elif right == "rows" %}
{% for u in range(4) %}
  var b_next{{ u }} = (b_at + (p.first + {{ u }}u) * p.b_step + left) / 4u;
{% endfor %}
{% if shifted %}
  // Row k begins k * b_step % 4 elements after a vector.
  let odd = (p.b_step & 1u) == 1u;
  let half1 = (p.b_step & 2u) == 2u;
  let half2 = odd;
  let half3 = half1 != odd;
{% endif %}
{% elif right == "row_scalars" %}
  var b_next = b_at + p.first * p.b_step + left;
{% else %}
{% for j in range(per_lane) %}
  let b_column{{ j }} = b_at + min(left + {{ j * lanes }}u, p.n - 1u) * p.b_step;
{% endfor %}
{% endif %}
{% if prologue == "b" %}
  let b_line = b_at / p.b_step;
{% endif %}
  for (var k = p.first; k < p.last + zero; k += 4u) {
{% if tail %}
{% for u in range(1, 4) %}
    let inside{{ u }} = k + {{ u }}u < p.last + zero;
{% endfor %}
{% endif %}
{% for g in range(row_groups) %}
{% if a_form == "packed" %}
    let a{{ g }} = a[a_next + {{ g * lanes }}u];
{% elif a_form == "vectors" %}
    let a{{ g }} = {{ load("a", "(a_row%s + k) / 4u" | format(g), "a_line%s" | format(g), "k") }};
{% else %}
    let a{{ g }} = vec4<{{ word }}>(
{% for u in range(4) %}
{% set element = load("a", "a_row%s + k + %su" | format(g, u), "a_line%s" | format(g), "k + %su" | format(u)) %}
{% if tail and u %}
      select({{ word }}(0), {{ element }}, inside{{ u }}),
{% else %}
      {{ element }},
{% endif %}
{% endfor %}
    );
{% endif %}
{% endfor %}
{% if a_form == "packed" %}
    a_next += {{ rows }}u;
{% endif %}
{% if right == "packed" %}
{% for u in range(4) %}{% for s in range(vectors) %}
    let b{{ u }}_{{ s }} = b[b_next + {{ (u * vectors + s) * lanes }}u];
{% endfor %}{% endfor %}
    b_next += {{ 4 * vectors * lanes }}u;
{% elif right == "rows" %}
{% for u in range(4) %}
{% for s in range(vectors) %}
{% set (row, column) = ("b_line + k + %su" | format(u), "left + %su" | format(s * lanes * 4)) %}
{% set vector = load("b", "b_next%s + %su" | format(u, s * lanes), row, column) if not late else "b[b_next%s + %su]" | format(u, s * lanes) %}
{% if tail and u and not late %}
    let v{{ u }}_{{ s }} = select(vec4<{{ word }}>(), {{ vector }}, inside{{ u }});
{% else %}
    let v{{ u }}_{{ s }} = {{ vector }};
{% endif %}
{% endfor %}
{% for s in range(vectors) %}
{% if not shifted or u == 0 %}
    let {{ placed }}{{ u }}_{{ s }} = v{{ u }}_{{ s }};
{% else %}
{# Where a row begins within a vector, each lane takes its last columns from the next lane. Row 2 then begins in the middle of one. #}
{% for q in range(3 if u != 2 else 2) %}
{% if s + 1 < vectors %}
    let q{{ u }}_{{ s }}_{{ q }} = select(subgroupShuffle(v{{ u }}_{{ s }}[{{ q }}], (lane + 1u) & {{ lanes - 1 }}u), subgroupBroadcast(v{{ u }}_{{ s + 1 }}[{{ q }}], 0u), lane == {{ lanes - 1 }}u);
{% else %}
    let q{{ u }}_{{ s }}_{{ q }} = subgroupShuffle(v{{ u }}_{{ s }}[{{ q }}], (lane + 1u) & {{ lanes - 1 }}u);
{% endif %}
{% endfor %}
    let h{{ u }}_{{ s }} = select(v{{ u }}_{{ s }}, vec4<{{ memory }}>(v{{ u }}_{{ s }}.zw, q{{ u }}_{{ s }}_0, q{{ u }}_{{ s }}_1), half{{ u }});
{% if u == 2 %}
    let {{ placed }}{{ u }}_{{ s }} = h{{ u }}_{{ s }};
{% else %}
    let {{ placed }}{{ u }}_{{ s }} = select(h{{ u }}_{{ s }}, vec4<{{ memory }}>(h{{ u }}_{{ s }}.yzw, select(q{{ u }}_{{ s }}_0, q{{ u }}_{{ s }}_2, half{{ u }})), odd);
{% endif %}
{% endif %}
{% if late %}
{% set (row, column) = ("b_line + k + %su" | format(u), "left + %su" | format(s * lanes * 4)) %}
{% set vector = "prologue_vector(m%s_%s, (%s) * p.b_step + %s, %s, %s)" | format(u, s, row, column, row, column) %}
    let b{{ u }}_{{ s }} = {{ "select(vec4<%s>(), %s, inside%s)" | format(word, vector, u) if tail and u else vector }};
{% endif %}
{% endfor %}
    b_next{{ u }} += p.b_step;
{% endfor %}
{% elif right == "row_scalars" %}
{% for u in range(4) %}
{% for j in range(per_lane) %}
{% set element = load("b", "b_next + %su" | format(j * lanes), "b_line + k + %su" | format(u), "left + %su" | format(j * lanes)) %}
{% if tail and u %}
    let s{{ u }}_{{ j }} = select({{ word }}(0), {{ element }}, inside{{ u }});
{% else %}
    let s{{ u }}_{{ j }} = {{ element }};
{% endif %}
{% endfor %}
    b_next += p.b_step;
{% endfor %}
{% elif right == "columns" %}
{% for j in range(per_lane) %}
    let t{{ j }} = {{ load("b", "(b_column%s + k) / 4u" | format(j), "b_line + min(left + %su, p.n - 1u)" | format(j * lanes), "k") }};
{% endfor %}
{% else %}
{% for j in range(per_lane) %}{% for u in range(4) %}
{% set element = load("b", "b_column%s + k + %su" | format(j, u), "b_line + min(left + %su, p.n - 1u)" | format(j * lanes), "k + %su" | format(u)) %}
{% if tail and u %}
    let s{{ u }}_{{ j }} = select({{ word }}(0), {{ element }}, inside{{ u }});
{% else %}
    let s{{ u }}_{{ j }} = {{ element }};
{% endif %}
{% endfor %}{% endfor %}
{% endif %}
{# All products of an accumulator are one expression: each assignment to a variable in a loop is blended by the execution mask. They are added
   up first, so that a long sum is rounded a quarter as often. These devices have no fused multiply-add that this could cost. #}
{% for m in range(rows) %}
{% for u in range(4) %}
    let a{{ m }}_{{ u }} = subgroupBroadcast(a{{ m // lanes }}[{{ u }}], {{ m % lanes }}u);
{% endfor %}
{% for j in range(per_lane) %}
    c{{ m }}_{{ j }} += {% for u in range(4) %}{{ " + " if u }}a{{ m }}_{{ u }} * {% if strips %}b{{ u }}_{{ j // 4 }}[{{ j % 4 }}]{% elif right == "columns" %}t{{ j }}[{{ u }}]{% else %}s{{ u }}_{{ j }}{% endif %}{% endfor %};
{% endfor %}
{% endfor %}
  }
  // Stores are most of what the driver compiles: the first row is stored, the tile moves up by one, and again.
  for (var r = 0u; r < p.rows + zero; r++) {
{% if runs %}
{% for s in range(vectors) %}
    let next{{ s }} = subgroupShuffle(c0_{{ s * 4 }}, (lane + 1u) % {{ lanes }}u);
{% endfor %}
{% endif %}
    let row = top + r;
    if row < p.m {
      let o = (group.z * p.m + row) * p.n;
{% if runs %}
      // Where a row begins with the upper half of a word, lanes store from their second column on, and the next lane's first.
      let odd = o % 2u;
{% for s in range(vectors) %}
{% set last = lanes - (2 if shifted and s + 1 == vectors else 1) %}
      let n{{ s }} = left + {{ s * lanes * 4 }}u;
      let at{{ s }} = n{{ s }} + odd;
      if odd == 1u && lane == 0u && n{{ s }} < p.n {
        y[o + n{{ s }}] = epilogue(c0_{{ s * 4 }}, o + n{{ s }}, row, n{{ s }});
      }
      if at{{ s }} < p.n && lane <= {{ last }}u {
        y_store_run(o + at{{ s }}, min(p.n - at{{ s }}, 4u - select(0u, odd, lane == {{ last }}u)), array(
{% for u in range(4) %}
{% set next = "next%s" | format(s) if u == 3 else "c0_%s" | format(s * 4 + u + 1) %}
          epilogue(select(c0_{{ s * 4 + u }}, {{ next }}, odd == 1u), o + at{{ s }} + {{ u }}u, row, at{{ s }} + {{ u }}u),
{% endfor %}
        ));
      }
{% endfor %}
{% else %}
{% if vectors > 1 %}
      for (var s = 0u; s < {{ vectors }}u + zero; s++) {
{% else %}
      {
        let s = 0u;
{% endif %}
{% for u in range(4) %}
        let n{{ u }} = left + {{ "s * %su + %su" | format(lanes * 4, u) if strips else "(s * 4u + %su) * %su" | format(u, lanes) }};
        if n{{ u }} < p.n{% if shifted %} && (s < {{ vectors - 1 }}u || lane < {{ lanes - 1 }}u){% endif %} {
          y[o + n{{ u }}] = epilogue(c0_{{ u }}, o + n{{ u }}, row, n{{ u }});
        }
{% endfor %}
{% for j in range(per_lane - 4) %}
        c0_{{ j }} = c0_{{ j + 4 }};
{% endfor %}
      }
{% endif %}
    }
{% for m in range(rows - 1) %}{% for j in range(per_lane) %}
    c{{ m }}_{{ j }} = c{{ m + 1 }}_{{ j }};
{% endfor %}{% endfor %}
  }
}
