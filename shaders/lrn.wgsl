@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  if o < p.count {
    let c = (o / p.inner) % p.channels;
    let first = o - min(c, p.before) * p.inner;
    let last = o + min(p.channels - 1u - c, p.after) * p.inner;
    var sum = {{ word }}(0);
    for (var at = first; at <= last; at += p.inner) {
      sum += x[at] * x[at];
    }
{% if word == "f64" %}
    let alpha = f64(bitcast<f32>(p.alpha)) / f64(p.before + p.after + 1u);
    let divisor = pow_f64(f64(bitcast<f32>(p.bias)) + alpha * sum, f64(bitcast<f32>(p.beta)));
{% else %}
    let divisor = pow_full(bitcast<f32>(p.bias) + bitcast<f32>(p.alpha) * sum, bitcast<f32>(p.beta));
{% endif %}
    y[o] = epilogue(x[o] / divisor, o, 0u, 0u);
  }
}
