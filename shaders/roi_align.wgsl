// One bin of one region and channel per invocation.
struct Side {
  start: {{ word }},
  bin: {{ word }},
  samples: u32,
}

fn side(start: {{ word }}, end: {{ word }}, bins: u32) -> Side {
  let scale = {{ word }}(bitcast<f32>(p.scale));
{% if half_pixel %}
  let first = start * scale - 0.5;
  let length = (end * scale - 0.5) - first;
{% else %}
  let first = start * scale;
  let length = max(end * scale - first, 1.0);
{% endif %}
  let bin = length / {{ word }}(bins);
  let own = u32(clamp(ceil(bin), 0.0, {{ word }}(p.most)));
  return Side(first, bin, select(own, p.samples, p.samples > 0u));
}

@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  if o < p.count {
    let column = o % p.columns;
    let row = o / p.columns % p.rows;
    let channel = o / (p.columns * p.rows) % p.channels;
    let region = o / (p.columns * p.rows * p.channels);
    let rows = side(regions[region * 4u + 1u], regions[region * 4u + 3u], p.rows);
    let columns = side(regions[region * 4u], regions[region * 4u + 2u], p.columns);
    let plane = (checked_index(batch[region], p.batches) * p.channels + channel) * p.height;
    var result = {{ word }}(0);
    for (var i = 0u; i < rows.samples; i++) {
      let v = rows.start + ({{ word }}(row) + ({{ word }}(i) + 0.5) / {{ word }}(rows.samples)) * rows.bin;
      let inside_v = v >= -1.0 && v <= {{ word }}(p.height);
      let y0 = u32(clamp(v, 0.0, {{ word }}(p.height) - 1.0));
      let y1 = min(y0 + 1u, p.height - 1u);
      let fy = select(clamp(v, 0.0, {{ word }}(p.height)) - {{ word }}(y0), 0.0, y1 == y0);
      for (var j = 0u; j < columns.samples; j++) {
        let u = columns.start + ({{ word }}(column) + ({{ word }}(j) + 0.5) / {{ word }}(columns.samples)) * columns.bin;
        let inside = inside_v && u >= -1.0 && u <= {{ word }}(p.width);
        let x0 = u32(clamp(u, 0.0, {{ word }}(p.width) - 1.0));
        let x1 = min(x0 + 1u, p.width - 1u);
        let fx = select(clamp(u, 0.0, {{ word }}(p.width)) - {{ word }}(x0), 0.0, x1 == x0);
        let a = (1.0 - fy) * (1.0 - fx) * x[(plane + y0) * p.width + x0];
        let b = (1.0 - fy) * fx * x[(plane + y0) * p.width + x1];
        let c = fy * (1.0 - fx) * x[(plane + y1) * p.width + x0];
        let d = fy * fx * x[(plane + y1) * p.width + x1];
{% if max %}
        let sample = select(0.0, max(max(a, b), max(c, d)), inside);
        result = select(max(result, sample), sample, i + j == 0u);
{% else %}
        result += select(0.0, a + b + c + d, inside);
{% endif %}
      }
    }
{% if not max %}
    result /= {{ word }}(max(rows.samples * columns.samples, 1u));
{% endif %}
    y[o] = finish(result, o, 0u, 0u);
  }
}
