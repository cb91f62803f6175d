// The place of the first of `count` sorted words that is not below `key`.
fn find(first: u32, count: u32, key: i32) -> u32 {
  var low = first;
  var high = first + count;
  while low < high {
    let middle = (low + high) / 2u;
    let below = bitcast<i32>(table[middle]) < key;
    low = select(low, middle + 1u, below);
    high = select(middle, high, below);
  }
  return low;
}

// A number as a whole number in the same order; both zeros are 0, and NaN is beyond all others.
fn order_key(x: f32) -> i32 {
  let size = bitcast<i32>(x) & 0x7fffffff;
  return select(select(size, -size, bitcast<i32>(x) < 0), 0x7fffffff, is_nan(x));
}
