/* Steps 4 to 6 for the chosen word: from the context vector to the prediction, and back. */
function predictionSteps(place, data, names, {layer, head, q}) {
  const kind = data.head.kind;
  place.replaceChildren();
  /* A classifier's head reads one vector: the first token's, the last one's, or the mean of all. */
  const t = kind === 'classify' ? data.position : q, said = data.said[kind === 'classify' ? 0 : q];
  outputStep(card(place, 4, 'Output Projection'), data, names, {layer, head, q, t}, said);
  if (!said) return;
  softmaxOver(card(place, 5, 'Softmax → Prediction'), data, names, t, said);
  if (data.gradients) backStep(card(place, 6, 'Backpropagation'), data, names, t, said);
  else if (data.set) say(card(place, 6, 'Backpropagation'), 'Gradients were computed for the text that this page was made for. *Undo all changes* to see them here.');
}

/* Step 4: output projection of attention, residual, feed-forward, further layers, head. */
function outputStep(box, data, names, {layer, head, q, t}, said) {
  const part = opened(data.way.layers[layer]), end = opened(data.way.head), name = quote(names[q]);
  const contexts = data.n_head > 1 ? 'contexts' : 'context', bare = !part.has('attention');
  if (bare) {
    say(box, data.n_head > 1
      ? `The context vectors of ${name} in all ${data.n_head} heads, concatenated, are the output *z* of layer ${layer}; this model adds nothing to them.`
      : `This model has nothing in between: the context vector of ${name} is the layer’s output *z*.`);
    const off = switchedOff(data, layer);
    if (off.layer) say(box, `This layer is switched off: *z* is its input *x*.`, {class: 'turn'});
    else if (off.heads.length) say(box, `Switched off: ${off.heads.join(', ')}. ${off.heads.length > 1 ? 'Their outputs are' : 'Its output is'} replaced by zeros.`, {class: 'turn'});
    if (off.layer) vector(box, `z of ${name}`, part.rows('z')[q], {of: part.width('z')});
    else stepTo(box, part, 'z', q, {label: `z of ${name}`});
  } else {
    say(box, `The context vector does not lead to the prediction yet. Layer ${layer} continues${data.n_head > 1 ? `: the context vectors of all ${data.n_head} heads are concatenated (${contexts}; head ${head} has elements ${head * data.d_head + 1} to ${(head + 1) * data.d_head})` : ''} and projected back by Wo${part.formula(part.has('s') ? 's' : 'y').startsWith('x + ') ? '; the result is added to x' : ''}.`);
    const rows = part.rows(contexts), off = switchedOff(data, layer);
    if (off.heads.length) say(box, `${many(off.heads.length, 'head')} of this layer ${off.heads.length > 1 ? 'are' : 'is'} switched off (${off.heads.join(', ')}): ${off.heads.length > 1 ? 'their outputs are' : 'its output is'} replaced by zeros.`, {class: 'turn'});
    if (rows) vector(box, `${contexts} of ${name}`, rows[q], {of: part.width(contexts)});
    const after = part.names.slice(part.names.indexOf(contexts) + 1);
    const why = {up: 'The feed-forward layer transforms each word separately:', 'norm(y)': 'The feed-forward layer transforms each word separately, after a norm:'};
    const first = part.has('norm(y)') ? 'norm(y)' : 'up';
    if (off.feed_forward) say(box, 'The feed-forward of this layer is switched off: its result is shown, but not added.', {class: 'turn'});
    after.forEach(step => {
      if (step === 'z' && (off.layer || off.feed_forward)) return vector(box, `z of ${name}`, part.rows('z')[q], {of: part.width('z')});
      if (step === first) say(box, why[step]);
      stepTo(box, part, step, q, {label: `${step} of ${name}`});
      sumsOf(box, part, step, contexts, q);
    });
    say(box, off.layer ? `This entire layer is switched off: its output *z* is its input *x*.` : `*z* is the output of layer ${layer}.`, off.layer ? {class: 'turn'} : {});
  }
  if (layer + 1 < data.n_layer) {
    say(box, `${layer + 2 === data.n_layer ? `Layer ${layer + 1} does` : `Layers ${layer + 1} to ${data.n_layer - 1} do`} the same with it, and mix${layer + 2 === data.n_layer ? 'es' : ''} words again:`);
    for (let l = layer + 1; l < data.n_layer; l++) {
      const rows = l + 1 < data.n_layer ? opened(data.way.layers[l + 1]).rows('x') : end.rows('z');
      if (rows) vector(box, `z of ${name} after layer ${l}`, rows[q], {of: end.width('z')});
    }
  }
  if (data.head.kind === 'classify' && data.pooling === 'mean') say(box, `The head of this model reads the mean of all tokens' vectors. *From here on the values are those of the entire text.*`, {class: 'turn'});
  else if (t !== q) say(box, `The head of this model reads the ${data.pooling} token, ${quote(names[t])}, and no other: ${name} affects the label only through the attention of ${quote(names[t])}. *From here on the values are those of ${quote(names[t])}.*`, {class: 'turn'});
  headStep(box, data, names, t, said, end);
}
/* What of a layer is switched off, on a live page. */
function switchedOff({set}, layer) {
  if (!set) return {heads: []};
  const heads = [...set.heads].filter(head => head.startsWith(`${layer}.`)).map(head => `head ${head.split('.')[1]}`);
  return {heads, layer: set.layers.has(layer), feed_forward: set.feed_forwards.has(layer)};
}
/* The sums within a layer, written out for the first number. */
function sumsOf(box, part, step, contexts, q) {
  const rows = part.rows(step), text = part.formula(step);
  if (!rows) return;
  const plain = text.split(' + ');
  if (plain.length === 2 && plain.every(name => part.rows(name))) sum(box, `${step}₁`, plain.map(name => ({factors: [part.rows(name)[q][0]]})), rows[q][0]);
  else if (text.includes('norm(s)')) oneNorm(box, part, step, 's', '₁', q);
  else if (text.includes('norm(t)')) oneNorm(box, part, step, 't', '₂', q);
  else if (step === 'norm(y)') oneNorm(box, part, step, 'y', '₂', q);
  else if (step === 'attention') oneProduct(box, part, step, 'attention₁', 'Wo', 'bo', contexts, q, 0, rows[q][0]);
}

/* From the last layer to the logits. */
function headStep(box, data, names, t, said, end) {
  const kind = data.head.kind, name = quote(names[t]), read = end.has('read') ? 'read' : 'hidden';
  say(box, end.formula('hidden') === 'z' ? 'The output of the last layer goes to the head unchanged:' : 'The output of the last layer goes through a final norm:');
  stepTo(box, end, 'hidden', t, {label: `hidden of ${name}`});
  if (end.formula('hidden') !== 'z') oneNorm(box, end, 'hidden', 'z', '', t);
  if (end.has('read')) say(box, kind === 'classify' ? 'The head has a further layer before its labels:' : 'The head has a further layer before its words:');
  ['text', 'dense', 'active', 'read'].forEach(step => {
    stepTo(box, end, step, t, {label: `${step} of ${name}`});
    if (end.has(step) && step === 'dense') oneProduct(box, end, step, 'dense₁', kind === 'classify' ? 'Wp' : 'Wt', kind === 'classify' ? 'bp' : 'bt', end.has('text') ? 'text' : 'hidden', t, 0, (end.rows(step) || [])[Math.min(t, (end.rows(step) || []).length - 1)]?.[0]);
  });
  const projection = data.projection;
  if (!projection || !said) return say(box, 'This model has no head: these vectors are its result, and it predicts nothing.');
  const what = kind === 'classify' ? 'label' : 'word', outputs = outputsOf(projection), bias = outputs.has_bias;
  say(box, `Wout has a row for each of ${data.n_output} ${what}s${projection.tied ? ' (tied to the embedding table)' : ''}: a ${what}'s logit is the dot product of *${read}* with its row${bias ? ', plus a bias' : ''}.`);
  formula(box, `logit = Wout[${what}] · ${read}${bias ? ` + bout[${what}]` : ''}`);
  const hidden = end.rows(read);
  const row = hidden && hidden[Math.min(t, hidden.length - 1)];
  const table = add(box, 'table', null, {class: 'bars lined', id: 'logits'}), body = header(table, [what, 'logit', 'its row of Wout']);
  if (hidden) {
    const line = add(body, 'tr', null, {class: 'head'});
    add(line, 'td', read);
    add(line, 'td', '');
    vector(add(line, 'td', null, {class: 'wide'}), '', row, {of: end.width(read), cells: outputs.width});
  }
  said.next.forEach((next, i) => {
    const line = add(body, 'tr', null, i === 0 ? {class: 'result'} : {});
    add(line, 'td', shown(next.text));
    add(line, 'td', digits(next.logit), {'data-value': next.logit});
    vector(add(line, 'td', null, {class: 'wide'}), '', outputs.of(next.id).row, {of: projection.width, cells: outputs.width});
  });
  const first = said.next[0];
  if (!hidden) return;
  const {row: ofFirst, bias: b} = outputs.of(first.id), terms = dotTerms(ofFirst, row, first.logit - b, projection.width);
  if (bias) terms.push({factors: [b], note: 'its bias'});
  sum(box, `logit of “${bare(first.text)}”`, terms, first.logit);
}

/* The rows of Wout by output: those that the page lists, or all of them on a live page. */
function outputsOf(projection) {
  if (projection.row) return {of: projection.row, width: projection.width, has_bias: projection.row(0).has_bias};
  const rows = rowsOf(projection.rows, projection.kept), bias = projection.bias && floats(projection.bias);
  const of = id => { const at = projection.ids.indexOf(id); return {row: rows[at], bias: bias ? bias[at] : 0}; };
  return {of, width: projection.kept, has_bias: Boolean(bias)};
}

/* A name for the prediction at a word. */
const asksFor = (data, names, t) => data.head.kind === 'classify' ? 'the label of the text' : data.head.kind === 'masked_token'
  ? (t === data.position ? `the word that ${quote(names[t])} hides` : `the word that it would put in place of the visible ${quote(names[t])}`)
  : `the word after ${quote(names[t])}`;

/* Step 5: softmax over the logits. */
function softmaxOver(box, data, names, t, said) {
  const what = data.head.kind === 'classify' ? 'label' : 'word', list = t === data.position ? data.next : said.next;
  const total = Math.exp(said.log_sum), small_enough = said.log_sum < 12, first = list[0];
  say(box, `Softmax turns the logits into probabilities that sum to 1; here for ${asksFor(data, names, t)}. ${small_enough ? `probability = exp(logit) / ${sized(total)}, the sum of exp(logit) over all ${data.n_output} ${what}s.` : `probability = exp(logit − ${digits(said.log_sum)}); that number is the logarithm of the sum of exp(logit) over all ${data.n_output} ${what}s.`}`);
  const next = add(box, 'table', null, {class: 'bars', id: 'next'});
  const line = (texts, probability, options) => {
    const row = add(next, 'tr', null, options);
    texts.forEach(text => add(row, 'td', text));
    bar(row, probability);
  };
  list.forEach((o, i) => line([shown(o.text), digits(o.logit), fixed(o.probability)], o.probability, i === 0 ? {class: 'result'} : {}));
  const rest = data.n_output - list.length, left = Math.max(0, 1 - list.reduce((all, o) => all + o.probability, 0));
  if (rest > 0) line([`the other ${rest} together`, '', fixed(left)], left, {class: 'rest'});
  const titles = add(next.createTHead(), 'tr');
  [what, 'logit', 'probability', ''].forEach(title => add(titles, 'th', title, {scope: 'col'}));
  const power = Math.exp(first.logit);
  sum(box, `probability of “${bare(first.text)}”`, [small_enough
    ? {factors: [power, 1 / total], text: `${sized(power)} / ${sized(total)}`}
    : {factors: [Math.exp(first.logit - said.log_sum)], text: `exp(${digits(first.logit)} − ${signed(said.log_sum)})`}], first.probability);
  say(box, `Predicted ${what} = *“${bare(first.text)}”* (highest score).`);
}

/* Step 6, second half: one update, and the answer after it. */
function oneUpdate(box, data) {
  const {truth, is_supposed, learning_rate, loss, outputs, one_number} = data.update, name = `“${bare(truth.text)}”`;
  const [value, gradient, after] = one_number, most = outputs.reduce((best, pair) => pair[1].probability > best[1].probability ? pair : best);
  say(box, `*One update.* ${is_supposed ? `The model’s own answer can teach it little, so suppose that ${name}, its second choice, were the truth. ` : ''}One step of gradient descent on every parameter, θ ← θ − η × gradient, with η = ${learning_rate} (${data.update_why}). One of them, the first of the row of ${name} in Wout:`);
  sum(box, `Wout[${bare(truth.text)}]₁`, [{factors: [value]}, {factors: [-learning_rate, gradient], text: `(−${learning_rate}) × ${signed(gradient)}`}], after);
  const body = header(add(box, 'table', null, {class: 'bars', id: 'update'}), [data.head.kind === 'classify' ? 'label' : 'word', 'before', 'after', '']);
  outputs.forEach(pair => {
    const row = add(body, 'tr', null, pair[1].id === most[1].id ? {class: 'result'} : {});
    [shown(pair[0].text), fixed(pair[0].probability), fixed(pair[1].probability)].forEach(text => add(row, 'td', text));
    bar(row, pair[1].probability);
  });
  say(box, `The loss of ${name} goes from ${fixed(loss[0])} to ${fixed(loss[1])}; the answer is now *“${bare(most[1].text)}”*. Training repeats this with small steps and many texts.`);
}

/* Step 6: the loss and its gradients. */
function backStep(box, data, names, t, said) {
  const flow = data.gradients, list = add(box, 'ul'), first = said.next[0];
  const chance = p => p < 1e-4 ? p.toExponential(3).replace('-', '−') : fixed(p);
  if (t !== data.position) {
    const truth = said.truth;
    if (truth) {
      add(list, 'li', `Ground truth = “${bare(truth.text)}”: the text goes on with it.`);
      add(list, 'li', `Model predicted = “${bare(first.text)}”`);
      add(list, 'li', `Loss = −ln(probability of the truth) = −ln(${chance(truth.probability)}) = ${fixed(-Math.log(truth.probability))}`);
    } else add(list, 'li', `${quote(names[t])} has no target, so there is no loss here.`);
    return say(box, `Gradients were computed only for ${quote(names[data.position])}, the word that this page explains: choose a cell of its row to see them.`, {class: 'turn'});
  }
  add(list, 'li', null).append(`Ground truth = “${bare(flow.target.text)}”`, ...(data.target_given ? [] : [' (the model’s own answer: no other truth was given)']));
  add(list, 'li', `Model predicted = “${bare(first.text)}”`);
  add(list, 'li', `Loss = −ln(probability of the truth) = −ln(${chance(flow.target.probability)}) = ${fixed(flow.loss)}`);
  say(box, 'Backprop sends the loss back along the computation, and updates each part as much as it contributed to the prediction error. The gradient of each, and its share of the total:');
  const table = add(box, 'table', null, {class: 'bars', id: 'gradient'}), shares = (flows, body) => flows.forEach(part => {
    const row = add(body, 'tr');
    [part.name, digits(part.norm), fixed(part.share, 3)].forEach(text => add(row, 'td', text));
    bar(row, part.share);
  });
  shares(flow.roles, header(table, ['part', 'gradient norm', 'share', '']));
  const share = name => flow.roles.filter(role => role.name.startsWith(name)).reduce((sum, role) => sum + role.share, 0);
  say(box, `If attention misfires (looks at the wrong word), gradients flow into *Wq and Wk*: here ${percent(share('Wq') + share('Wk'))}. If the content from a word misleads the output, they flow into *Wv*: here ${percent(share('Wv'))}.`);
  if (data.update) oneUpdate(box, data);
  const all = add(box, 'details', null, {class: 'more'});
  add(all, 'summary', `By block${flow.parameters.length <= 200 ? ', and every parameter' : ''}`);
  const tables = [['block', flow.parts], ...(flow.parameters.length <= 200 ? [['parameter', flow.parameters]] : [])];
  tables.forEach(([title, flows]) => shares(flows, header(add(add(all, 'div', null, {class: 'scroll'}), 'table', null, {class: 'bars'}), [title, 'gradient norm', 'share', ''])));
}
