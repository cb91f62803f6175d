// The functions of `math.wgsl` for float64, which no driver has: errors are a few units in the last place unless a comment says otherwise.

fn f64_of_words(low: u32, high: u32) -> f64 {
  return bitcast<f64>(u64(low) | (u64(high) << 32u));
}

fn i64_of_words(low: u32, high: u32) -> i64 {
  return bitcast<i64>(u64(low) | (u64(high) << 32u));
}

// A number as a whole number in the same order; both zeros are 0, and NaN is beyond all others.
fn order_key_f64(x: f64) -> i64 {
  let size = bitcast<i64>(size_f64(x));
  return select(select(size, -size, bitcast<i64>(x) < 0li), 0x7fffffffffffffffli, is_nan_f64(x));
}

fn size_f64(x: f64) -> u64 {
  return bitcast<u64>(x) & 0x7ffffffffffffffflu;
}

fn is_nan_f64(x: f64) -> bool {
  return size_f64(x) > 0x7ff0000000000000lu;
}

fn nan_f64() -> f64 {
  // A variable keeps WGSL's constant evaluation from refusing the bit pattern.
  var bits = 0x7ff8000000000000lu;
  return bitcast<f64>(bits);
}

fn infinity_f64() -> f64 {
  var bits = 0x7ff0000000000000lu;
  return bitcast<f64>(bits);
}

fn with_sign_f64(size: f64, like: f64) -> f64 {
  // Not by moving the bit: of tanh(softplus(x)) for a tensor of one element, lavapipe 22.3 then makes like & ~size.
  let positive = abs(size);
  return select(positive, -positive, bitcast<i64>(like) < 0li);
}

fn sign_f64(x: f64) -> f64 {
  let one = with_sign_f64(1.0lf, x);
  return select(one, x, size_f64(x) == 0lu || is_nan_f64(x));
}

fn min_f64(a: f64, b: f64) -> f64 {
  return select(select(min(a, b), b, is_nan_f64(b)), a, is_nan_f64(a));
}

fn max_f64(a: f64, b: f64) -> f64 {
  return select(select(max(a, b), b, is_nan_f64(b)), a, is_nan_f64(a));
}

// 2^n for -1022 <= n <= 1023.
fn two_to_f64(n: i32) -> f64 {
  return bitcast<f64>(u64(n + 1023) << 52u);
}

// x * 2^n, in two steps, as 2^n may be out of range where the product is not.
fn scaled_f64(x: f64, n: i32) -> f64 {
  let half = n / 2;
  return x * two_to_f64(half) * two_to_f64(n - half);
}

fn exp_f64(x: f64) -> f64 {
  let inside = select(clamp(x, -750.0lf, 710.0lf), 0.0lf, is_nan_f64(x));
  let k = round(inside * 1.4426950408889634lf);
  // ln 2 as a sum of two, the first with 21 zeros at its end: its product with k is exact.
  let r = (inside - k * 0.6931471803691238lf) - k * 1.9082149292705877e-10lf;
  // Taylor's series; |r| <= 0.347.
  let high = 1.0lf / 5040.0lf + r * (1.0lf / 40320.0lf + r * (1.0lf / 362880.0lf + r * (1.0lf / 3628800.0lf + r * (1.0lf / 39916800.0lf
    + r * (1.0lf / 479001600.0lf + r * (1.0lf / 6227020800.0lf))))));
  let low = 0.5lf + r * (1.0lf / 6.0lf + r * (1.0lf / 24.0lf + r * (1.0lf / 120.0lf + r * (1.0lf / 720.0lf + r * high))));
  let y = scaled_f64(1.0lf + (r + r * r * low), i32(k));
  return select(y, x, is_nan_f64(x));
}

fn exp_m1_f64(x: f64) -> f64 {
  let high = 1.0lf / 40320.0lf + x * (1.0lf / 362880.0lf + x * (1.0lf / 3628800.0lf + x * (1.0lf / 39916800.0lf + x * (1.0lf / 479001600.0lf
    + x * (1.0lf / 6227020800.0lf + x * (1.0lf / 87178291200.0lf))))));
  let low = 0.5lf + x * (1.0lf / 6.0lf + x * (1.0lf / 24.0lf + x * (1.0lf / 120.0lf + x * (1.0lf / 720.0lf + x * (1.0lf / 5040.0lf + x * high)))));
  return select(exp_f64(x) - 1.0lf, x + x * x * low, abs(x) < 0.35lf);
}

// 2 * atanh(s), |s| <= 0.2, without its first term.
fn log_series_f64(s: f64) -> f64 {
  let t = s * s;
  let high = 1.0lf / 15.0lf + t * (1.0lf / 17.0lf + t * (1.0lf / 19.0lf + t * (1.0lf / 21.0lf + t * (1.0lf / 23.0lf + t * (1.0lf / 25.0lf)))));
  let low = 1.0lf / 7.0lf + t * (1.0lf / 9.0lf + t * (1.0lf / 11.0lf + t * (1.0lf / 13.0lf + t * high)));
  return 2.0lf * s * (t * (1.0lf / 3.0lf + t * (0.2lf + t * low)));
}

fn log_f64(x: f64) -> f64 {
  let subnormal = size_f64(x) < 0x0010000000000000lu;
  let bits = bitcast<u64>(select(x, x * 18014398509481984.0lf, subnormal));
  let fraction = bits & 0x000ffffffffffffflu;
  // The mantissa lies between the roots of 1/2 and 2.
  let upper = fraction > 0x0006a09e667f3bcdlu;
  let m = bitcast<f64>(fraction | select(0x3ff0000000000000lu, 0x3fe0000000000000lu, upper));
  let exponent = i32((bits >> 52u) & 0x7fflu) - select(1023, 1022, upper) - select(0, 54, subnormal);
  let k = f64(exponent);
  let f = m - 1.0lf;
  let s = f / (2.0lf + f);
  // 2 * s is f - s * f.
  let y = k * 0.6931471803691238lf + (f - (s * f - (log_series_f64(s) + k * 1.9082149292705877e-10lf)));
  let positive = select(y, infinity_f64(), bitcast<u64>(x) == 0x7ff0000000000000lu);
  let none = bitcast<u64>(x) > 0x8000000000000000lu || is_nan_f64(x);
  return select(select(positive, nan_f64(), none), -infinity_f64(), size_f64(x) == 0lu);
}

fn log_1p_f64(x: f64) -> f64 {
  let s = x / (2.0lf + x);
  let near = x - (s * x - log_series_f64(s));
  return select(log_f64(1.0lf + x), near, x > -0.25lf && x < 0.5lf);
}

fn atan_f64(x: f64) -> f64 {
  let a = abs(x);
  let z = select(a, 1.0lf / a, a > 1.0lf);
  // The angle halved twice is at most pi / 16.
  let half = z / (1.0lf + sqrt(1.0lf + z * z));
  let h = half / (1.0lf + sqrt(1.0lf + half * half));
  let t = h * h;
  let high = 1.0lf / 13.0lf - t * (1.0lf / 15.0lf - t * (1.0lf / 17.0lf - t * (1.0lf / 19.0lf - t * (1.0lf / 21.0lf - t * (1.0lf / 23.0lf - t * (1.0lf / 25.0lf))))));
  let low = 1.0lf / 5.0lf - t * (1.0lf / 7.0lf - t * (1.0lf / 9.0lf - t * (1.0lf / 11.0lf - t * high)));
  let p = 4.0lf * (h - h * t * (1.0lf / 3.0lf - t * low));
  let y = select(p, 1.5707963267948966lf - p, a > 1.0lf);
  return select(with_sign_f64(y, x), x, is_nan_f64(x));
}

fn asin_f64(x: f64) -> f64 {
  let y = atan_f64(x / sqrt((1.0lf - x) * (1.0lf + x)));
  return select(y, nan_f64(), size_f64(x) > 0x3ff0000000000000lu);
}

fn acos_f64(x: f64) -> f64 {
  let y = atan_f64(sqrt((1.0lf - x) * (1.0lf + x)) / abs(x));
  return select(select(y, 3.141592653589793lf - y, x < 0.0lf), nan_f64(), size_f64(x) > 0x3ff0000000000000lu);
}

fn tanh_f64(x: f64) -> f64 {
  let e = exp_m1_f64(-2.0lf * min(abs(x), 22.0lf));
  return select(with_sign_f64(-e / (2.0lf + e), x), x, is_nan_f64(x));
}

// Half of exp(x), which may overflow where its half does not.
fn half_exp_f64(x: f64) -> f64 {
  let root = exp_f64(0.5lf * x);
  return 0.5lf * root * root;
}

fn sinh_f64(x: f64) -> f64 {
  let e = exp_m1_f64(abs(x));
  let s = select(0.5lf * (e + e / (e + 1.0lf)), half_exp_f64(abs(x)), abs(x) > 40.0lf);
  return select(with_sign_f64(s, x), x, is_nan_f64(x));
}

fn cosh_f64(x: f64) -> f64 {
  let e = exp_f64(abs(x));
  return select(0.5lf * (e + 1.0lf / e), half_exp_f64(abs(x)), abs(x) > 40.0lf);
}

fn asinh_f64(x: f64) -> f64 {
  let a = abs(x);
  let s = select(log_1p_f64(a + a * a / (1.0lf + sqrt(1.0lf + a * a))), log_f64(a) + 0.6931471805599453lf, a > 1e9lf);
  return select(with_sign_f64(s, x), x, is_nan_f64(x));
}

fn acosh_f64(x: f64) -> f64 {
  let t = x - 1.0lf;
  let s = select(log_1p_f64(t + sqrt(2.0lf * t + t * t)), log_f64(x) + 0.6931471805599453lf, x > 1e9lf);
  return select(s, nan_f64(), x < 1.0lf);
}

fn atanh_f64(x: f64) -> f64 {
  let a = abs(x);
  let s = 0.5lf * log_1p_f64(2.0lf * a / (1.0lf - a));
  let t = select(select(s, infinity_f64(), a == 1.0lf), nan_f64(), a > 1.0lf);
  return select(with_sign_f64(t, x), t, is_nan_f64(t));
}

fn sigmoid_f64(x: f64) -> f64 {
  let e = exp_f64(-abs(x));
  return select(1.0lf, e, x < 0.0lf) / (1.0lf + e);
}

fn softplus_f64(x: f64) -> f64 {
  return max_f64(x, 0.0lf) + log_1p_f64(exp_f64(-abs(x)));
}

// The upper half of a product of 64 by 64 bits.
fn product_high_f64(a: u64, b: u64) -> u64 {
  let low = (a & 0xfffffffflu) * (b & 0xfffffffflu);
  let middle = (a >> 32u) * (b & 0xfffffffflu) + (low >> 32u);
  let other = (a & 0xfffffffflu) * (b >> 32u) + (middle & 0xfffffffflu);
  return (a >> 32u) * (b >> 32u) + (middle >> 32u) + (other >> 32u);
}

// Of |x| in quarter turns: what is left of the nearest whole number as an angle, and that number modulo 4. Payne and Hanek, as
// `quarter_turns`: 53 bits times 192 bits of 2 / pi, of which 126 behind the point are right.
fn quarter_turns_f64(x: f64) -> vec2<f64> {
  // 2 / pi, 64 bits in front of the point.
  var digits = array<u64, 20>(0lu, 0xa2f9836e4e441529lu, 0xfc2757d1f534ddc0lu, 0xdb6295993c439041lu, 0xfe5163abdebbc561lu,
    0xb7246e3a424dd2e0lu, 0x06492eea09d1921clu, 0xfe1deb1cb129a73elu, 0xe88235f52ebb4484lu, 0xe99c7026b45f7e41lu, 0x3991d639835339f4lu,
    0x9c845f8bbdf9283blu, 0x1ff897ffde05980flu, 0xef2f118b5a0a6d1flu, 0x6d367ecf27cb09b7lu, 0x4f463f669e5fea2dlu, 0x7527bac7ebe5f17blu,
    0x3d0739f78a5292ealu, 0x6bfb5fb11f8d5d08lu, 0x56033046fc7b6bablu);
  let size = size_f64(x);
  let mantissa = (size & 0x000ffffffffffffflu) | 0x0010000000000000lu;
  // Bits further up make whole turns.
  let place = clamp(u32(size >> 52u), 1022u, 2046u) - 1013u;
  let at = place / 64u;
  let shift = place & 63u;
  let window = vec3<u64>(
    (digits[at] << shift) | ((digits[at + 1u] >> 1u) >> (63u - shift)),
    (digits[at + 1u] << shift) | ((digits[at + 2u] >> 1u) >> (63u - shift)),
    (digits[at + 2u] << shift) | ((digits[at + 3u] >> 1u) >> (63u - shift)));
  let added = product_high_f64(mantissa, window.z);
  let low = mantissa * window.y + added;
  let high = mantissa * window.x + product_high_f64(mantissa, window.y) + select(0lu, 1lu, low < added);
  let whole = (high + 0x2000000000000000lu) >> 62u;
  let rest = high - (whole << 62u);
  let negative = (rest & 0x8000000000000000lu) != 0lu;
  let rest_high = select(rest, ~rest + select(0lu, 1lu, low == 0lu), negative);
  let rest_low = select(low, 0lu - low, negative);
  // 2^-62 and 2^-126 quarter turns.
  let angle = f64(rest_high) * 3.4061215800865545e-19lf + f64(rest_low) * 1.8464622084398007e-38lf;
  // Below 1/2 the angle is the number itself.
  let small = size < 0x3fe0000000000000lu;
  return vec2<f64>(select(select(angle, -angle, negative), abs(x), small), f64(u32(select(whole & 3lu, 0lu, small))));
}

fn sin_near_f64(x: f64) -> f64 {
  let t = x * x;
  let high = 1.0lf / 362880.0lf - t * (1.0lf / 39916800.0lf - t * (1.0lf / 6227020800.0lf - t * (1.0lf / 1307674368000.0lf - t * (1.0lf / 355687428096000.0lf))));
  return x - x * t * (1.0lf / 6.0lf - t * (1.0lf / 120.0lf - t * (1.0lf / 5040.0lf - t * high)));
}

fn cos_near_f64(x: f64) -> f64 {
  let t = x * x;
  let high = 1.0lf / 3628800.0lf - t * (1.0lf / 479001600.0lf - t * (1.0lf / 87178291200.0lf - t * (1.0lf / 20922789888000.0lf - t * (1.0lf / 6402373705728000.0lf))));
  return 1.0lf - t * (0.5lf - t * (1.0lf / 24.0lf - t * (1.0lf / 720.0lf - t * (1.0lf / 40320.0lf - t * high))));
}

fn sin_f64(x: f64) -> f64 {
  let turns = quarter_turns_f64(x);
  let odd = turns.y == 1.0lf || turns.y == 3.0lf;
  let y = select(sin_near_f64(turns.x), cos_near_f64(turns.x), odd);
  let negative = (turns.y >= 2.0lf) != (bitcast<i64>(x) < 0li);
  return select(select(y, -y, negative), nan_f64(), size_f64(x) >= 0x7ff0000000000000lu);
}

fn cos_f64(x: f64) -> f64 {
  let turns = quarter_turns_f64(x);
  let odd = turns.y == 1.0lf || turns.y == 3.0lf;
  let y = select(cos_near_f64(turns.x), sin_near_f64(turns.x), odd);
  let negative = turns.y == 1.0lf || turns.y == 2.0lf;
  return select(select(y, -y, negative), nan_f64(), size_f64(x) >= 0x7ff0000000000000lu);
}

fn tan_f64(x: f64) -> f64 {
  return sin_f64(x) / cos_f64(x);
}

fn erf_f64(x: f64) -> f64 {
  let a = abs(x);
  let s = a * a;
  let near_high = 1.2055331036747115e-4lf + s * (-1.4925593503293629e-5lf + s * (1.6460972760433137e-6lf + s * (-1.635002463555434e-7lf
    + s * (1.465787598901059e-8lf + s * (-1.1365651469343184e-9lf + s * 5.945237953580084e-11lf)))));
  let near = a + a * (0.1283791670955126lf + s * (-0.3761263890318375lf + s * (0.11283791670954857lf + s * (-0.026866170645072886lf
    + s * (0.00522397762478079lf + s * (-0.0008548326978737927lf + s * near_high))))));
  // The logarithm of 1 - erf is close to a polynomial: one up to 2.25, and one up to 6. Beyond the result is 1.
  let b = min(a, 6.0lf);
  let middle_high = 2.198944828259324e-3lf + b * (-1.0069047291452295e-3lf + b * (2.883777610134268e-4lf + b * (-5.7371571146661375e-5lf
    + b * (7.784567213119176e-6lf + b * (-6.531732527272195e-7lf + b * 2.5672445871637586e-8lf)))));
  let middle = 1.1871172399778887e-6lf + b * (1.1283672114625942lf + b * (0.6366756786985939lf + b * (0.10261157051548958lf
    + b * (-0.018808957259777048lf + b * (-6.713839562794638e-4lf + b * middle_high)))));
  let far_high = 5.920986579225383e-3lf + b * (-9.233619745156147e-4lf + b * (1.0602306773170246e-4lf + b * (-8.39835428356228e-6lf
    + b * (4.0785584810577395e-7lf + b * -9.102544253490093e-9lf))));
  let far = -9.886428391853849e-4lf + b * (1.1328137378243914lf + b * (0.627421720547682lf + b * (0.11444052355337839lf
    + b * (-0.029181594889511192lf + b * far_high))));
  let beyond = 1.0lf - exp_f64(-select(far, middle, b < 2.25lf));
  return select(with_sign_f64(select(beyond, near, a < 1.0lf), x), x, is_nan_f64(x));
}

// (mantissa of 53 bits, exponent) of a positive number's bits, also of a subnormal one: mantissa * 2^(exponent - 1075).
fn mantissa_f64(size: u64) -> vec2<u64> {
  let subnormal = size < 0x0010000000000000lu;
  let scaled = bitcast<u64>(bitcast<f64>(size) * 18014398509481984.0lf);
  let bits = select(size, scaled, subnormal);
  let exponent = select((bits >> 52u) + 54lu, bits >> 52u, subnormal);
  return vec2<u64>((bits & 0x000ffffffffffffflu) | 0x0010000000000000lu, exponent);
}

fn fmod_f64(a: f64, b: f64) -> f64 {
  // As C's: exact, with the sign of the dividend. The loop takes 11 bits of the quotient at a time, 191 times at most. No kernel calls
  // this in a loop of its own, as float64 is computed in elementwise kernels.
  let size = size_f64(a);
  let divisor = size_f64(b);
  if size >= 0x7ff0000000000000lu || divisor > 0x7ff0000000000000lu || divisor == 0lu { return nan_f64(); }
  if size < divisor { return a; }
  let x = mantissa_f64(size);
  let y = mantissa_f64(divisor);
  var rest = x.x % y.x;
  var left = u32(x.y - y.y);
  while left > 0u {
    let step = min(left, 11u);
    rest = (rest << step) % y.x;
    left -= step;
  }
  return with_sign_f64(scaled_f64(f64(rest), i32(y.y) - 1129), a);
}

fn rem_floor_f64(a: f64, b: f64) -> f64 {
  // numpy's: the sign of the divisor, also of zero.
  let r = fmod_f64(a, b);
  let opposite = ((bitcast<u64>(r) ^ bitcast<u64>(b)) & 0x8000000000000000lu) != 0lu;
  let moved = select(r, r + b, opposite && !is_nan_f64(r));
  return select(moved, with_sign_f64(0.0lf, b), size_f64(r) == 0lu);
}

// A step of square-and-multiply on (result, base) for one bit of the exponent.
fn power_step_f64(s: vec2<f64>, bit: bool) -> vec2<f64> {
  return vec2<f64>(select(s.x, s.x * s.y, bit), s.y * s.y);
}

fn pow_f64(a: f64, b: f64) -> f64 {
  // As C's. For exponents that are whole and at most 64 within a few units; for others the relative error is 2^-52 of b * ln(a), which
  // is at most 745.
  let size = size_f64(a);
  let exponent = size_f64(b);
  let raises = (bitcast<u64>(b) & 0x8000000000000000lu) == 0lu;
  let whole = floor(b) == b && exponent >= 0x3ff0000000000000lu;
  let odd = whole && abs(b) < 9007199254740992.0lf && (u64(min(abs(b), 9007199254740992.0lf)) & 1lu) == 1lu;
  let few = u32(min(abs(b), 64.0lf));
  var steps = vec2<f64>(1.0lf, abs(a));
  steps = power_step_f64(steps, (few & 1u) != 0u);
  steps = power_step_f64(steps, (few & 2u) != 0u);
  steps = power_step_f64(steps, (few & 4u) != 0u);
  steps = power_step_f64(steps, (few & 8u) != 0u);
  steps = power_step_f64(steps, (few & 16u) != 0u);
  steps = power_step_f64(steps, (few & 32u) != 0u);
  steps = power_step_f64(steps, (few & 64u) != 0u);
  let product = select(1.0lf / steps.x, steps.x, raises);
  let plain = select(exp_f64(b * log_f64(abs(a))), product, whole && abs(b) <= 64.0lf);
  // Of 0 and infinity, and of what is not 1 to an infinite power.
  let infinite = exponent == 0x7ff0000000000000lu;
  let grows = select(size == 0x7ff0000000000000lu, size > 0x3ff0000000000000lu, infinite) == raises;
  let extreme = select(0.0lf, infinity_f64(), grows);
  let ends = size == 0lu || size == 0x7ff0000000000000lu || infinite;
  let positive = select(select(plain, extreme, ends), 1.0lf, size == 0x3ff0000000000000lu);
  let negative = select(select(positive, -positive, odd), nan_f64(), !whole && !ends);
  let result = select(positive, negative, (bitcast<u64>(a) & 0x8000000000000000lu) != 0lu);
  let none = size > 0x7ff0000000000000lu || exponent > 0x7ff0000000000000lu;
  return select(select(result, nan_f64(), none), 1.0lf, exponent == 0lu || bitcast<u64>(a) == 0x3ff0000000000000lu);
}

fn f64_to_i32(x: f64) -> i32 {
  return select(i32(clamp(x, -2147483648.0lf, 2147483647.0lf)), 0, is_nan_f64(x));
}

fn f64_to_u32(x: f64) -> u32 {
  // Negative numbers wrap, as C compilers and numpy do.
  let wrapped = bitcast<u32>(f64_to_i32(x));
  return select(u32(clamp(x, 0.0lf, 4294967295.0lf)), wrapped, x < 0.0lf);
}

fn round_odd(x: f64) -> f64 {
  // Without the 29 bits that float32 does not have; the last that it has is 1 if one of them was. Formats of 21 bits and fewer then round
  // to the nearest of x.
  let bits = bitcast<u64>(x);
  let upper = bits & 0xffffffffe0000000lu;
  let odd = upper | select(0lu, 0x20000000lu, bits != upper);
  return select(bitcast<f64>(odd), x, is_nan_f64(x));
}
