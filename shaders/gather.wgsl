// Copies the slices that tuples of indices name.
  let row = o / p.inner;
  var at = row / p.entries;
  let first = {{ "row" if batched else "(row % p.entries)" }} * {{ tuple }}u;
{% for j in range(tuple) %}
  at = at * p.size{{ j }} + checked_index(indices[first + {{ j }}u], p.size{{ j }});
{% endfor %}
{% if digits %}
  let element = o % p.inner;
  var place = 0u;
{% for of_slice in digits %}
{% set digit = "p.digit%s_" | format(loop.index0) %}
  place += {{ "at" if of_slice else "element" }} / {{ digit }}step % {{ digit }}size * {{ digit }}stride;
{% endfor %}
  {{ store }} x[place];
{% else %}
  {{ store }} x[at * p.inner + o % p.inner];
{% endif %}
