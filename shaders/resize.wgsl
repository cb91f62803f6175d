  var i = o;
  var at = 0u;
  var inside = true;
{% for d in range(resized | length) | reverse %}
{% if not resized[d] %}
  at += (i % p.size{{ d }}) * p.stride{{ d }};
{% elif weighted %}
  let row{{ d }} = p.base{{ d }} + (i % p.size{{ d }}) * p.row{{ d }};
  let end{{ d }} = row{{ d }} + 1u + {{ step }}u * table[row{{ d }}];
{% if crop %}
  inside = inside && table[row{{ d }}] != 0u;
{% endif %}
{% else %}
  let source{{ d }} = table[p.base{{ d }} + i % p.size{{ d }}];
  at += source{{ d }} * p.stride{{ d }};
{% if crop %}
  inside = inside && source{{ d }} != 0xffffffffu;
{% endif %}
{% endif %}
  i /= p.size{{ d }};
{% endfor %}
  var result = {{ "f64(bitcast<f32>(p.extrapolation))" if word == "f64" else "bitcast<" ~ word ~ ">(p.extrapolation)" }};
  if inside {
{% if weighted %}
    result = 0.0;
    let w = {{ word }}(1);
{% for d in range(resized | length) if resized[d] %}
    for (var tap{{ d }} = row{{ d }} + 1u; tap{{ d }} < end{{ d }}; tap{{ d }} += {{ step }}u) {
    let at{{ d }} = {{ "at" if loop.first else "at_before" }} + table[tap{{ d }}] * p.stride{{ d }};
    let w{{ d }} = {{ "w" if loop.first else "w_before" }} * {{ "f64_of_words(table[tap" ~ d ~ " + 1u], table[tap" ~ d ~ " + 2u])" if word == "f64" else "bitcast<f32>(table[tap" ~ d ~ " + 1u])" }};
    {
    let at_before = at{{ d }};
    let w_before = w{{ d }};
{% endfor %}
    result += {{ "w_before * " if true in resized }}{{ word }}(x[{{ "at_before" if true in resized else "at" }}]);
{% for d in range(resized | length) if resized[d] %}
    }
    }
{% endfor %}
{% else %}
    result = x[at];
{% endif %}
  }
  {{ store }} {{ result }};
