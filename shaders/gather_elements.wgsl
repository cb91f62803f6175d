// Copies elements; the coordinate along one axis comes from the index beside it.
  var i = o;
  var at = checked_index(indices[o], p.length) * p.stride{{ axis }};
{% for d in range(rank) | reverse %}
{% if d != axis %}
  at += (i % p.size{{ d }}) * p.stride{{ d }};
{% endif %}
  i /= p.size{{ d }};
{% endfor %}
  {{ store }} x[at];
