// Copies the slices that tuples of indices name.
  let row = o / p.inner;
  var at = row / p.entries;
  let first = {{ "row" if batched else "(row % p.entries)" }} * {{ tuple }}u;
{% for j in range(tuple) %}
  at = at * p.size{{ j }} + checked_index(indices[first + {{ j }}u], p.size{{ j }});
{% endfor %}
  {{ store }} x[at * p.inner + o % p.inner];
