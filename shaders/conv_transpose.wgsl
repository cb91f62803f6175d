// The least of the first `taps` taps that reaches place o; `step` if none does.
fn first_tap(o: i32, stride: i32, dilation: i32, step: i32, taps: u32) -> i32 {
  var found = step;
  for (var t = i32(taps) - 1; t >= 0; t--) {
    if (o - t * dilation) % stride == 0 { found = t; }
  }
  return found;
}

// Taps that reach the same places lie `step` apart. An invocation computes {{ filters }} output channels at one place.
@compute @workgroup_size({{ workgroup }})
fn main(
  @builtin(local_invocation_id) local: vec3<u32>,
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
) {
  // 0, but not for the compiler: lavapipe 22.3 inlines uniforms that bound loops, and may then compile at every submit.
  let zero = group.z >> 20u;
  let tile = group.x + group.y * groups.x;
  let tiles = (p.out_size + {{ workgroup - 1 }}u) / {{ workgroup }}u;
  let blocks = (p.filters + {{ filters - 1 }}u) / {{ filters }}u;
  let o = (tile % tiles) * {{ workgroup }}u + local.x;
  let f0 = (tile / tiles % blocks) * {{ filters }}u;
  // One of batch * groups.
  let plane = tile / tiles / blocks;
  if plane < p.planes && o < p.out_size {
    let conv_group = plane % p.groups;
    var rest = o;
{% for d in range(rank) | reverse %}
    let o{{ d }} = i32({{ "rest" if loop.last else "(rest % p.output" ~ d ~ ")" }} + p.begin{{ d }});
    rest /= p.output{{ d }};
{% endfor %}
{% for d in range(rank) %}
    let near{{ d }} = min(p.step{{ d }}, p.kernel{{ d }}) + zero;
    let from{{ d }} = first_tap(o{{ d }}, i32(p.stride{{ d }}), i32(p.dilation{{ d }}), i32(p.step{{ d }}), near{{ d }});
    let count{{ d }} = (p.kernel{{ d }} + p.step{{ d }} - 1u) / p.step{{ d }};
{% endfor %}
    // The first term: taps outermost, channels innermost.
    var c = p.first % p.channels;
    var m = p.first / p.channels;
{% for d in range(rank) | reverse %}
    var m{{ d }} = {{ "m" if loop.last else "m % count" ~ d }};
    m /= count{{ d }};
{% endfor %}
{% for f in range(filters) %}
    let w{{ f }} = min(f0 + {{ f }}u, p.filters - 1u) * p.taps;
    var sum{{ f }} = {{ word }}(0);
{% endfor %}
    for (var term = p.first; term < p.last + zero; term++) {
{% for d in range(rank) %}
      let t{{ d }} = from{{ d }} + i32(m{{ d }} * p.step{{ d }});
      let at{{ d }} = o{{ d }} - t{{ d }} * i32(p.dilation{{ d }});
      let i{{ d }} = u32(at{{ d }}) / p.stride{{ d }};
{% endfor %}
      if {% for d in range(rank) %}from{{ d }} < i32(p.step{{ d }}) && t{{ d }} < i32(p.kernel{{ d }}) && at{{ d }} >= 0 && i{{ d }} < p.input{{ d }}{{ " && " if not loop.last }}{% endfor %} {
        let channel = conv_group * p.channels + c;
        let tap = {% for d in range(1, rank) %}({% endfor %}u32(t0){% for d in range(1, rank) %}) * p.kernel{{ d }} + u32(t{{ d }}){% endfor %};
        let place = {% for d in range(1, rank) %}({% endfor %}i0{% for d in range(1, rank) %}) * p.input{{ d }} + i{{ d }}{% endfor %};
        let v = x[(plane * p.channels + c) * p.in_size + place];
        let at = channel * p.filters * p.taps + tap;
{% for f in range(filters) %}
        sum{{ f }} += w[at + w{{ f }}] * v;
{% endfor %}
      }
      c++;
      if c == p.channels {
        c = 0u;
        m{{ rank - 1 }}++;
{% for d in range(1, rank) | reverse %}
        if m{{ d }} == count{{ d }} {
          m{{ d }} = 0u;
          m{{ d - 1 }}++;
        }
{% endfor %}
      }
    }
{% for f in range(filters) %}
    if f0 + {{ f }}u < p.filters {
      let at = (plane * p.filters + f0 + {{ f }}u) * p.out_size + o;
      y[at] = epilogue(sum{{ f }}, at, conv_group * p.filters + f0 + {{ f }}u, o);
    }
{% endfor %}
  }
}
