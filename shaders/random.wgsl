// A permutation of the 32-bit words in which each bit of the result depends on all bits of `x`: lowbias32, by Wellons.
fn mixed(x: u32) -> u32 {
  var h = x;
  h ^= h >> 16u;
  h *= 0x21f0aaadu;
  h ^= h >> 15u;
  h *= 0x735a2d97u;
  return h ^ (h >> 15u);
}

{% if step == "advance" %}
@compute @workgroup_size(1)
fn main(@builtin(workgroup_id) group: vec3<u32>) {
  if group.x < p.count {
    let low = counter[0] + 1u;
    let high = counter[1] + select(0u, 1u, low == 0u);
    counter[0] = low;
    counter[1] = high;
    let first = mixed(low ^ 0x9e3779b9u);
    key[0] = first;
    key[1] = mixed(high + first);
  }
}
{% else %}
{% if double %}
// 53 bits as a number from 0 to 1, without 1.
fn share(high: u32, low: u32) -> f64 {
  return (f64(high >> 6u) * 134217728.0 + f64(low >> 5u)) * 1.1102230246251565e-16;
}

{% endif %}
@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.x + id.y * groups.x * {{ workgroup }}u;
  if i < p.count {
    let word = mixed(mixed(i + key[0]) ^ key[1]);
{% if double %}
    let other = mixed(mixed(i + key[1] + 0x9e3779b9u) ^ key[0]);
    let a = f64(bitcast<f32>(p.a));
    let b = f64(bitcast<f32>(p.b));
{% if normal %}
    // The transform of Box and Muller; the first number is above 0.
    let radius = sqrt(-2.0 * log_f64(1.0 - share(word, other)));
    let turn = share(mixed(word + 0x9e3779b9u), mixed(other + 0x9e3779b9u));
    y[i] = a + b * (radius * cos_f64(turn * 6.283185307179586));
{% else %}
    y[i] = a + (b - a) * share(word, other);
{% endif %}
{% else %}
    let a = bitcast<f32>(p.a);
    let b = bitcast<f32>(p.b);
{% if normal %}
    // The transform of Box and Muller; the first number is above 0.
    let radius = sqrt(-2.0 * log_full(f32((word >> 8u) + 1u) * 5.9604645e-8));
    let turn = f32(mixed(word + 0x9e3779b9u) >> 8u) * 5.9604645e-8;
    y[i] = a + b * (radius * cos(turn * 6.2831853));
{% else %}
    y[i] = a + (b - a) * (f32(word >> 8u) * 5.9604645e-8);
{% endif %}
{% endif %}
  }
}
{% endif %}
