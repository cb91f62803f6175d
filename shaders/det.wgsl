// Gaussian elimination with the greatest pivot of each column, one matrix per invocation.
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
    let base = o * p.n * p.n;
    var det = {{ word }}(1);
    if p.first > 0u { det = y[o]; }
    for (var i = p.first; i < min(p.last, n); i++) {
      let top = base + i * p.n;
      var pivot = i;
      for (var row = i + 1u; row < n; row++) {
        if abs(m[base + row * p.n + i]) > abs(m[base + pivot * p.n + i]) { pivot = row; }
      }
      if pivot != i {
        det = -det;
        for (var column = i; column < n; column++) {
          let other = m[top + column];
          m[top + column] = m[base + pivot * p.n + column];
          m[base + pivot * p.n + column] = other;
        }
      }
      let value = m[top + i];
      det *= value;
      // A column of zeros: the determinant is 0, and nothing is to be divided by it.
      if value != 0.0 {
        for (var row = i + 1u; row < n; row++) {
          let at = base + row * p.n;
          let factor = m[at + i] / value;
          for (var column = i + 1u; column < n; column++) {
            m[at + column] -= factor * m[top + column];
          }
        }
      }
    }
    y[o] = det;
  }
}
