// One result per invocation: place q + stride * (radix * block + r) along the axis.
@compute @workgroup_size({{ workgroup }})
fn main(
  @builtin(global_invocation_id) id: vec3<u32>,
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
) {
  // 0, but not for the compiler: lavapipe 22.3 inlines uniforms that bound loops, and may then compile at every submit.
  let zero = group.z >> 20u;
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  if o < p.count {
    let outer = o / p.inner / p.bins;
    let start = outer / p.frames * p.signal + outer % p.frames * p.step + o % p.inner;
    let place = o / p.inner % p.bins;
    let r = place / p.stride % p.radix;
    let block = place / p.stride / p.radix;
    // Terms lie this far apart, and so do their roots for r = 1.
    let hop = p.length / p.radix;
    var n = place % p.stride + p.stride * block;
    var turn = 0u;
    var real = {{ word }}(0);
    var imaginary = {{ word }}(0);
    for (var term = 0u; term < p.radix + zero; term++) {
{% if half %}
      let mirrored = n >= p.used;
      let source = select(n, p.length - n, mirrored);
{% else %}
      let source = n;
{% endif %}
      if source < p.used {
        let cosine = roots[2u * turn];
        let sine = {{ "" if inverse else "-" }}roots[2u * turn + 1u];
        let at = start + source * p.inner;
{% set weight = "weights[n] * " if weighted else "" %}
{% if real %}
        let re = {{ weight }}x[at];
        real += re * cosine;
        imaginary += re * sine;
{% else %}
        let re = {{ weight }}x[2u * at];
        let im = {{ weight }}{{ word ~ "(select(1.0, -1.0, mirrored)) * " if half }}x[2u * at + 1u];
        real += re * cosine - im * sine;
        imaginary += im * cosine + re * sine;
{% endif %}
      }
      n += hop;
      // r * term modulo the radix, step by step: the product could overflow.
      turn += r * hop;
      if turn >= p.length { turn -= p.length; }
    }
{% if turned %}
    let root = r * block * p.stride;
    let cosine = roots[2u * root];
    let sine = {{ "" if inverse else "-" }}roots[2u * root + 1u];
    let turned = real * cosine - imaginary * sine;
    imaginary = imaginary * cosine + real * sine;
    real = turned;
{% endif %}
    let scale = {{ "f64_of_words(p.scale, p.scale_high)" if word == "f64" else "bitcast<f32>(p.scale)" }};
{% if real_output %}
    y[o] = finish(real * scale, o, 0u, 0u);
{% else %}
    y[2u * o] = finish(real * scale, 2u * o, 0u, 0u);
    y[2u * o + 1u] = finish(imaginary * scale, 2u * o + 1u, 0u, 0u);
{% endif %}
  }
}
