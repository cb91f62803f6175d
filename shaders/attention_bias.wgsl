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
  return select(-{{ infinity }}(), select({{ unset }}, {{ set }}, mask[at] != 0u), key < p.mask_keys);
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

// Whether the bias of a key takes the place of its score. Where Softmax decides, an infinite score and minus infinity are NaN.
fn replaces(bias: {{ word }}, key: u32) -> bool {
{% if mask == "bool" %}
  return bias != 0.0{{ suffix }};
{% else %}
  return {{ "is_hidden(bias)" if unseen == "zeros" else "key >= p.keys" }};
{% endif %}
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
// A row's result, given the sum of its weights: 0, if the row sees no key.
fn finished(value: {{ element }}, sum: {{ word }}) -> {{ element }} {
{% if unseen == "zeros" %}
  return select(value / sum, {{ element }}(), sum == 0.0{{ suffix }});
{% else %}
  // Not finite where a score is not. A weight of 0 takes no value, but infinity times 0 is NaN.
  let none = (sum == 0.0) | !is_finite(sum);
  return select(value / sum, {{ "value * 0.0" if unseen == "guarded" else element ~ "(nan())" }}, none);
{% endif %}
}
{% endif %}
{% if unseen != "zeros" %}

fn is_finite(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}
{% endif %}
