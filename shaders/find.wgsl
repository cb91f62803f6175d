{% set words = 2 if double else 1 %}
fn key_at(place: u32) -> {{ "i64" if double else "i32" }} {
  return {{ "i64_of_words(table[place], table[place + 1u])" if double else "bitcast<i32>(table[place])" }};
}

// The place of the first of `count` sorted keys that is not below `key`.
fn find(first: u32, count: u32, key: {{ "i64" if double else "i32" }}) -> u32 {
  var low = 0u;
  var high = count;
  while low < high {
    let middle = (low + high) / 2u;
    let below = key_at(first + {{ words }}u * middle) < key;
    low = select(low, middle + 1u, below);
    high = select(middle, high, below);
  }
  return first + {{ words }}u * low;
}

{% if not double %}
// A number as a whole number in the same order; both zeros are 0, and NaN is beyond all others.
fn order_key(x: f32) -> i32 {
  let size = bitcast<i32>(x) & 0x7fffffff;
  return select(select(size, -size, bitcast<i32>(x) < 0), 0x7fffffff, is_nan(x));
}
{% endif %}
