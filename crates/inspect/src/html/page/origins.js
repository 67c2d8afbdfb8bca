/* The parts of a cell's score as packed in the page. */
function packedOrigins(data, layer, head, q, k) {
  const own = data.origins.find(o => o.layer === layer && o.head === head), rows = text => rowsOf(text, data.d_head);
  if (!own) return null;
  own.opened = own.opened || {q: own.q.map(rows), k: own.k.map(rows), bias: own.bias && rowsOf(own.bias, data.tokens.length)};
  return {sources: own.sources, parts: own.opened.q.map(query => own.opened.k.map(key => dot(query[q], key[k]))), bias: own.opened.bias ? own.opened.bias[q][k] : null};
}
/* Why a head looks there: the chosen cell's score, split over the sources of its query and its key. */
function scoreOrigins(data, names, {layer, head, q, k}) {
  const box = $('origins'), packed = packedOrigins(data, layer, head, q, k), own = packed || data.originsOf?.(layer, head, q, k);
  $('origins-section').hidden = !own && data.origins.length === 0;
  if ($('origins-section').hidden) return;
  box.replaceChildren();
  $('origins-title').textContent = `Why does ${quote(names[q])} look at ${quote(names[k])}?`;
  if (!own) return say(box, `This page contains the sources of ${data.origins.map(o => `layer ${o.layer}, head ${o.head}`).join('; ')}. For this cell run \`explain … --layer ${layer} --head ${head} --cell ${q},${k}\`.`, {class: 'note'});
  const {sources, parts} = own, n = sources.length, bias = own.bias ?? 0, total = list => list.reduce((all, x) => all + x, 0);
  const score = total(parts.flat()) + bias;
  const pairs = parts.flatMap((row, a) => row.map((value, b) => ({a, b, value}))).sort((one, other) => Math.abs(other.value) - Math.abs(one.value));
  say(box, n === 1
    ? `In this layer, queries and keys are made only of the ${sources[0]}s’ embeddings: the entire score, ${digits(score)}, depends on the two words alone, not on their positions.`
    : `A query is a sum of one part per source, and so is a key; their score, ${digits(score)}, is the sum over all pairs of sources. The largest part is ${pairs.slice(0, 2).filter(pair => pair.value !== 0).map(pair => `the query’s *${sources[pair.a]}* with the key’s *${sources[pair.b]}* (${digits(pair.value)})`).join(' and ')}. The scales of the norms are held fixed${data.positions === 'rotary' ? '; each part is rotated by the angle of its position' : ''}.`);
  const most = Math.max(1e-12, ...pairs.map(pair => Math.abs(pair.value))), scroll = add(box, 'div', null, {class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'the parts of the score'});
  const tinted = (row, value) => {
    const cell = add(row, 'td', digits(value), {class: value < 0 ? 'part minus' : 'part'});
    cell.style.setProperty('--w', `${(45 * Math.abs(value) / most).toFixed(1)}%`);
  };
  const table = add(scroll, 'table', null, {class: 'parts', id: 'parts'});
  if (n <= 12) {
    const body = header(table, ['query ↓   key →', ...sources, 'sum']);
    parts.forEach((row, a) => {
      const line = add(body, 'tr');
      add(line, 'th', sources[a], {scope: 'row'});
      row.forEach(value => tinted(line, value));
      add(line, 'td', digits(total(row)));
    });
    const line = add(body, 'tr', null, {class: 'total'});
    add(line, 'th', 'sum', {scope: 'row'});
    sources.forEach((_, b) => add(line, 'td', digits(total(parts.map(row => row[b])))));
    add(line, 'td', digits(score - bias));
  } else {
    const body = header(table, ['of the query', 'of the key', 'score']), listed = pairs.slice(0, 14);
    listed.forEach(pair => {
      const line = add(body, 'tr');
      add(line, 'td', sources[pair.a]);
      add(line, 'td', sources[pair.b]);
      tinted(line, pair.value);
    });
    const line = add(body, 'tr', null, {class: 'rest'});
    add(line, 'td', `the other ${pairs.length - listed.length} pairs`);
    add(line, 'td', '');
    add(line, 'td', digits(total(pairs.slice(14).map(pair => pair.value))));
  }
  if (own.bias !== null) say(box, `The learned bias of their distance adds ${digits(bias)}.`);
  say(box, !packed && data.is_rounded ? `*score = ${digits(score)}*, computed here with the rounded weights.` : `*score = ${digits(score)}*, as in step 2 above.`, {id: 'origins-score', 'data-value': score});
}
