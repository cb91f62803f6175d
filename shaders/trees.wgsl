@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  if o < p.count {
{% if step == "walk" %}
    let row = o / p.trees;
    var node = table[p.roots + o % p.trees];
    for (var level = 0u; level < p.depth; level++) {
      let head = table[4u * node];
      let kind = (head >> 24u) & 3u;
      if kind == 0u {
        break;
      }
      let wanted = table[4u * node + 1u];
{% if double %}
      let feature = x[row * p.columns + (head & 0xffffffu)];
      let key = order_key_f64(feature);
      let other = i64_of_words(table[wanted], table[wanted + 1u]);
{% else %}
      let feature = f32(x[row * p.columns + (head & 0xffffffu)]);
      let key = order_key(feature);
      let other = bitcast<i32>(wanted);
{% endif %}
      var holds = select(key <= other, key == other, kind == 2u);
{% if members %}
      if kind == 3u {
        let count = table[wanted];
        let at = find(wanted + 1u, count, key);
        holds = false;
        if at <= wanted + {{ 2 if double else 1 }}u * count {
          holds = key_at(at) == key;
        }
      }
{% endif %}
      holds = select(holds, (head & 0x4000000u) != 0u, {{ "is_nan_f64" if double else "is_nan" }}(feature));
      node = table[4u * node + select(3u, 2u, holds)];
    }
    leaves[o] = node;
{% else %}
    let row = o / p.targets;
    let target_number = o % p.targets;
    let place = row * p.row_step + target_number * p.target_step;
{% if continues %}
    var total = before[place];
{% else %}
    var total = {{ "-infinity_f64()" if double else "-infinity()" }};
{% endif %}
    var empty = {{ "bitcast<u64>(total) == 0xfff0000000000000lu" if double else "bitcast<u32>(total) == 0xff800000u" }};
    for (var tree = 0u; tree < p.trees; tree++) {
      let leaf = 4u * leaves[row * p.trees + tree];
      let first = table[leaf + 2u];
      let count = table[leaf + 3u];
      let at = find(first, count, i32(target_number));
      if at < first + count {
        if table[at] == target_number {
{% if double %}
          let place = 2u * at + p.weights;
          let weight = f64_of_words(table[place], table[place + 1u]);
{% else %}
          let weight = bitcast<f32>(table[at + p.weights]);
{% endif %}
{% if combine == "sum" %}
          total = select(total + weight, weight, empty);
{% else %}
          total = select({{ combine }}(total, weight), weight, empty);
{% endif %}
          empty = false;
        }
      }
    }
    y[place] = total;
{% endif %}
  }
}
