{% if step == "votes" or step == "matrix" %}
// The number of the pair of classes i < j.
fn pair(i: u32, j: u32) -> u32 {
  return i * (2u * p.classes - i - 1u) / 2u + j - i - 1u;
}

fn pairs() -> u32 {
  return p.classes * (p.classes - 1u) / 2u;
}
{% endif %}
{% if step == "matrix" %}
// The probability of class i against class j.
fn against(row: u32, i: u32, j: u32) -> f32 {
  let number = pair(min(i, j), max(i, j));
  let value = scores[row * pairs() + number] * table[number] + table[pairs() + number];
  let of_first = clamp(sigmoid(-value), 1e-7, 1.0 - 1e-7);
  return select(1.0 - of_first, of_first, i < j);
}
{% endif %}

@compute @workgroup_size({{ workgroup }})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let o = id.x + id.y * groups.x * {{ workgroup }}u;
  if o < p.count {
{% if step == "distances" %}
    let row = o / p.vectors * p.columns;
    let vector = o % p.vectors * p.columns;
    var sum = 0.0;
    for (var c = 0u; c < p.columns; c++) {
      let difference = x[row + c] - vectors[vector + c];
      sum += difference * difference;
    }
    y[o] = sum;
{% elif step == "votes" %}
    var most = 0u;
    var best = 0u;
    for (var own = 0u; own < p.classes; own++) {
      var votes = 0u;
      for (var other = 0u; other < p.classes; other++) {
        if other != own {
          let positive = scores[o * pairs() + pair(min(own, other), max(own, other))] > 0.0;
          votes += select(0u, 1u, positive == (own < other));
        }
      }
      best = select(best, own, votes > most);
      most = max(most, votes);
    }
    places[o] = i32(best);
{% elif step == "matrix" %}
    let row = o / (p.classes * p.classes);
    let own = o / p.classes % p.classes;
    let other = o % p.classes;
    var value = 0.0;
    if own == other {
      for (var j = 0u; j < p.classes; j++) {
        if j != own {
          let lost = against(row, j, own);
          value += lost * lost;
        }
      }
    } else {
      value = -against(row, other, own) * against(row, own, other);
    }
    q[o] = value;
{% else %}
    // Algorithm 2 of Wu, Lin and Weng, "Probability estimates for multi-class classification by pairwise coupling", 2004.
    let at = o * p.classes;
    let matrix = at * p.classes;
{% if first %}
    for (var t = 0u; t < p.classes; t++) {
      y[at + t] = 1.0 / f32(p.classes);
    }
{% endif %}
    for (var round = 0u; round < p.rounds; round++) {
      var whole = 0.0;
      for (var t = 0u; t < p.classes; t++) {
        var sum = 0.0;
        for (var j = 0u; j < p.classes; j++) {
          sum += q[matrix + t * p.classes + j] * y[at + j];
        }
        products[at + t] = sum;
        whole += y[at + t] * sum;
      }
      var error = 0.0;
      for (var t = 0u; t < p.classes; t++) {
        error = max(error, abs(products[at + t] - whole));
      }
      if error < 0.005 / f32(p.classes) {
        break;
      }
      for (var t = 0u; t < p.classes; t++) {
        let own = q[matrix + t * p.classes + t];
        let product = products[at + t];
        let change = (whole - product) / own;
        let norm = 1.0 + change;
        y[at + t] = y[at + t] + change;
        whole = (whole + change * (change * own + 2.0 * product)) / (norm * norm);
        for (var j = 0u; j < p.classes; j++) {
          products[at + j] = (products[at + j] + change * q[matrix + t * p.classes + j]) / norm;
          y[at + j] = y[at + j] / norm;
        }
      }
    }
{% endif %}
  }
}
