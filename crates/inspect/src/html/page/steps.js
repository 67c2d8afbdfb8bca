/* The seed's six steps with this model's numbers: 1 to 3 for the chosen cell, 4 to 6 for the asked word. */
const quote = name => `“${name.replace(/^·/, '')}”`;
function card(place, number, title) {
  const box = add(place, 'li', null, {id: `step-${number}`}), head = add(box, 'h3');
  add(head, 'b', `Step ${number}`);
  head.append(title);
  return box;
}
function result(parent, before, id, number, after = '') {
  const line = add(parent, 'p', before, {class: 'formula'});
  add(line, 'span', fixed(number, 6), {class: 'result', id, 'data-value': number});
  line.append(after);
}
/* The first places of a sum of products, written out. */
function products(a, b) {
  const first = a.slice(0, 3).map((x, i) => `${fixed(x, 3)} × ${fixed(b[i], 3)}`).join(' + ').replace(/\+ −/g, '− ').replace(/× −([\d.]+)/g, '× (−$1)');
  return a.length > 3 ? `${first} + … (${a.length} products)` : first;
}

/* Steps 1 to 3: how `q` looks at `k` in one head. */
function cellSteps(place, data, names, {layer, head, q, k}, weights, vectors) {
  place.replaceChildren();
  const n = names.length, inputs = data.inputs[layer], row = weights[q];
  let box = card(place, 1, 'Get Embeddings');
  say(box, layer === 0
    ? `Each word comes in as a vector of ${data.d_input} numbers, its embedding${data.positions === 'learned' ? ' (with its place in the text added)' : ''}.`
    : `Layer ${layer} reads what the layers before it have made of the embeddings: a vector of ${data.d_input} numbers for each word.`);
  (n <= 8 ? names.map((_, t) => t) : [...new Set([q, k])]).forEach(t => vector(box, names[t], inputs[t], {of: data.d_input}));

  box = card(place, 2, 'Compute Attention');
  if (!vectors) {
    say(box, `The page leaves out Q, K and V of this head to stay small; make it with \`--layer ${layer} --head ${head}\` for them. These are the head's attention weights:`);
  } else {
    say(box, `Three learned matrices turn the vectors into *Q = Wq @ embedding* (query: what ${quote(names[q])} is looking for), *K = Wk @ embedding* (key: what ${quote(names[k])} offers) and *V = Wv @ embedding* (value: what ${quote(names[k])} will contribute if chosen)${data.positions === 'rotary' ? '; Q and K are then turned by their word’s place in the text' : ''}.`);
    vector(box, `Q of ${quote(names[q])}`, vectors.q[q]);
    vector(box, `K of ${quote(names[k])}`, vectors.k[k]);
    vector(box, `V of ${quote(names[k])}`, vectors.v[k]);
    const product = dot(vectors.q[q], vectors.k[k]);
    say(box, `How well does the key fit the query? Their product says:`);
    result(box, `Q · K = ${products(vectors.q[q], vectors.k[k])} = `, 'product', product);
    const root = Math.abs(data.scale * Math.sqrt(data.d_head) - 1) < 1e-6;
    say(box, root ? `The scale 1/√${data.d_head} = ${fixed(data.scale)} keeps the scores of long vectors from growing:` : `This model's scale is ${fixed(data.scale)}:`);
    result(box, `score = ${fixed(product, 6)} × ${fixed(data.scale, 6)} = `, 'score', product * data.scale);
  }
  const mask = data.masks[data.kinds[layer]];
  const seen = Array.from(mask[q]).filter(cell => cell === '1').length;
  say(box, seen === n ? `The mask lets ${quote(names[q])} look at all ${n} words.` : `The mask lets ${quote(names[q])} look at ${seen} of the ${n} words: ${data.causal ? 'itself and those before it' : 'the others are out of its window'}; the rest get weight 0.`);
  const scores = vectors && Array.from(mask[q], (cell, j) => cell === '1' ? dot(vectors.q[q], vectors.k[j]) * data.scale : null);
  const soft = scores && softmax(scores), exact = soft ? soft.weights : row;
  say(box, '*Softmax over the row* turns scores into weights: weight = exp(score) divided by the sum of all exp(score).');
  const table = add(box, 'table', null, {class: 'bars'}), body = header(table, soft ? ['word', 'score', 'exp(score)', 'attention weight α', ''] : ['word', 'attention weight α', '']);
  const listed = exact.map((_, j) => j).filter(j => mask[q][j] === '1' && (n <= 12 || j === k || exact[j] >= 0.02));
  listed.forEach(j => {
    const line = add(body, 'tr', null, j === k ? {class: 'result'} : {});
    add(line, 'td', names[j]);
    if (soft) { add(line, 'td', fixed(scores[j])); const power = Math.exp(scores[j]); add(line, 'td', power > 1e6 || power < 1e-4 ? power.toExponential(3) : fixed(power)); }
    add(line, 'td', fixed(exact[j]));
    bar(line, exact[j]);
  });
  if (listed.length < seen) say(box, `${many(seen - listed.length, 'word')} with a weight below 0.02 ${seen - listed.length === 1 ? 'is' : 'are'} not listed.`, {class: 'note'});
  result(box, `weight of ${quote(names[k])} = `, 'weight', exact[k]);

  box = card(place, 3, 'Compute Weighted Sum (Context Vector)');
  if (!vectors) return say(box, `context = the sum of every word's weight × V.`);
  say(box, `Each word contributes its V, as much of it as its weight says:`);
  const most = Math.max(...vectors.v.flat().map(Math.abs));
  listed.filter(j => n <= 8 || j === k || exact[j] >= 0.1).forEach(j => vector(box, `${fixed(exact[j], 3)} × V of ${quote(names[j])}`, vectors.v[j].map(x => x * exact[j]), {most}));
  const context = vectors.v[0].map((_, c) => exact.reduce((sum, w, j) => sum + w * vectors.v[j][c], 0));
  say(box, `Added up they are *the context vector of ${quote(names[q])}*: the model's summary of what is relevant here, enriched mostly by ${quote(names[exact.indexOf(Math.max(...exact))])}.`);
  vector(box, 'context', context, {most, id: 'context'});
}

/* Steps 4 to 6: from the asked word's vector to the prediction, and back. */
function predictionSteps(place, data, names) {
  const asked = quote(names[data.position]), first = data.next[0], kind = data.head.kind, flow = data.gradients;
  place.replaceChildren();
  let box = card(place, 4, 'Output Projection');
  const more = [];
  if (data.block !== 'bare') more.push(data.n_head > 1 ? 'the context vectors of all heads are joined and projected back (Wo)' : 'the context vector is projected back (Wo)', 'added to the vector that came in', 'sent through a feed-forward layer', ...(data.n_layer > 1 ? [`and so on through all ${data.n_layer} layers`] : []));
  const from = data.block === 'bare' ? `the context vector of ${asked}` : `the vector of ${asked}`;
  if (more.length) say(box, `Between the context vector and the prediction this model has more: ${more.join(', ')}.`);
  if (kind === 'classify') say(box, 'The vector of the first token goes through a small head of its own, which gives a logit for each label.');
  else say(box, `We pass ${from} through the vocabulary projection matrix (Wout) to get logits, one for each of ${data.n_output} words${data.projection ? ': the dot product of the vector with the word’s own row of Wout' : ''}.`);
  if (data.projection) {
    const hidden = Array.from(floats(data.projection.hidden)), rows = rowsOf(data.projection.rows, hidden.length);
    vector(box, data.block === 'bare' ? `context of ${asked}` : `vector of ${asked}`, hidden);
    const table = add(box, 'table', null, {class: 'bars', id: 'logits'}), body = header(table, ['word', 'logit', 'its row of Wout']);
    rows.slice(0, 5).forEach((row, i) => {
      const line = add(body, 'tr', null, i === 0 ? {class: 'result'} : {}), logit = dot(hidden, row);
      add(line, 'td', shown(data.next[i].text));
      add(line, 'td', fixed(logit), {'data-value': logit});
      vector(add(line, 'td', null, {class: 'wide'}), '', row);
    });
    say(box, `“${bare(first.text)}” = ${products(rows[0], hidden)} = ${fixed(dot(rows[0], hidden))}`, {class: 'formula'});
  }

  box = card(place, 5, 'Softmax → Prediction');
  say(box, `Softmax turns the logits into probabilities that sum to 1: ${kind === 'classify' ? 'the label' : kind === 'masked_token' ? `the word at ${asked}` : 'the next word'}.`);
  const next = add(box, 'table', null, {class: 'bars', id: 'next'});
  data.next.forEach((line, i) => {
    const row = add(next, 'tr', null, i === 0 ? {class: 'result'} : {});
    [shown(line.text), fixed(line.logit, 3), fixed(line.probability)].forEach(text => add(row, 'td', text));
    bar(row, line.probability);
  });
  const titles = add(next.createTHead(), 'tr');
  [kind === 'classify' ? 'label' : 'word', 'logit', 'probability', ''].forEach(title => add(titles, 'th', title, {scope: 'col'}));
  say(box, `Predicted ${kind === 'classify' ? 'label' : 'word'} = *“${bare(first.text)}”* (highest score).`);

  if (!flow) return;
  box = card(place, 6, 'Backpropagation');
  const list = add(box, 'ul');
  add(list, 'li', `Ground truth = “${bare(flow.target.text)}”${data.target_given ? '' : ' (none was given, so the model’s own answer is taken for the truth; --target names another)'}`);
  add(list, 'li', `Model predicted = “${bare(first.text)}”`);
  add(list, 'li', `Loss = −ln(probability of the truth) = −ln(${flow.target.probability < 1e-4 ? flow.target.probability.toExponential(3) : fixed(flow.target.probability)}) = ${fixed(flow.loss)}`);
  say(box, 'Backprop sends the loss back the way the numbers came, and updates each part as much as it contributed to the prediction error. The gradient of each, and its share in the whole:');
  const table = add(box, 'table', null, {class: 'bars', id: 'gradient'}), shares = (flows, body) => flows.forEach(part => {
    const row = add(body, 'tr');
    [part.name, part.norm < 1e-3 && part.norm > 0 ? part.norm.toExponential(2) : fixed(part.norm, 4), fixed(part.share, 3)].forEach(text => add(row, 'td', text));
    bar(row, part.share);
  });
  shares(flow.roles, header(table, ['part', 'gradient norm', 'share', '']));
  const share = name => flow.roles.filter(role => role.name.startsWith(name)).reduce((sum, role) => sum + role.share, 0);
  say(box, `If attention misfires (looks at the wrong word), gradients flow into *Wq and Wk*: here ${percent(share('Wq') + share('Wk'))}. If the content from a word misleads the output, they flow into *Wv*: here ${percent(share('Wv'))}.`);
  const all = add(box, 'details', null, {class: 'more'});
  add(all, 'summary', `By block${flow.parameters.length <= 200 ? ', and every parameter' : ''}`);
  shares(flow.parts, header(add(all, 'table', null, {class: 'bars'}), ['block', 'gradient norm', 'share', '']));
  if (flow.parameters.length <= 200) shares(flow.parameters, header(add(all, 'table', null, {class: 'bars'}), ['parameter', 'gradient norm', 'share', '']));
}
