// Copies the rows that indices name.
  let row = checked_index(indices[o / p.inner], p.rows);
  let column = o % p.inner;
  var at = 0u;
{% for of_rows in of_rows %}
  at += {{ "row" if of_rows else "column" }} / p.step{{ loop.index0 }} % p.size{{ loop.index0 }} * p.stride{{ loop.index0 }};
{% endfor %}
  {{ store }} x[at];
