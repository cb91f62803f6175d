// Halves round away from zero.
fn round_half_away(x: {{ word }}) -> {{ word }} {
  let whole = trunc(x);
  return whole + {{ word }}(select(0.0, select(1.0, -1.0, x < 0.0), abs(x - whole) >= 0.5));
}

// The elements `x..y` of an axis of `size` that belong to bin `at`.
fn bin(start: {{ word }}, end: {{ word }}, at: u32, bins: u32, size: u32) -> vec2<u32> {
  let scale = {{ word }}(bitcast<f32>(p.scale));
  let first = round_half_away(start * scale);
  let length = max(round_half_away(end * scale) - first + 1.0, 1.0);
  let step = length / {{ word }}(bins);
  let from_to = vec2(floor({{ word }}(at) * step), ceil({{ word }}(at + 1u) * step)) + first;
  return vec2<u32>(clamp(from_to, vec2(0.0), vec2({{ word }}(size))));
}

@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  if o < p.count {
    let channel = o / (p.columns * p.rows) % p.channels;
    let region = o / (p.columns * p.rows * p.channels) * 5u;
    let rows = bin(regions[region + 2u], regions[region + 4u], o / p.columns % p.rows, p.rows, p.height);
    let columns = bin(regions[region + 1u], regions[region + 3u], o % p.columns, p.columns, p.width);
    let batch = checked_index({{ to_i32 }}(regions[region]), p.batches);
    let plane = (batch * p.channels + channel) * p.height;
    var result = {{ word }}(0);
    for (var i = rows.x; i < rows.y; i++) {
      for (var j = columns.x; j < columns.y; j++) {
        let value = x[(plane + i) * p.width + j];
        result = select({{ max }}(result, value), value, i == rows.x && j == columns.x);
      }
    }
    y[o] = finish(result, o, 0u, 0u);
  }
}
