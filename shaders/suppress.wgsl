var<workgroup> corners: array<vec4<f32>, {{ lanes }}>;
var<workgroup> indices: array<u32, {{ lanes }}>;
// For each candidate, one bit for each earlier one of the block that overlaps it too much.
var<workgroup> overlaps: array<vec2<u32>, {{ lanes }}>;
var<workgroup> candidates: array<u32, {{ lanes }}>;
var<workgroup> found: u32;

// The least and the greatest coordinates of a box.
fn corners_of(box: u32) -> vec4<f32> {
  let a = vec2<f32>(boxes[box * 4u], boxes[box * 4u + 1u]);
  let b = vec2<f32>(boxes[box * 4u + 2u], boxes[box * 4u + 3u]);
{% if center %}
  return vec4<f32>(a - b * 0.5, a + b * 0.5);
{% else %}
  return vec4<f32>(select(a, b, a >= b), select(b, a, a >= b));
{% endif %}
}

fn overlap(a: vec4<f32>, b: vec4<f32>) -> bool {
  let low = select(a.xy, b.xy, a.xy < b.xy);
  let high = select(a.zw, b.zw, b.zw < a.zw);
  let shared_sides = high - low;
  let sides_a = a.zw - a.xy;
  let sides_b = b.zw - b.xy;
  let both = shared_sides.x * shared_sides.y;
  let area_a = sides_a.x * sides_a.y;
  let area_b = sides_b.x * sides_b.y;
  let either = area_a + area_b - both;
  let none = any(high <= low) || both <= 0.0 || area_a <= 0.0 || area_b <= 0.0 || either <= 0.0;
  if none || is_nan(either) {
    return false;
  }
  return divide(both, either) > {{ "iou[0]" if iou else "0.0" }};
}

fn is_candidate(score: f32) -> bool {
  return {{ "score > least[0] && !is_nan(score)" if least else "true" }};
}

@compute @workgroup_size({{ lanes }})
fn main(
  @builtin(local_invocation_index) lane: u32,
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
) {
  let row = group.x + group.y * groups.x;
  let exists = row < p.rows;
  let first_box = row / p.classes * p.boxes;
  if lane == 0u {
    found = 0u;
    if exists && p.first > 0u {
      found = counts[row];
    }
{% if iou %}
    if !(iou[0] >= 0.0 && iou[0] <= 1.0) || is_nan(iou[0]) {
      report(bitcast<u32>(iou[0]));
    }
{% endif %}
  }
  workgroupBarrier();
  for (var block = p.first; block < p.last; block += 1u) {
    let place = block * {{ lanes }}u + lane;
    var own = vec4<f32>();
    var candidate = false;
    if exists && place < p.boxes && found < p.limit {
      let index = order[row * p.boxes + place];
      indices[lane] = index;
      candidate = is_candidate(scores[row * p.boxes + index]);
      if candidate {
        own = corners_of(first_box + index);
        for (var k = 0u; k < found && candidate; k += 1u) {
          candidate = !overlap(own, corners_of(first_box + u32(kept[row * p.limit + k])));
        }
      }
    }
    corners[lane] = own;
    candidates[lane] = u32(candidate);
    workgroupBarrier();
    var earlier = vec2<u32>();
    if candidate {
      for (var j = 0u; j < lane; j += 1u) {
        let bit = u32(candidates[j] != 0u && overlap(own, corners[j])) << (j % 32u);
        earlier |= select(vec2<u32>(0u, bit), vec2<u32>(bit, 0u), j < 32u);
      }
    }
    overlaps[lane] = earlier;
    workgroupBarrier();
    // One invocation goes through the block, the best candidate first.
    if lane == 0u && exists {
      var chosen = vec2<u32>();
      var count = found;
      for (var j = 0u; j < {{ lanes }}u; j += 1u) {
        if candidates[j] != 0u && all((overlaps[j] & chosen) == vec2<u32>()) && count < p.limit {
          let bit = 1u << (j % 32u);
          chosen |= select(vec2<u32>(0u, bit), vec2<u32>(bit, 0u), j < 32u);
          kept[row * p.limit + count] = i32(indices[j]);
          count += 1u;
        }
      }
      found = count;
    }
    storageBarrier();
    workgroupBarrier();
  }
  if lane == 0u && exists {
    counts[row] = found;
  }
}
