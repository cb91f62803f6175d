// The source's element for each element of the padded result; dimensions from the innermost out.
  var i = o;
  var at = 0;
  var inside = true;
{% for d in range(rank) | reverse %}
  {
    let size = i32(p.size{{ d }});
    var j = i32({% if loop.last %}i{% else %}i % p.out{{ d }}{% endif %}) - bitcast<i32>(p.begin{{ d }});
{% if not loop.last %}
    i /= p.out{{ d }};
{% endif %}
{% if mode == "constant" %}
    inside = inside && j >= 0 && j < size;
{% elif mode == "edge" %}
    j = clamp(j, 0, size - 1);
{% elif mode == "wrap" %}
    j = ((j % size) + size) % size;
{% else %}
    // Mirrored on the first and last element, back and forth.
    let period = max(2 * size - 2, 1);
    j = ((j % period) + period) % period;
    j = select(j, period - j, j >= size);
{% endif %}
    at += j * i32(p.stride{{ d }});
  }
{% endfor %}
{% if mode == "constant" %}
  var value = {% if bound %}v[0]{% else %}p.value{% endif %};
  if inside {
    value = x[at];
  }
  {{ store }} value;
{% else %}
  {{ store }} x[at];
{% endif %}
