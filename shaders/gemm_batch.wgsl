// Where the matrices of a batch begin in a and b.
fn batch_offsets(batch: u32) -> vec2<u32> {
  var rest = batch;
  var at = vec2<u32>();
{% for d in range(batch) | reverse %}
{% if loop.last %}
  at += rest * vec2<u32>(p.a_batch{{ d }}, p.b_batch{{ d }});
{% else %}
  at += rest % p.size{{ d }} * vec2<u32>(p.a_batch{{ d }}, p.b_batch{{ d }});
  rest /= p.size{{ d }};
{% endif %}
{% endfor %}
  return at;
}

