// Any window over {{ rank }} axes. An invocation computes {{ filters }} output channels at one place.
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
    let origin{{ d }} = {{ "rest" if loop.last else "(rest % p.output" ~ d ~ ")" }} * p.stride{{ d }} - p.begin{{ d }};
    rest /= p.output{{ d }};
{% endfor %}
{% for f in range(filters) %}
    var w{{ f }} = (conv_group * p.filters + min(f0 + {{ f }}u, p.filters - 1u)) * p.channels * p.taps + p.first;
    var c{{ f }} = {{ word }}(0);
{% endfor %}
{% if prologue %}
    var line = plane * p.channels + p.first / p.taps;
{% endif %}
    var base = (plane * p.channels + p.first / p.taps) * p.in_size;
    var tap = p.first % p.taps;
{% for d in range(rank) | reverse %}
    var t{{ d }} = {{ "tap" if loop.last else "tap % p.kernel" ~ d }};
    tap /= p.kernel{{ d }};
{% endfor %}
    for (var term = p.first; term < p.last + zero; term++) {
      // A place before the first wraps to a large number.
{% for d in range(rank) %}
      let i{{ d }} = origin{{ d }} + t{{ d }} * p.dilation{{ d }};
{% endfor %}
      if {% for d in range(rank) %}i{{ d }} < p.input{{ d }}{{ " && " if not loop.last }}{% endfor %} {
        let pixel = {% for d in range(1, rank) %}({% endfor %}i0{% for d in range(1, rank) %}) * p.input{{ d }} + i{{ d }}{% endfor %};
        let v = {{ load("x", "base + pixel", "line", "pixel") }};
{% for f in range(filters) %}
        c{{ f }} += w[w{{ f }}] * v;
{% endfor %}
      }
{% for f in range(filters) %}
      w{{ f }}++;
{% endfor %}
      t{{ rank - 1 }}++;
{% for d in range(rank) | reverse %}
      if t{{ d }} == p.kernel{{ d }} {
        t{{ d }} = 0u;
        {{ "base += p.in_size" if loop.last else "t" ~ (d - 1) ~ "++" }};
{% if prologue and loop.last %}
        line++;
{% endif %}
      }
{% endfor %}
    }
{% for f in range(filters) %}
    if f0 + {{ f }}u < p.filters {
      let row = conv_group * p.filters + f0 + {{ f }}u;
      let at = (plane * p.filters + f0 + {{ f }}u) * p.out_size + o;
      y[at] = epilogue(c{{ f }}, at, row, o);
    }
{% endfor %}
  }
}
