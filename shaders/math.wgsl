// Functions that keep ONNX's meaning where WGSL's own do not, on every driver seen. A kernel includes those it calls.

fn is_nan(x: f32) -> bool {
  // x != x is false for NaN on lavapipe and SwiftShader.
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

fn nan() -> f32 {
  // A variable keeps WGSL's constant evaluation from refusing the bit pattern.
  var bits = 0x7fc00000u;
  return bitcast<f32>(bits);
}

fn infinity() -> f32 {
  var bits = 0x7f800000u;
  return bitcast<f32>(bits);
}

fn min_full(a: f32, b: f32) -> f32 {
  // NaN wins, whatever the driver's min does with it.
  return select(select(min(a, b), b, is_nan(b)), a, is_nan(a));
}

fn max_full(a: f32, b: f32) -> f32 {
  return select(select(max(a, b), b, is_nan(b)), a, is_nan(a));
}

// x as a whole multiple of ln(2) and a rest: that rest, exp(rest) - 1 less the rest, and the multiple. Drivers may be off by 3 + 2 |x|
// units in exp.
fn exp_parts(x: f32) -> vec3<f32> {
  let n = round(x * 1.44269504);
  // ln(2) in two parts, the first with few bits: its multiples are exact.
  let r = (x - n * 0.693359375) - n * -2.12194440e-4;
  let p = 0.49999994 + r * (0.166665211 + r * (0.041668389 + r * (8.36871751e-3 + r * 1.38145965e-3)));
  return vec3<f32>(r, r * r * p, n);
}

fn times_power_of_two(y: f32, n: f32) -> f32 {
  return bitcast<f32>(bitcast<i32>(y) + (i32(n) << 23u));
}

fn exp_full(x: f32) -> f32 {
  let parts = exp_parts(x);
  let y = times_power_of_two(1.0 + (parts.x + parts.y), parts.z);
  // Subnormal results are 0, and the greatest number is infinite.
  let low = select(y, 0.0, x < -87.33654);
  return select(select(low, infinity(), x > 88.72283), x, is_nan(x));
}

fn log_full(x: f32) -> f32 {
  // Drivers' logarithms are off by 2^-21 around 1, where the result is small, and take subnormal numbers for the least normal one
  // or 0. The series of ln(m), m between the roots of 1/2 and 2.
  let parts = normalized(bitcast<u32>(x) & 0x7fffffffu);
  let upper = (parts.x & 0x7fffffu) > 0x3504f3u;
  let m = bitcast<f32>((parts.x & 0x7fffffu) | select(0x3f800000u, 0x3f000000u, upper));
  let exponent = f32(i32(parts.y) - select(159, 158, upper));
  let f = m - 1.0;
  let t = f * f;
  let p = 0.333333313 + f * (-0.250008225 + f * (0.200012267 + f * (-0.166233569 + f * (0.142017618 + f * (-0.131601945
    + f * (0.127615497 + f * -0.0763442963))))));
  let y = (f + (f * t * p + exponent * -2.12194440e-4 - 0.5 * t)) + exponent * 0.693359375;
  let positive = select(y, infinity(), bitcast<u32>(x) == 0x7f800000u);
  let none = bitcast<u32>(x) > 0x80000000u || is_nan(x);
  return select(select(positive, nan(), none), -infinity(), (bitcast<u32>(x) & 0x7fffffffu) == 0u);
}

fn exp_m1(x: f32) -> f32 {
  let parts = exp_parts(clamp(x, -30.0, 89.0));
  let half = times_power_of_two(0.5, parts.z);
  let y = 2.0 * ((parts.x + parts.y) * half + (half - 0.5));
  return select(y, x, is_nan(x));
}

fn log_1p(x: f32) -> f32 {
  // 2 * atanh(x / (2 + x)) near 0: around 1 the error of log is only bounded absolutely (2^-21), and NVIDIA's is that large.
  let s = x / (2.0 + x);
  let t = s * s;
  let near = 2.0 * s * (1.0 + t * (1.0 / 3.0 + t * (0.2 + t * (1.0 / 7.0 + t * (1.0 / 9.0)))));
  return select(log_full(1.0 + x), near, x > -0.25 && x < 0.5);
}

fn upper_half(x: f32) -> f32 {
  return bitcast<f32>(bitcast<u32>(x) & 0xfffff000u);
}

fn left_over(a: f32, q: f32, b: f32) -> f32 {
  // a - q * b, from products of halves, which are exact.
  let qh = upper_half(q);
  let bh = upper_half(b);
  let ql = q - qh;
  let bl = b - bh;
  return (((a - qh * bh) - qh * bl) - ql * bh) - ql * bl;
}

fn closer(a: f32, q: f32, b: f32) -> f32 {
  // The neighbour, if it is nearer to a / b; by its bits, as NVIDIA's driver makes (a + rest) / b of q + rest / b.
  let rest = left_over(a, q, b);
  let grows = ((rest < 0.0) == (b < 0.0)) == (q > 0.0);
  let neighbour = bitcast<f32>(select(bitcast<u32>(q) - 1u, bitcast<u32>(q) + 1u, grows));
  return select(q, neighbour, abs(left_over(a, neighbour, b)) < abs(rest));
}

fn divide(a: f32, b: f32) -> f32 {
  // WGSL allows an error of 2.5 units, and NVIDIA's driver is off by up to two, but what is quantised next must meet ties.
  let q = a / b;
  let exponents = vec3<u32>(bitcast<u32>(q), bitcast<u32>(b), bitcast<u32>(a)) & vec3<u32>(0x7f800000u);
  // Within 2^-60 and 2^60 nothing overflows or vanishes.
  let plain = all(exponents > vec3<u32>(67u << 23u)) & all(exponents < vec3<u32>(187u << 23u));
  return select(q, closer(a, closer(a, q, b), b), plain);
}

fn sign_full(x: f32) -> f32 {
  return select(sign(x), x, is_nan(x));
}

fn atan_full(x: f32) -> f32 {
  // lavapipe's is off by 3e-6, and 0 for NaN. Abramowitz and Stegun 4.4.49 below 1: error 2e-8.
  let a = abs(x);
  let z = select(a, 1.0 / a, a > 1.0);
  let t = z * z;
  let p = z + z * t * (-0.3333314528 + t * (0.1999355085 + t * (-0.1420889944 + t * (0.1065626393
    + t * (-0.0752896400 + t * (0.0429096138 + t * (-0.0161657367 + t * 0.0028662257)))))));
  let y = select(p, 1.57079633 - p, a > 1.0);
  return select(with_sign(y, x), x, is_nan(x));
}

fn with_sign(size: f32, like: f32) -> f32 {
  return bitcast<f32>((bitcast<u32>(size) & 0x7fffffffu) | (bitcast<u32>(like) & 0x80000000u));
}

fn asin_full(x: f32) -> f32 {
  // atan2 of lavapipe is off by 3e-4, and 0 where the root is none.
  let y = atan_full(x / sqrt((1.0 - x) * (1.0 + x)));
  return select(y, nan(), outside_one(x));
}

fn acos_full(x: f32) -> f32 {
  let y = atan_full(sqrt((1.0 - x) * (1.0 + x)) / abs(x));
  return select(select(y, 3.14159265 - y, x < 0.0), nan(), outside_one(x));
}

fn outside_one(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x3f800000u;
}

// The high word of a product whose first factor has 24 bits.
fn product_high(a: u32, b: u32) -> u32 {
  let middle = (a & 0xffffu) * (b >> 16u) + (((a & 0xffffu) * (b & 0xffffu)) >> 16u);
  return (a >> 16u) * (b >> 16u) + (middle >> 16u) + (((a >> 16u) * (b & 0xffffu) + (middle & 0xffffu)) >> 16u);
}

// |x| in quarter turns: what is left of the nearest whole number as an angle, and that number modulo 4. Payne and Hanek: the bits of
// 2 / pi that matter for this exponent, times the mantissa, 62 bits behind the point. Drivers are off by 9e-2 at 1e6.
fn quarter_turns(x: f32) -> vec2<f32> {
  let size = bitcast<u32>(x) & 0x7fffffffu;
  let mantissa = (size & 0x7fffffu) | 0x800000u;
  let place = max(size >> 23u, 126u) - 120u;
  let far = place >= 128u;
  let a = select(vec4<u32>(0u, 0xa2f9836eu, 0x4e441529u, 0xfc2757d1u), vec4<u32>(0xf534ddc0u, 0xdb629599u, 0x3c439041u, 0xfe5163abu), far);
  let b = vec3<u32>(0xf534ddc0u, 0xdb629599u, 0x3c439041u);
  let two = (place & 64u) != 0u;
  let c = select(a, vec4<u32>(a.z, a.w, b.x, b.y), two);
  let one = (place & 32u) != 0u;
  let d = select(c, vec4<u32>(c.y, c.z, c.w, select(b.x, b.z, two)), one);
  let shift = place & 31u;
  let window = (d.xyz << vec3<u32>(shift)) | ((d.yzw >> vec3<u32>(1u)) >> vec3<u32>(31u - shift));
  let added = product_high(mantissa, window.z);
  let low = mantissa * window.y + added;
  let high = mantissa * window.x + product_high(mantissa, window.y) + select(0u, 1u, low < added);
  let whole = (high + 0x20000000u) >> 30u;
  let rest = high - (whole << 30u);
  let negative = (rest & 0x80000000u) != 0u;
  let rest_high = select(rest, ~rest + select(0u, 1u, low == 0u), negative);
  let rest_low = select(low, 0u - low, negative);
  // 2^-30 and 2^-62 quarter turns.
  let angle = f32(rest_high) * 1.46291808e-9 + f32(rest_low) * 3.40612158e-19;
  // Below 1/2 the angle is the number itself.
  let small = size < 0x3f000000u;
  return vec2<f32>(select(select(angle, -angle, negative), abs(x), small), f32(select(whole & 3u, 0u, small)));
}

fn sin_near(x: f32) -> f32 {
  let t = x * x;
  return x + x * t * (-1.0 / 6.0 + t * (1.0 / 120.0 + t * (-1.0 / 5040.0 + t / 362880.0)));
}

fn cos_near(x: f32) -> f32 {
  let t = x * x;
  return 1.0 + t * (-0.5 + t * (1.0 / 24.0 + t * (-1.0 / 720.0 + t * (1.0 / 40320.0 - t / 3628800.0))));
}

fn sin_full(x: f32) -> f32 {
  let turns = quarter_turns(x);
  let odd = turns.y == 1.0 || turns.y == 3.0;
  let y = select(sin_near(turns.x), cos_near(turns.x), odd);
  let negative = (turns.y >= 2.0) != ((bitcast<u32>(x) & 0x80000000u) != 0u);
  return select(select(y, -y, negative), nan(), (bitcast<u32>(x) & 0x7fffffffu) >= 0x7f800000u);
}

fn cos_full(x: f32) -> f32 {
  let turns = quarter_turns(x);
  let odd = turns.y == 1.0 || turns.y == 3.0;
  let y = select(cos_near(turns.x), sin_near(turns.x), odd);
  let negative = turns.y == 1.0 || turns.y == 2.0;
  return select(select(y, -y, negative), nan(), (bitcast<u32>(x) & 0x7fffffffu) >= 0x7f800000u);
}

fn tan_full(x: f32) -> f32 {
  return sin_full(x) / cos_full(x);
}

fn tanh_full(x: f32) -> f32 {
  // SwiftShader: tanh(1e30) is NaN.
  let a = abs(x);
  let s = a * a;
  let near = a + a * (s * (-0.333332986 + s * (0.133319244 + s * (-0.0537838265 + s * (0.0207959656 - s * 0.00589515083)))));
  let far = 1.0 - 2.0 / (exp_full(2.0 * min(a, 20.0)) + 1.0);
  return select(with_sign(select(far, near, a < 0.6), x), x, is_nan(x));
}

fn sinh_full(x: f32) -> f32 {
  let e = exp_m1(abs(x));
  let s = select(0.5 * (e + e / (e + 1.0)), half_exp(abs(x)), abs(x) > 20.0);
  return select(with_sign(s, x), x, is_nan(x));
}

fn cosh_full(x: f32) -> f32 {
  let e = exp_full(abs(x));
  return select(0.5 * (e + 1.0 / e), half_exp(abs(x)), abs(x) > 20.0);
}

fn half_exp(x: f32) -> f32 {
  // exp(x) may overflow where half of it does not. Only for numbers above 0.
  let parts = exp_parts(x);
  let y = times_power_of_two(1.0 + (parts.x + parts.y), parts.z - 1.0);
  return select(y, infinity(), x > 89.41598);
}

fn asinh_full(x: f32) -> f32 {
  let a = abs(x);
  let s = select(log_1p(a + a * a / (1.0 + sqrt(1.0 + a * a))), log_full(a) + 0.69314718, a > 1e9);
  return select(s, -s, x < 0.0);
}

fn acosh_full(x: f32) -> f32 {
  let t = x - 1.0;
  let s = select(log_1p(t + sqrt(2.0 * t + t * t)), log_full(x) + 0.69314718, x > 1e9);
  return select(s, nan(), x < 1.0);
}

fn atanh_full(x: f32) -> f32 {
  let a = abs(x);
  let s = 0.5 * log_1p(2.0 * a / (1.0 - a));
  let t = select(select(s, infinity(), a == 1.0), nan(), a > 1.0);
  return select(t, -t, x < 0.0);
}

fn sigmoid(x: f32) -> f32 {
  let e = exp_full(-abs(x));
  let y = select(1.0, e, x < 0.0) / (1.0 + e);
  // The same as y, with less of the quotient's error.
  return select(y, e - e * y, x < 0.0);
}

fn softplus(x: f32) -> f32 {
  return max(x, 0.0) + log_1p(exp_full(-abs(x)));
}

fn erf(x: f32) -> f32 {
  let a = abs(x);
  let s = a * a;
  // Eight times as large, as no step may be subnormal.
  let near = 8.0 * a + (8.0 * a) * (0.128379166 + s * (-0.37612626 + s * (0.112835854 + s * (-0.026853811 + s * (0.00518832728
    + s * (-0.000801019138 + s * 7.85385419e-5))))));
  // The logarithm of 1 - erf is close to a polynomial. Beyond 4 the result is 1.
  let b = min(a, 4.0);
  let p = 0.00267169066 + b * (1.11743855 + b * (0.654488862 + b * (0.0886342153 + b * (-0.0147781344 + b * 0.00115042413))));
  let far = 1.0 - exp_full(-p);
  return select(with_sign(select(far, 0.125 * near, a < 1.0), x), x, is_nan(x));
}

// A step of a remainder: (r * 2^28) % b of (r, exponent left, b), or less if the exponent is, for 2^23 <= b < 2^24 and r < b. The
// quotient is an estimate that may be off by 65; in words that wrap what is left of it is exact.
fn fmod_step(s: vec3<u32>) -> vec3<u32> {
  let shift = min(s.y, 28u);
  let b = f32(s.z);
  let q = u32(f32(s.x) * (bitcast<f32>((127u + shift) << 23u) / b));
  let rest = bitcast<i32>((s.x << shift) - q * s.z);
  let near = rest - i32(floor(f32(rest) / b)) * i32(s.z);
  let raised = near + select(0, i32(s.z), near < 0);
  return vec3<u32>(u32(select(raised, raised - i32(s.z), raised >= i32(s.z))), s.y - shift, s.z);
}

fn fmod_steps(s: vec3<u32>) -> vec3<u32> {
  return fmod_step(fmod_step(fmod_step(s)));
}

// (mantissa, exponent + 32) of a positive number's bits, the mantissa with 24 bits, also of a subnormal number.
fn normalized(size: u32) -> vec2<u32> {
  let subnormal = size < 0x00800000u;
  let mantissa = select((size & 0x7fffffu) | 0x800000u, size, subnormal);
  let zeros = countLeadingZeros(mantissa | 1u) - 8u;
  return vec2<u32>(mantissa << zeros, select(size >> 23u, 1u, subnormal) + 32u - zeros);
}

fn fmod(a: f32, b: f32) -> f32 {
  // As C's: exact, with the sign of the dividend. By integers, since drivers reassociate a - q * b.
  let bits = bitcast<u32>(a);
  let size = bits & 0x7fffffffu;
  let divisor = bitcast<u32>(b) & 0x7fffffffu;
  let x = normalized(size);
  let y = normalized(divisor);
  // Three times three steps are enough for the greatest quotient, 2^277.
  let first = fmod_step(vec3<u32>(select(x.x, x.x - y.x, x.x >= y.x), x.y - min(x.y, y.y), y.x));
  var s = first;
  if (first.y > 0u) {
    s = fmod_steps(fmod_steps(fmod_steps(first)));
  }
  let zeros = countLeadingZeros(s.x | 1u) - 8u;
  let normal = ((y.y - 32u - zeros) << 23u) | ((s.x << zeros) & 0x7fffffu);
  let subnormal = select(s.x >> ((33u - y.y) & 31u), s.x << ((y.y - 33u) & 31u), y.y >= 33u);
  let rest = select(select(subnormal, normal, y.y > 32u + zeros), 0u, s.x == 0u);
  let result = bitcast<f32>(select(rest, size, size < divisor) | (bits & 0x80000000u));
  let none = size >= 0x7f800000u || divisor > 0x7f800000u || divisor == 0u;
  return select(result, nan(), none);
}

fn rem_floor_f32(a: f32, b: f32) -> f32 {
  // numpy's: the sign of the divisor, also of zero.
  let r = fmod(a, b);
  let opposite = ((bitcast<u32>(r) ^ bitcast<u32>(b)) & 0x80000000u) != 0u;
  let moved = select(r, r + b, opposite && !is_nan(r));
  let zero = bitcast<f32>(bitcast<u32>(b) & 0x80000000u);
  return select(moved, zero, (bitcast<u32>(r) & 0x7fffffffu) == 0u);
}

fn rem_floor_i32(a: i32, b: i32) -> i32 {
  let r = a % b;
  return select(r, r + b, r != 0 && ((r < 0) != (b < 0)));
}

// Square-and-multiply on (result, base, exponent), one bit of the exponent at a time. No loop: it would count against the
// iterations of the loop around it.
fn power_1(s: vec3<u32>) -> vec3<u32> {
  return vec3(select(s.x, s.x * s.y, (s.z & 1u) == 1u), s.y * s.y, s.z >> 1u);
}

fn power_4(s: vec3<u32>) -> vec3<u32> {
  return power_1(power_1(power_1(power_1(s))));
}

fn pow_u32(a: u32, b: u32) -> u32 {
  let half = power_4(power_4(power_4(power_4(vec3(1u, a, b)))));
  return power_4(power_4(power_4(power_4(half)))).x;
}

fn pow_i32(a: i32, b: i32) -> i32 {
  let result = bitcast<i32>(pow_u32(bitcast<u32>(a), u32(max(b, 0))));
  return select(result, select(0, select(-1, 1, (b & 1) == 0), a == -1), b < 0 && a != 1);
}

// The number of a report for the host: see `Fault`. Of several reports of one kernel the greatest stays.
fn report(word: u32) {
  atomicMax(&faults[p.fault], word);
}

fn mul_overflows_u32(a: u32, b: u32) -> bool {
  // The upper half of the product, by halves of 16 bits.
  let low = (a & 0xffffu) * (b & 0xffffu);
  let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
  let other = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
  return (a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u) != 0u;
}

fn mul_overflows_i32(a: i32, b: i32) -> bool {
  // abs(-2^31) is -2^31, whose bits are 2^31.
  let x = bitcast<u32>(abs(a));
  let y = bitcast<u32>(abs(b));
  let most = select(0x7fffffffu, 0x80000000u, (a < 0) != (b < 0));
  return mul_overflows_u32(x, y) || x * y > most;
}

fn add_checked_i32(a: i32, b: i32) -> i32 {
  let sum = a + b;
  if ((a ^ sum) & (b ^ sum)) < 0 { report(1u); }
  return sum;
}

fn add_checked_u32(a: u32, b: u32) -> u32 {
  if a + b < a { report(1u); }
  return a + b;
}

fn mul_checked_i32(a: i32, b: i32) -> i32 {
  if mul_overflows_i32(a, b) { report(1u); }
  return a * b;
}

fn mul_checked_u32(a: u32, b: u32) -> u32 {
  if mul_overflows_u32(a, b) { report(1u); }
  return a * b;
}

// The steps of `power_1` on (result, base, exponent) with whether a product was too large: 1 the result's, 2 the base's.
fn power_overflows_1(s: vec4<u32>) -> vec4<u32> {
  let used = (s.z & 1u) == 1u;
  let result = used && ((s.w & 2u) != 0u || mul_overflows_u32(s.x, s.y));
  let base = mul_overflows_u32(s.y, s.y);
  return vec4(power_1(s.xyz), s.w | select(0u, 1u, result) | select(0u, 2u, base));
}

fn power_overflows_4(s: vec4<u32>) -> vec4<u32> {
  return power_overflows_1(power_overflows_1(power_overflows_1(power_overflows_1(s))));
}

fn power_checked(a: u32, b: u32) -> vec4<u32> {
  let half = power_overflows_4(power_overflows_4(power_overflows_4(power_overflows_4(vec4(1u, a, b, 0u)))));
  return power_overflows_4(power_overflows_4(power_overflows_4(power_overflows_4(half))));
}

fn pow_overflows_u32(a: u32, b: u32) -> bool {
  return (power_checked(a, b).w & 1u) != 0u;
}

fn pow_overflows_i32(a: i32, b: i32) -> bool {
  let power = power_checked(bitcast<u32>(abs(a)), u32(max(b, 0)));
  let most = select(0x7fffffffu, 0x80000000u, a < 0 && (b & 1) == 1);
  return (power.w & 1u) != 0u || power.x > most;
}

// b * log2(a) for a positive number's bits, as a sum of two: pow amplifies the error of a logarithm by the result's.
fn power_exponent(a: u32, b: f32) -> vec2<f32> {
  let parts = normalized(a);
  let upper = (parts.x & 0x7fffffu) > 0x3504f3u;
  let m = bitcast<f32>((parts.x & 0x7fffffu) | select(0x3f800000u, 0x3f000000u, upper));
  let exponent = f32(i32(parts.y) - select(159, 158, upper));
  // log2(m) = 2 / ln(2) * atanh(s), s = (m - 1) / (m + 1), where products of halves are exact.
  let s = (m - 1.0) / (m + 1.0);
  let high = upper_half(s);
  let mh = upper_half(m);
  let low = ((((m - 1.0) - high) - high * mh) - high * (m - mh)) / (m + 1.0);
  let t = s * s;
  let series = s * t * (0.961796694 + t * (0.577078016 + t * (0.412198583 + t * (0.320598898 + t * 0.262308189))));
  // 2 / ln(2) is 2.884765625 and 6.24456e-4.
  let first = high * 2.884765625;
  let second = high * 6.2445671e-4 + (low * 2.88539008 + series);
  let sum = upper_half(exponent + first + second);
  let rest = ((exponent - sum) + first) + second;
  let bh = upper_half(b);
  return vec2<f32>(bh * sum, (b - bh) * sum + b * rest);
}

fn two_to(x: vec2<f32>) -> f32 {
  let inside = abs(x.x) < 300.0;
  let high = select(select(-300.0, 300.0, x.x > 0.0), x.x, inside);
  let low = select(0.0, x.y, inside);
  let whole = round(high + low);
  let t = ((high - whole) + low) * 0.69314718;
  let y = 1.0 + (t + t * t * (0.5 + t * (1.0 / 6.0 + t * (1.0 / 24.0 + t * (1.0 / 120.0 + t * (1.0 / 720.0 + t / 5040.0))))));
  // In two steps, as the power may be out of range where the result is not.
  let half = i32(whole) / 2;
  let near = y * bitcast<f32>(u32(clamp(half, -126, 127) + 127) << 23u);
  return near * bitcast<f32>(u32(clamp(i32(whole) - half, -126, 127) + 127) << 23u);
}

fn pow_full(a: f32, b: f32) -> f32 {
  // As C's.
  let size = bitcast<u32>(a) & 0x7fffffffu;
  let exponent = bitcast<u32>(b) & 0x7fffffffu;
  let raises = (bitcast<u32>(b) & 0x80000000u) == 0u;
  let whole = floor(b) == b && exponent >= 0x3f800000u;
  let odd = whole && abs(b) < 16777216.0 && (i32(clamp(b, -16777216.0, 16777216.0)) & 1) != 0;
  let plain = select(two_to(power_exponent(size, clamp(b, -1e11, 1e11))), abs(a) * abs(a), b == 2.0);
  // Of 0 and infinity, and of what is not 1 to an infinite power.
  let grows = select(size == 0x7f800000u, size > 0x3f800000u, exponent == 0x7f800000u) == raises;
  let extreme = select(0.0, infinity(), grows);
  let ends = size == 0u || size == 0x7f800000u || exponent == 0x7f800000u;
  let positive = select(select(plain, extreme, ends), 1.0, size == 0x3f800000u);
  let negative = select(select(positive, -positive, odd), nan(), !whole && !ends);
  let result = select(positive, negative, (bitcast<u32>(a) & 0x80000000u) != 0u);
  let none = size > 0x7f800000u || exponent > 0x7f800000u;
  return select(select(result, nan(), none), 1.0, exponent == 0u || bitcast<u32>(a) == 0x3f800000u);
}

// A whole number to a power that is none, truncated; exact where the result and its distance to the next whole number are not
// beyond 28 bits.
fn pow_fraction(a: u32, b: f32) -> u32 {
  let near = f32(a);
  // What f32 does not hold of the number.
  let left = f32(bitcast<i32>(a - u32(near))) / near * 1.44269504;
  let exponent = power_exponent(bitcast<u32>(near), b);
  let rounded = round(two_to(vec2<f32>(exponent.x, exponent.y + b * left)));
  let inverse = power_exponent(bitcast<u32>(max(rounded, 1.0)), 1.0);
  // Without its last bit, which is 0, the difference stays one: Mesa adds the parts of each first.
  let apart = bitcast<f32>(bitcast<u32>(exponent.x - inverse.x) & 0xfffffffeu);
  let above = (apart + (exponent.y + b * left - inverse.y)) < -1e-9 * (2.0 + abs(b));
  let result = u32(min(rounded, 4294967040.0));
  return select(result - select(0u, 1u, above && result > 0u), 0u, a == 0u);
}

fn pow_u32_f32(a: u32, b: f32) -> u32 {
  let whole = floor(b) == b && abs(b) < 2147483648.0;
  let power = pow_u32(a, u32(max(b, 0.0)));
  return select(pow_fraction(a, b), select(power, select(0u, 1u, a == 1u), b < 0.0), whole);
}

fn pow_i32_f32(a: i32, b: f32) -> i32 {
  let whole = floor(b) == b && abs(b) < 2147483648.0;
  // A root of a negative number is none, which becomes 0.
  let fraction = select(bitcast<i32>(pow_fraction(u32(max(a, 0)), b)), 0, is_nan(b));
  return select(fraction, pow_i32(a, i32(clamp(b, -2147483648.0, 2147483520.0))), whole);
}

fn shift_left(a: u32, b: u32) -> u32 {
  return select(a << (b & 31u), 0u, b > 31u);
}

fn shift_overflows_i32(a: i32, b: i32) -> bool {
  // Of 64 bits, the upper 33 are not alike. By 32 and more the lower half is 0; a negative count is a large one.
  let count = bitcast<u32>(b);
  let few = ((a << (count & 31u)) >> (count & 31u)) != a;
  return select(few, shift_left(bitcast<u32>(a), count - 32u) != 0u, count > 31u);
}

fn shift_overflows_u32(a: u32, b: u32) -> bool {
  // The upper 32 bits of 64.
  return select(shift_right(a, 32u - b), shift_left(a, b - 32u), b > 31u) != 0u;
}

fn shift_right(a: u32, b: u32) -> u32 {
  return select(a >> (b & 31u), 0u, b > 31u);
}

// A negative count is a large one.
fn shift_left_i32(a: i32, b: i32) -> i32 {
  return select(a << (u32(b) & 31u), 0, u32(b) > 31u);
}

fn shift_right_i32(a: i32, b: i32) -> i32 {
  return a >> min(u32(b), 31u);
}

fn f32_to_i32(x: f32) -> i32 {
  // Out of range is undefined in ONNX; the greatest float below 2^31 keeps drivers agreeing.
  return select(i32(clamp(x, -2147483648.0, 2147483520.0)), 0, is_nan(x));
}

fn f32_to_u32(x: f32) -> u32 {
  // Negative numbers wrap, as C compilers and numpy do.
  let wrapped = bitcast<u32>(f32_to_i32(x));
  return select(u32(clamp(x, 0.0, 4294967040.0)), wrapped, x < 0.0);
}

fn u32_to_f32(x: u32) -> f32 {
  // SwiftShader rounds twice from 2^31 on: 4294967167 becomes 2^32.
  let half = bitcast<i32>((x >> 1u) | (x & 1u));
  return select(f32(bitcast<i32>(x)), 2.0 * f32(half), x > 0x7fffffffu);
}

// 24 bits of the integer at most, the lowest of them 1 if a lower bit is.
fn round_odd_u32(x: u32) -> u32 {
  let odd = select(0u, 0x100u, (x & 0x1ffu) != 0u);
  return select((x & 0xfffffe00u) | odd, x, x < 0x1000000u);
}

fn round_odd_i32(x: i32) -> i32 {
  let size = bitcast<i32>(round_odd_u32(bitcast<u32>(abs(x))));
  return select(size, -size, x < 0);
}

fn round_bf16(x: f32) -> f32 {
  let bits = bitcast<u32>(x);
  let rounded = (bits + 0x7fffu + ((bits >> 16u) & 1u)) & 0xffff0000u;
  return select(bitcast<f32>(rounded), x, is_nan(x));
}

// The bits of a size rounded to a multiple of 2^exponent, ties to even, for sizes below 2^(exponent + 24). By integers: drivers
// make x of (x + c) - c.
fn round_to(size: u32, exponent: i32) -> u32 {
  let drop = u32(clamp(exponent + 150 - i32(size >> 23u), 1, 25));
  let whole = (size & 0x7fffffu) | 0x800000u;
  let steps = (whole + (1u << (drop - 1u)) - 1u + ((whole >> drop) & 1u)) >> drop;
  return bitcast<u32>(f32(steps) * bitcast<f32>(u32(exponent + 127) << 23u));
}

fn round_f16(x: f32) -> f32 {
  // f32(f16(x)) is elided by Mesa 26, and pack2x16float may do anything beyond 65504: integer arithmetic on the bits.
  let bits = bitcast<u32>(x);
  let size = bits & 0x7fffffffu;
  let normal = (size + 0xfffu + ((size >> 13u) & 1u)) & 0xffffe000u;
  // Below 2^-14 the grid is even.
  let finite = select(normal, round_to(size, -24), size < 0x38800000u);
  let result = select(finite, 0x7f800000u, size >= 0x477ff000u && size <= 0x7f800000u);
  return bitcast<f32>(select(result, size, size > 0x7f800000u) | (bits & 0x80000000u));
}

// The bits of the float16 that is nearest, ties to even. By integers: pack2x16float may round to either neighbour, and may do
// anything beyond 65504.
fn f16_bits(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  let size = bits & 0x7fffffffu;
  let normal = (size - 0x38000000u + 0xfffu + ((size >> 13u) & 1u)) >> 13u;
  // Below 2^-14 the grid is even, with steps of 2^-24: those of 32 bits from 0.5 to 1.
  let tiny = bitcast<u32>(bitcast<f32>(size) + 0.5) - 0x3f000000u;
  let finite = min(select(normal, tiny, size < 0x38800000u), 0x7c00u);
  let none = 0x7e00u | ((size >> 13u) & 0x3ffu);
  return select(finite, none, size > 0x7f800000u) | ((bits >> 16u) & 0x8000u);
}

// The value of the float16 in the lower half of the word, where the driver does not know: `unpack2x16float` is no part of what
// every Vulkan driver has.
fn f16_value(bits: u32) -> f32 {
  let size = bits & 0x7fffu;
  let normal = bitcast<f32>((size << 13u) + select(0x38000000u, 0x70000000u, size >= 0x7c00u));
  let value = select(normal, f32(size) * 5.9604645e-8, size < 0x400u);
  return bitcast<f32>(bitcast<u32>(value) | ((bits & 0x8000u) << 16u));
}

// The bits of the nearest bfloat16.
fn bf16_bits(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  let rounded = (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
  return select(rounded, (bits >> 16u) | 0x40u, is_nan(x));
}

// The number of a float of 8 bits or fewer, in the lowest bits of the word. `least` is its least normal exponent, `most` the code of
// the greatest number: the codes beyond, or that of a negative zero where there is none, are infinite or none.
fn small_value(word: u32, sign: u32, mantissa: u32, least: i32, most: u32, negative_zero: bool) -> f32 {
  let size = word & (sign - 1u);
  let shifted = size << (23u - mantissa);
  let normal = bitcast<f32>(shifted + (u32(least + 126) << 23u));
  // Exact: both factors are normal, and so is the product. SwiftShader converts a u32 in many steps: a product that decodes its weights
  // took it minutes to compile.
  let tiny = f32(i32(size)) * bitcast<f32>(u32(least - i32(mantissa) + 127) << 23u);
  let finite = bitcast<u32>(select(normal, tiny, size < (1u << mantissa)));
  let negative = (word & sign) != 0u;
  let beyond = select(finite, 0x7f800000u | (shifted & 0x7fffffu), size > most);
  // Not `&&`, which is a branch: SwiftShader takes minutes to compile a product that decodes its weights by branches.
  let value = select(beyond, 0x7fc00000u, negative & (size == 0u) & !negative_zero);
  return bitcast<f32>(value | select(0u, 0x80000000u, negative));
}

// The code of a number that such a format has.
fn small_bits(x: f32, sign: u32, mantissa: u32, least: i32, most: u32, negative_zero: bool) -> u32 {
  let size = bitcast<u32>(x) & 0x7fffffffu;
  let normal = (size >> (23u - mantissa)) - (u32(least + 126) << mantissa);
  let tiny = u32(bitcast<f32>(size) * bitcast<f32>(u32(i32(mantissa) - least + 127) << 23u));
  // The only code that may be greater than `most` is infinity's.
  let code = min(select(normal, tiny, size < (u32(least + 127) << 23u)), most + 1u);
  let signed = code | select(0u, sign, (bitcast<u32>(x) & 0x80000000u) != 0u);
  return select(signed, select(sign, sign - 1u, negative_zero), size > 0x7f800000u);
}

// 2^-127 is subnormal.
fn e8m0_value(word: u32) -> f32 {
  let code = word & 255u;
  return bitcast<f32>(select(select(code << 23u, 0x7fc00000u, code == 255u), 0x00400000u, code == 0u));
}

fn e8m0_bits(x: f32) -> u32 {
  let size = bitcast<u32>(x) & 0x7fffffffu;
  return select(size >> 23u, 255u, size > 0x7f800000u);
}

fn checked_index(index: i32, size: u32) -> u32 {
  // Below zero counts from the back. One that is outside is reported, and becomes the nearest that is not.
  let at = select(index, index + i32(size), index < 0);
  if at < 0 || at >= i32(size) { report(bitcast<u32>(index)); }
  return u32(max(min(at, i32(size) - 1), 0));
}

fn round_small(x: f32, mantissa: u32, least: i32, most: f32, beyond: u32) -> f32 {
  // To a float of 8 bits or fewer, ties to even, by integer arithmetic on the bits; `least` is its least normal exponent.
  let bits = bitcast<u32>(x);
  let size = bits & 0x7fffffffu;
  let drop = 23u - mantissa;
  let normal = (size + (1u << (drop - 1u)) - 1u + ((size >> drop) & 1u)) & ~((1u << drop) - 1u);
  // Below the normal numbers the grid is even.
  let tiny = round_to(size, least - i32(mantissa));
  let finite = select(normal, tiny, size < (u32(least + 127) << 23u));
  let result = select(finite, beyond, finite > bitcast<u32>(most)) | (bits & 0x80000000u);
  // A format without NaN makes it negative zero.
  let none = select(bits, 0x80000000u, beyond < 0x7f800000u);
  return bitcast<f32>(select(result, none, size > 0x7f800000u));
}

fn without_negative_zero(x: f32) -> f32 {
  return select(x, 0.0, (bitcast<u32>(x) & 0x7fffffffu) == 0u);
}

fn round_e8m0(x: f32, least: u32, saturate: bool) -> f32 {
  // The exponent's bits are the result, one more where the fraction is `least` or greater. 2^-127 is subnormal.
  let size = bitcast<u32>(x) & 0x7fffffffu;
  let subnormal = size < 0x00800000u;
  let fraction = select(size, size << 1u, subnormal) & 0x7fffffu;
  let code = (size >> 23u) + select(0u, 1u, fraction >= least);
  let inside = clamp(select(code, 0u, size < 0x00400000u), 0u, select(code, 254u, size > 0x7f000000u));
  let result = select(inside << 23u, 0x00400000u, inside == 0u);
  let beyond = size < 0x00400000u || size > 0x7f000000u;
  let none = size > 0x7f800000u || (beyond && !saturate);
  return bitcast<f32>(select(result, 0x7fc00000u, none));
}
