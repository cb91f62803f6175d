// 64-bit integers as pairs of words, the lower one first: not every device has such integers. Sums, products and powers wrap, as
// those of other implementations of ONNX do.

fn add_64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let low = a.x + b.x;
  return vec2(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn sub_64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  return vec2(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

fn neg_64(a: vec2<u32>) -> vec2<u32> {
  return sub_64(vec2(0u), a);
}

// Both halves of a product.
fn mul_words(a: u32, b: u32) -> vec2<u32> {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
  let other = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
  return vec2(a * b, (a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u));
}

fn mul_64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let low = mul_words(a.x, b.x);
  return vec2(low.x, low.y + a.x * b.y + a.y * b.x);
}

fn equal_64(a: vec2<u32>, b: vec2<u32>) -> bool {
  return a.x == b.x && a.y == b.y;
}

fn less_u64(a: vec2<u32>, b: vec2<u32>) -> bool {
  return a.y < b.y || (a.y == b.y && a.x < b.x);
}

fn less_i64(a: vec2<u32>, b: vec2<u32>) -> bool {
  return bitcast<i32>(a.y) < bitcast<i32>(b.y) || (a.y == b.y && a.x < b.x);
}

fn is_negative_64(a: vec2<u32>) -> bool {
  return a.y >= 0x80000000u;
}

fn min_u64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  return select(b, a, less_u64(a, b));
}

fn max_u64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  return select(a, b, less_u64(a, b));
}

fn min_i64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  return select(b, a, less_i64(a, b));
}

fn max_i64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  return select(a, b, less_i64(a, b));
}

fn abs_i64(a: vec2<u32>) -> vec2<u32> {
  return select(a, neg_64(a), is_negative_64(a));
}

fn sign_u64(a: vec2<u32>) -> vec2<u32> {
  return vec2(select(0u, 1u, (a.x | a.y) != 0u), 0u);
}

fn sign_i64(a: vec2<u32>) -> vec2<u32> {
  return select(sign_u64(a), vec2(0xffffffffu), is_negative_64(a));
}

// By less than 32 bits.
fn moved_left_64(a: vec2<u32>, n: u32) -> vec2<u32> {
  return vec2(a.x << n, (a.y << n) | ((a.x >> 1u) >> (31u - n)));
}

fn moved_right_64(a: vec2<u32>, n: u32) -> vec2<u32> {
  return vec2((a.x >> n) | ((a.y << 1u) << (31u - n)), a.y >> n);
}

fn left_64(a: vec2<u32>, n: u32) -> vec2<u32> {
  let some = select(moved_left_64(a, n & 31u), vec2(0u, a.x << (n & 31u)), n > 31u);
  return select(some, vec2(0u), n > 63u);
}

fn right_64(a: vec2<u32>, n: u32) -> vec2<u32> {
  let some = select(moved_right_64(a, n & 31u), vec2(a.y >> (n & 31u), 0u), n > 31u);
  return select(some, vec2(0u), n > 63u);
}

fn shift_left_64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  return left_64(a, select(b.x, 64u, b.y != 0u));
}

fn shift_right_u64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  return right_64(a, select(b.x, 64u, b.y != 0u));
}

// A negative count is a large one.
fn shift_right_i64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let sign = select(vec2(0u), vec2(0xffffffffu), is_negative_64(a));
  return shift_right_u64(a ^ sign, b) ^ sign;
}

// The quotient, and behind it the remainder. A loop over the bits, as long division; one of 32 bits where these hold both numbers.
fn divided_u64(a: vec2<u32>, b: vec2<u32>) -> vec4<u32> {
  if (a.y | b.y) == 0u { return vec4(a.x / b.x, 0u, a.x % b.x, 0u); }
  var quotient = vec2(0u);
  var rest = vec2(0u);
  for (var i = 0u; i < 64u; i++) {
    let beyond = is_negative_64(rest);
    rest = moved_left_64(rest, 1u) | vec2(right_64(a, 63u - i).x & 1u, 0u);
    let fits = beyond || !less_u64(rest, b);
    rest = select(rest, sub_64(rest, b), fits);
    quotient = moved_left_64(quotient, 1u) | vec2(select(0u, 1u, fits), 0u);
  }
  return vec4(quotient, rest);
}

fn div_u64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  return divided_u64(a, b).xy;
}

fn rem_u64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  return divided_u64(a, b).zw;
}

fn div_i64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let size = div_u64(abs_i64(a), abs_i64(b));
  return select(size, neg_64(size), is_negative_64(a) != is_negative_64(b));
}

fn rem_i64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let size = rem_u64(abs_i64(a), abs_i64(b));
  return select(size, neg_64(size), is_negative_64(a));
}

fn rem_floor_i64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let r = rem_i64(a, b);
  let moves = (r.x | r.y) != 0u && is_negative_64(r) != is_negative_64(b);
  return select(r, add_64(r, b), moves);
}

// A loop over the bits of the exponent.
fn pow_u64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  var result = vec2(1u, 0u);
  var base = a;
  var exponent = b;
  for (var i = 0u; i < 64u && (exponent.x | exponent.y) != 0u; i++) {
    result = select(result, mul_64(result, base), (exponent.x & 1u) == 1u);
    base = mul_64(base, base);
    exponent = moved_right_64(exponent, 1u);
  }
  return result;
}

fn pow_i64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let one = equal_64(a, vec2(1u, 0u));
  let minus_one = equal_64(a, vec2(0xffffffffu));
  let inverse = select(vec2(0u), select(vec2(0xffffffffu), vec2(1u, 0u), (b.x & 1u) == 0u), minus_one);
  return select(pow_u64(a, b), select(inverse, vec2(1u, 0u), one), is_negative_64(b));
}

fn bool_to_64(a: bool) -> vec2<u32> {
  return vec2(select(0u, 1u, a), 0u);
}

fn is_some_64(a: vec2<u32>) -> bool {
  return (a.x | a.y) != 0u;
}

fn u32_to_64(a: u32) -> vec2<u32> {
  return vec2(a, 0u);
}

fn i32_to_64(a: i32) -> vec2<u32> {
  return vec2(bitcast<u32>(a), bitcast<u32>(a >> 31u));
}

// By the bits of the float, as no float32 has 64.
fn f32_size_64(x: f32) -> vec2<u32> {
  let bits = bitcast<u32>(x);
  let exponent = i32((bits >> 23u) & 0xffu) - 150;
  let mantissa = vec2((bits & 0x7fffffu) | 0x800000u, 0u);
  let small = right_64(mantissa, u32(max(-exponent, 0)));
  return select(small, left_64(mantissa, u32(max(exponent, 0))), exponent > 0);
}

fn f32_to_i64(x: f32) -> vec2<u32> {
  // Out of range is undefined in ONNX; the ends of the range keep drivers agreeing.
  let size = select(f32_size_64(x), vec2(0xffffffffu, 0x7fffffffu), abs(x) >= 9223372036854775808.0);
  let least = select(neg_64(size), vec2(0u, 0x80000000u), abs(x) >= 9223372036854775808.0);
  return select(select(size, least, x < 0.0), vec2(0u), is_nan(x));
}

fn f32_to_u64(x: f32) -> vec2<u32> {
  // Negative numbers wrap, as C compilers and numpy do.
  let size = select(f32_size_64(x), vec2(0xffffffffu), x >= 18446744073709551616.0);
  return select(size, f32_to_i64(x), x < 0.0 || is_nan(x));
}

fn u64_to_f32(a: vec2<u32>) -> f32 {
  // The upper 32 bits, the lowest of them 1 if a lower bit is: it rounds as all 64 bits do.
  let free = min(countLeadingZeros(a.y), 31u);
  let moved = moved_left_64(a, free);
  let upper = moved.y | select(0u, 1u, moved.x != 0u);
  let scale = bitcast<f32>((127u + 32u - free) << 23u);
  return select(u32_to_f32(upper) * scale, u32_to_f32(a.x), a.y == 0u);
}

fn i64_to_f32(a: vec2<u32>) -> f32 {
  let size = u64_to_f32(abs_i64(a));
  return select(size, -size, is_negative_64(a));
}

fn u64_of_pair(a: vec2<u32>) -> u64 {
  return u64(a.x) | (u64(a.y) << 32u);
}

fn pair_of_u64(a: u64) -> vec2<u32> {
  return vec2(u32(a & 0xfffffffflu), u32(a >> 32u));
}

fn u64_to_f64(a: vec2<u32>) -> f64 {
  return f64(u64_of_pair(a));
}

fn i64_to_f64(a: vec2<u32>) -> f64 {
  return f64(bitcast<i64>(u64_of_pair(a)));
}

fn f64_to_i64(x: f64) -> vec2<u32> {
  let inside = i64(clamp(x, -9223372036854775808.0lf, 9223372036854774784.0lf));
  return pair_of_u64(bitcast<u64>(select(inside, 0li, is_nan_f64(x))));
}

fn f64_to_u64(x: f64) -> vec2<u32> {
  let inside = pair_of_u64(u64(clamp(x, 0.0lf, 18446744073709549568.0lf)));
  return select(inside, f64_to_i64(x), x < 0.0lf || is_nan_f64(x));
}

fn bits_to_f64(a: vec2<u32>) -> f64 {
  return bitcast<f64>(u64_of_pair(a));
}

fn bits_of_f64(x: f64) -> vec2<u32> {
  return pair_of_u64(bitcast<u64>(x));
}

// 24 bits of the integer, the lowest of them 1 if a lower bit is.
fn round_odd_u64(a: vec2<u32>) -> vec2<u32> {
  let zeros = select(32u + countLeadingZeros(a.x), countLeadingZeros(a.y), a.y != 0u);
  let cut = u32(max(40 - i32(zeros), 0));
  let upper = right_64(a, cut);
  let odd = select(0u, 1u, !equal_64(left_64(upper, cut), a));
  return left_64(vec2(upper.x | odd, upper.y), cut);
}

fn round_odd_i64(a: vec2<u32>) -> vec2<u32> {
  let size = round_odd_u64(abs_i64(a));
  return select(size, neg_64(size), is_negative_64(a));
}
