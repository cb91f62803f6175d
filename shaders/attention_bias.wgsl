// What attention's kernels add to the product of a query and a key, and where a mask hides the key.
fn offset_of(batch: u32) -> i32 {
{% if lengths %}
  return lengths[batch] - i32(p.rows);
{% else %}
  return i32(p.past);
{% endif %}
}

// What the mask adds to the score of a key; minus infinity hides it.
fn mask_of(batch: u32, head: u32, row: u32, key: u32) -> {{ word }} {
{% if mask == "none" %}
  return 0.0{{ suffix }};
{% else %}
  let at = batch * p.mask_batch + head * p.mask_head + row * p.mask_row + min(key, p.mask_keys - 1u);
{% if mask == "bool" %}
  return select(-{{ infinity }}(), 0.0{{ suffix }}, (key < p.mask_keys) & (mask[at] != 0u));
{% else %}
  return select(-{{ infinity }}(), mask[at], key < p.mask_keys);
{% endif %}
{% endif %}
}

// What is added to the score, given what the mask adds.
fn seen(batch: u32, row: u32, key: u32, own: {{ word }}) -> {{ word }} {
  let distance = i32(key) - i32(row) - offset_of(batch);
  // Not `&&`: eight of its branches in one loop take SwiftShader minutes and gigabytes to compile.
  var visible = (key < p.keys) & (distance >= -i32(p.left)) & (distance <= i32(p.right));
{% if lengths %}
  visible = visible & (i32(key) < lengths[batch]);
{% endif %}
  return select(-{{ infinity }}(), own, visible);
}

fn bias(batch: u32, head: u32, row: u32, key: u32) -> {{ word }} {
  return seen(batch, row, key, mask_of(batch, head, row, key));
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


{% if values %}
// A row's result, given the sum of its weights: zero, if the row sees no key.
fn finished(value: {{ element }}, sum: {{ word }}) -> {{ element }} {
  return select(value / sum, {{ element }}(), sum == 0.0{{ suffix }});
}
{% endif %}
