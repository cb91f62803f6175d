// Gaussian elimination with the greatest pivot of each column.
@compute @workgroup_size({{ workgroup }})
fn main(
  @builtin(global_invocation_id) id: vec3<u32>,
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
) {
  // 0, but not for the compiler: lavapipe 22.3 inlines uniforms that bound loops, and may then compile at every submit.
  let n = p.n + (group.z >> 20u);
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  if o < p.count {
{% if solve %}
    let base = o / p.n * p.n * p.n;
    let column = o % p.n;
    for (var i = 0u; i < n; i++) {
      var value = {{ word }}(0);
      if places[o / p.n * p.n + i] == column { value = {{ word }}(1); }
      for (var j = 0u; j < i; j++) {
        value -= m[base + i * p.n + j] * y[base + j * p.n + column];
      }
      y[base + i * p.n + column] = value;
    }
    for (var done = 0u; done < n; done++) {
      let i = p.n - 1u - done;
      var value = y[base + i * p.n + column];
      for (var j = i + 1u; j < n; j++) {
        value -= m[base + i * p.n + j] * y[base + j * p.n + column];
      }
      y[base + i * p.n + column] = value / m[base + i * p.n + i];
    }
{% else %}
    let base = o * p.n * p.n;
    if p.first == 0u {
      for (var i = 0u; i < n; i++) {
        places[o * p.n + i] = i;
      }
    }
    for (var i = p.first; i < min(p.last, n); i++) {
      let top = base + i * p.n;
      var pivot = i;
      for (var row = i + 1u; row < n; row++) {
        if abs(m[base + row * p.n + i]) > abs(m[base + pivot * p.n + i]) { pivot = row; }
      }
      if pivot != i {
        for (var column = 0u; column < n; column++) {
          let other = m[top + column];
          m[top + column] = m[base + pivot * p.n + column];
          m[base + pivot * p.n + column] = other;
        }
        let other = places[o * p.n + i];
        places[o * p.n + i] = places[o * p.n + pivot];
        places[o * p.n + pivot] = other;
      }
      let value = m[top + i];
      // A column of zeros: nothing is to be divided by it, and its factors are 0.
      if value != {{ word }}(0) {
        for (var row = i + 1u; row < n; row++) {
          let at = base + row * p.n;
          let factor = m[at + i] / value;
          m[at + i] = factor;
          for (var column = i + 1u; column < n; column++) {
            m[at + column] -= factor * m[top + column];
          }
        }
      }
    }
{% endif %}
  }
}
