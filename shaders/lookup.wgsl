@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  if o < p.count {
    let key = {{ "order_key(x[o])" if from == "f32" else "x[o]" }};
    let at = find(0u, p.keys, key);
    // The values lie behind the keys, and behind them the one for all other keys.
    var word = table[2u * p.keys];
    if at < p.keys {
      if bitcast<i32>(table[at]) == key {
        word = table[p.keys + at];
      }
    }
    y[o] = bitcast<{{ to }}>(word);
  }
}
