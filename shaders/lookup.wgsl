{% set key_words = 2 if from == "f64" else 1 %}
{% set value_words = 2 if to == "f64" else 1 %}
@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  if o < p.count {
    let key = {{ "order_key(x[o])" if from == "f32" else "order_key_f64(x[o])" if from == "f64" else "x[o]" }};
    let at = find(0u, p.keys, key);
    // The values lie behind the keys, and behind them the one for all other keys.
    var place = {{ key_words + value_words }}u * p.keys;
    if at < {{ key_words }}u * p.keys {
      if key_at(at) == key {
        place = {{ key_words }}u * p.keys + at / {{ key_words }}u * {{ value_words }}u;
      }
    }
    y[o] = {{ "f64_of_words(table[place], table[place + 1u])" if to == "f64" else "bitcast<" ~ to ~ ">(table[place])" }};
  }
}
