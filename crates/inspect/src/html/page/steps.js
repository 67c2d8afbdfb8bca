/* Steps 1 to 3: how one word attends to another in one head. */
function card(place, number, title) {
  const box = add(place, 'li', null, {id: `step-${number}`}), head = add(box, 'h3');
  add(head, 'b', `Step ${number}`);
  head.append(title);
  return box;
}
/* The input of Q, K and V: x, or its norm. */
const readBy = part => part.has('norm(x)') ? 'norm(x)' : 'x';

function cellSteps(place, data, names, state, weights, vectors) {
  place.replaceChildren();
  const {layer, q, k} = state, part = opened(data.way.layers[layer]), both = [...new Set([q, k])];
  inputStep(card(place, 1, 'Get Embeddings'), data, names, state, part, both);
  const box = card(place, 2, 'Compute Attention');
  if (vectors) scoreStep(box, data, names, state, part, vectors);
  else say(box, `The page omits Q, K and V of this head to stay small; run with \`--layer ${layer} --head ${state.head}\` to include them. These are the head's attention weights:`);
  const row = softmaxStep(box, data, names, state, weights, vectors);
  contextStep(card(place, 3, 'Compute Weighted Sum (Context Vector)'), data, names, state, row, vectors);
}

/* Step 1: what the layer reads. */
function inputStep(box, data, names, {layer, q}, part, both) {
  const x = part.rows('x'), n = names.length, width = part.width('x');
  if (layer === 0) {
    const parts = opened(data.way.embedding), of = parts.has('sum') ? parts.formula('sum') : parts.formula('x');
    const what = {token: 'the word’s own row of the embedding table', position: 'the row of its position in the text', type: 'the row of its segment'};
    say(box, `Each word comes in as a vector of ${width} numbers, its embedding *x*${of.includes(' + ') ? ': ' + of.split(' + ').map(name => `\`${name}\`, ${what[name]}`).join('; ') : ', the word’s own row of the embedding table'}.`);
    if (of.includes(' + ')) {
      of.split(' + ').forEach(name => stepTo(box, parts, name, q, {label: `${name} of ${quote(names[q])}`}));
      if (parts.has('sum')) stepTo(box, parts, 'sum', q, {label: `sum of ${quote(names[q])}`});
      formula(box, `x = ${parts.formula('x')}`);
      const numbers = of.split(' + ').map(name => parts.rows(name)), total = parts.rows(parts.has('sum') ? 'sum' : 'x');
      if (numbers.every(Boolean) && total) sum(box, `${parts.has('sum') ? 'sum' : 'x'}${small(1)}`, numbers.map(rows => ({factors: [rows[q][0]]})), total[q][0]);
      if (parts.has('sum')) oneNorm(box, parts, 'x', 'sum', '', q);
    } else if (of !== 'token') {
      formula(box, `x = ${of}`);
    }
  } else {
    say(box, `Layer ${layer} does not read embeddings but *x*, the output \`z\` of layer ${layer - 1}: a vector of ${width} numbers for each word, in which that layer has already mixed words.`);
  }
  (n <= 8 ? names.map((_, t) => t) : both).forEach(t => vector(box, `x of ${quote(names[t])}`, x[t], {of: width}));
  if (!part.has('norm(x)')) return;
  say(box, 'This model normalizes every vector before attention reads it:');
  formula(box, `norm(x) = ${part.formula('norm(x)')}`);
  const normed = part.rows('norm(x)');
  if (!normed) return;
  both.forEach(t => vector(box, `norm(x) of ${quote(names[t])}`, normed[t], {of: width}));
  oneNorm(box, part, 'norm(x)', 'x', '₁', q);
}

/* Step 2, first half: query, key and value, and the score. */
function scoreStep(box, data, names, {layer, head, q, k}, part, vectors) {
  const read = readBy(part), d = data.d_head, group = Math.floor(head / (data.n_head / data.n_kv_head));
  const turned = part.has('Q₀');
  say(box, `Three learned matrices turn \`${read}\` into a query *Q* (what ${quote(names[q])} is looking for), a key *K* (what ${quote(names[k])} offers) and a value *V* (what ${quote(names[k])} will contribute if chosen)${data.n_head > 1 ? `; this head has ${d} of their elements` : ''}${data.n_kv_head < data.n_head ? ', and shares K and V with others: ' + many(data.n_head / data.n_kv_head, 'head') + ' to a pair' : ''}.`);
  const made = (name, of, row, label) => {
    formula(box, `${name} = ${part.formula(name)}`);
    vector(box, `${label || name} of ${quote(names[of])}`, row);
  };
  if (part.has('Qₚ')) formula(box, `Qₚ = ${part.formula('Qₚ')}`);
  made(turned ? 'Q₀' : 'Q', q, turned ? vectors.q0[q] : vectors.q[q]);
  const first = turned ? 'Q₀' : 'Q', value = turned ? vectors.q0[q][0] : vectors.q[q][0];
  const shown = !part.has('Qₚ') && oneProduct(box, part, first, `${first}${small(1)}`, 'Wq', 'bq', read, q, head * d, value);
  made(turned ? 'K₀' : 'K', k, turned ? vectors.k0[k] : vectors.k[k]);
  made('V', k, vectors.v[k]);
  if (shown) say(box, `K and V are computed in the same way: from rows ${group * d + 1} to ${(group + 1) * d} of Wk and Wv.`, {class: 'note'});
  else say(box, part.has('Qₚ') ? 'Queries and keys of every word have their own norm.' : 'The matrices are too large for this page; only their results are shown.', {class: 'note'});
  if (turned) rotation(box, names, part, vectors, q, k, d);
  const product = dot(vectors.q[q], vectors.k[k]);
  say(box, `How well does the key fit the query? Their product says:`);
  sum(box, 'Q · K', dotTerms(vectors.q[q], vectors.k[k], product), product, {id: 'product'});
  const root = Math.abs(data.scale * Math.sqrt(d) - 1) < 1e-6;
  say(box, root ? `The scale 1/√${d} = ${fixed(data.scale)} keeps the scores of long vectors from growing:` : data.scale === 1 ? 'This model does not scale the product:' : `This model's scale is ${fixed(data.scale)}:`);
  sum(box, 'score', [{factors: [product, data.scale]}], product * data.scale, {id: 'score'});
}
/* Rotary positions: pairs of elements rotated by the word's position. */
function rotation(box, names, part, vectors, q, k, d) {
  const cos = part.rows('cos'), sin = part.rows('sin'), half = part.width('cos') || d / 2;
  say(box, `So that Q · K depends on the distance of two words, Q and K are rotated by the word’s position in the text: elements ${1} and ${half + 1} are a pair${half > 1 ? `, ${2} and ${half + 2} the next` : ''}, each pair rotated by its own angle times the position${2 * half < d ? `; elements from ${2 * half + 1} on are unchanged` : ''}.`);
  [['Q', vectors.q0, vectors.q, q], ['K', vectors.k0, vectors.k, k]].forEach(([name, before, after, t]) => {
    formula(box, `${name} = ${part.formula(name)}, position ${t}`);
    vector(box, `${name} of ${quote(names[t])}`, after[t]);
    if (cos && cos[t].length === half) sum(box, `${name}₁`, [{factors: [before[t][0], cos[t][0]]}, {factors: [before[t][half], -sin[t][0]], note: `${name}₀’s element ${half + 1}, times −sin`}], after[t][0]);
  });
}

/* What the mask allows, and why. */
function maskSays(data, names, q, mask) {
  const seen = Array.from(mask[q], (cell, j) => cell === '1' ? j : -1).filter(j => j >= 0), n = names.length;
  if (data.set && data.set.hidden.size) return `The mask lets ${quote(names[q])} look at ${many(seen.length, 'word')} of ${n}: you have hidden ${[...data.set.hidden].map(j => quote(names[j])).join(', ')}, from all others.`;
  if (seen.length === n && !mask.some(row => row.includes('0'))) return `Nothing is masked: ${quote(names[q])} may look at all ${many(n, 'word')}.`;
  if (data.causal && seen.length === q + 1) return `The mask lets ${quote(names[q])} look at itself${q > 0 ? ` and the ${many(q, 'word')} before it` : ''}${seen.length < n ? '; what comes later gets weight 0' : ''}.`;
  return `The mask lets ${quote(names[q])} look at ${many(seen.length, 'word')} of ${n}: this layer has a window${data.causal ? ', and a causal mask' : ''}; the rest gets weight 0.`;
}

/* Step 2, second half: mask and softmax; the weights. */
function softmaxStep(box, data, names, {layer, head, q, k}, weights, vectors) {
  const mask = data.masks[data.kinds[layer]], n = names.length, row = weights[q];
  say(box, maskSays(data, names, q, mask));
  const scores = vectors && Array.from(mask[q], (cell, j) => cell === '1' ? dot(vectors.q[q], vectors.k[j]) * data.scale : null);
  const soft = scores && softmax(scores), exact = soft ? soft.weights : row, large = soft && soft.greatest > 30;
  const power = j => large ? soft.powers[j] : Math.exp(scores[j]), named = large ? `exp(score − ${digits(soft.greatest)})` : 'exp(score)';
  say(box, `*Softmax over the row* turns scores into weights: weight = ${named}, divided by the sum of all of them.`);
  const table = add(box, 'table', null, {class: 'bars'}), body = header(table, soft ? ['word', 'score', named, 'weight α', ''] : ['word', 'weight α', '']);
  const allowed = exact.map((_, j) => j).filter(j => mask[q][j] === '1'), listed = shortlist(allowed, exact, k, n);
  const line = (name, score, e, weight, options) => {
    const tr = add(body, 'tr', null, options);
    add(tr, 'td', name);
    if (soft) { add(tr, 'td', score === null ? '' : digits(score)); add(tr, 'td', sized(e)); }
    add(tr, 'td', digits(weight));
    bar(tr, options.class === 'total' ? 0 : weight);
  };
  listed.forEach(j => line(names[j], soft && scores[j], soft && power(j), exact[j], j === k ? {class: 'result'} : {}));
  const rest = allowed.filter(j => !listed.includes(j)), total = soft && allowed.reduce((all, j) => all + power(j), 0);
  const of = value => rest.reduce((all, j) => all + value(j), 0);
  if (rest.length) line(`the other ${rest.length} together`, null, soft && of(power), of(j => exact[j]), {class: 'rest'});
  if (soft) line('sum', null, total, allowed.reduce((all, j) => all + exact[j], 0), {class: 'total'});
  if (soft) sum(box, `weight of ${quote(names[k])}`, [{factors: [power(k), 1 / total], text: `${sized(power(k))} / ${sized(total)}`}], exact[k], {id: 'weight'});
  else sum(box, `weight of ${quote(names[k])}`, [{factors: [exact[k]]}], exact[k], {id: 'weight'});
  if (!data.set || ![...data.set.edits.keys()].some(key => key.startsWith(`${layer}.${head}.${q}.`))) return exact.map((weight, j) => mask[q][j] === '1' ? weight : 0);
  say(box, `*Set by hand:* these are the model’s weights; you have set others in this row, which are used from here on: ${allowed.map(j => `${quote(names[j])} ${digits(row[j])}`).join(', ')}.`, {class: 'turn'});
  return row;
}
/* Of many words those with the largest weights, in the text's order, and the chosen word. */
function shortlist(allowed, weights, k, n) {
  if (allowed.length <= 12) return allowed;
  const top = [...allowed].sort((a, b) => weights[b] - weights[a]).slice(0, 9);
  return allowed.filter(j => top.includes(j) || j === k);
}

/* Step 3: the weighted sum. */
function contextStep(box, data, names, {layer, head, q, k}, weights, vectors) {
  if (!vectors) return say(box, `context = the sum of every word's weight × V.`);
  say(box, `Each word contributes its V, as much of it as its weight says: context = Σ α × V.`);
  const allowed = weights.map((_, j) => j).filter(j => data.masks[data.kinds[layer]][q][j] === '1');
  const listed = shortlist(allowed, weights, k, names.length), rest = allowed.filter(j => !listed.includes(j));
  const add_up = of => vectors.v[0].map((_, c) => of.reduce((all, j) => all + weights[j] * vectors.v[j][c], 0));
  const most = Math.max(1e-12, ...listed.flatMap(j => vectors.v[j].map(x => Math.abs(x * weights[j])))), context = add_up(allowed);
  listed.forEach(j => vector(box, `${digits(weights[j])} × V of ${quote(names[j])}`, vectors.v[j].map(x => x * weights[j]), {most}));
  if (rest.length) vector(box, `the other ${rest.length} together`, add_up(rest), {most});
  const terms = listed.map(j => ({factors: [weights[j], vectors.v[j][0]]}));
  if (rest.length) terms.push({factors: [add_up(rest)[0]], note: `the other ${rest.length} together`});
  say(box, `Added up they are *the context vector of ${quote(names[q])}*${data.n_head > 1 ? ' in this head' : ''}: a summary of what is relevant here, enriched mostly by ${quote(names[weights.indexOf(Math.max(...weights))])}.`);
  vector(box, 'context', context, {most, id: 'context'});
  sum(box, 'context₁', terms, context[0]);
}
