// An element, from its mirrored place in time where that is within the sequence's length.
  let place = o / p.inner;
  var row = place / p.columns;
  var column = place % p.columns;
{% if time_first %}
  let length = u32(clamp(lengths[column], 0, i32(p.rows)));
  if row < length { row = length - 1u - row; }
{% else %}
  let length = u32(clamp(lengths[row], 0, i32(p.columns)));
  if column < length { column = length - 1u - column; }
{% endif %}
  {{ store }} x[(row * p.columns + column) * p.inner + o % p.inner];
