// One word of the update per invocation.
@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  if o < p.count {
    let row = o / p.inner;
    let prefix = row / p.entries;
    var at = i32(row % p.entries){{ " + first[prefix / p.heads]" if indexed }};
{% if circular %}
    at = rem_floor_i32(at, i32(p.length));
{% else %}
    at = select(at, at + i32(p.length), at < 0);
{% endif %}
    if at >= 0 && at < i32(p.length) {
      y[(prefix * p.length + u32(at)) * p.inner + o % p.inner] = x[o];
    }
  }
}
