// What attention's kernels add to the product of a query and a key, and where a mask hides the key.
fn offset_of(batch: u32) -> i32 {
{% if lengths %}
  return lengths[batch] - i32(p.rows);
{% else %}
  return i32(p.past);
{% endif %}
}

// What is added to the score of a key; minus infinity hides it.
fn bias(batch: u32, head: u32, row: u32, key: u32) -> {{ word }} {
  let distance = i32(key) - i32(row) - offset_of(batch);
  // Not `&&`: eight of its branches in one loop take SwiftShader minutes and gigabytes to compile.
  var visible = (key < p.keys) & (distance >= -i32(p.left)) & (distance <= i32(p.right));
{% if lengths %}
  visible = visible & (i32(key) < lengths[batch]);
{% endif %}
{% if mask == "none" %}
  return select(-{{ infinity }}(), 0.0{{ suffix }}, visible);
{% else %}
  visible = visible & (key < p.mask_keys);
  let at = batch * p.mask_batch + head * p.mask_head + row * p.mask_row + min(key, p.mask_keys - 1u);
{% if mask == "bool" %}
  return select(-{{ infinity }}(), 0.0{{ suffix }}, visible & (mask[at] != 0u));
{% else %}
  return select(-{{ infinity }}(), mask[at], visible);
{% endif %}
{% endif %}
}

fn is_hidden(bias: {{ word }}) -> bool {
  return {{ "bitcast<u64>(bias) == 0xfff0000000000000lu" if double else "bitcast<u32>(bias) == 0xff800000u" }};
}

fn score(product: {{ word }}) -> {{ word }} {
{% if softcap %}
  let cap = {{ softcap }};
  return cap * {{ tanh }}(product * {{ scale }} / cap);
{% else %}
  return product * {{ scale }};
{% endif %}
}

