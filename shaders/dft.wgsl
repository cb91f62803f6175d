// One bin per invocation.
@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  if o < p.count {
    let bin = o / p.inner % p.bins;
    let outer = o / p.inner / p.bins;
    var at = outer / p.frames * p.signal + outer % p.frames * p.step + o % p.inner;
    var real = 0.0;
    var imaginary = 0.0;
    // bin * n modulo the period, step by step: the product could overflow.
    var turn = 0u;
    for (var n = 0u; n < p.used; n++) {
      let cosine = roots[2u * turn];
      let sine = {{ "" if inverse else "-" }}roots[2u * turn + 1u];
      let weight = {{ "weights[n]" if window else "1.0" }}{{ " * select(1.0, 2.0, n > 0u && 2u * n != p.length)" if real_output }};
{% if complex %}
      let re = weight * x[2u * at];
      let im = weight * x[2u * at + 1u];
      real += re * cosine - im * sine;
      imaginary += im * cosine + re * sine;
{% else %}
      let re = weight * x[at];
      real += re * cosine;
      imaginary += re * sine;
{% endif %}
      at += p.inner;
      turn += bin;
      if turn >= p.length { turn -= p.length; }
    }
    let scale = bitcast<f32>(p.scale);
{% if real_output %}
    y[o] = finish(real * scale, o, 0u, 0u);
{% else %}
    y[2u * o] = finish(real * scale, 2u * o, 0u, 0u);
    y[2u * o + 1u] = finish(imaginary * scale, 2u * o + 1u, 0u, 0u);
{% endif %}
  }
}
