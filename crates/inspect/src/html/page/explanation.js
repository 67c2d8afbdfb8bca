/* Shows an explanation, and others of the same model that the page computes itself. */
function explain(data) {
  let n, names, apart, heads, unpacked;
  const kind = data.head.kind;
  /* The keys that a query of a layer may attend to. */
  const maskOf = layer => data.masks[data.kinds[layer]];
  function vectorsOf(layer, head) {
    if (data.vectorsOf) return data.vectorsOf(layer, head);
    const name = `${layer}.${head}`, packed = data.vectors[name];
    if (packed && !unpacked[name]) unpacked[name] = Object.fromEntries(Object.entries(packed).map(([key, text]) => [key, rowsOf(text, data.d_head)]));
    return unpacked[name];
  }
  const state = {layer: data.first[0], head: data.first[1], q: data.position, k: 0, edited: () => {}, chosen: () => {}};
  function load(next) {
    data = next;
    if (data.set) $('first-note').textContent = '';
    n = data.tokens.length;
    names = data.tokens.map(shown);
    /* A word that occurs more than once in the text gets its position as a suffix. */
    apart = names.map((name, t) => names.indexOf(name) === names.lastIndexOf(name) ? name : name + small(t));
    heads = data.weights.map((layer, l) => layer.map(text => weightsOf(text, maskOf(l))));
    unpacked = {};
  }
  load(data);

  function showSentence() {
    const answer = data.next[0], line = $('sentence');
    line.replaceChildren();
    line.classList.toggle('long', n > 12);
    names.forEach((name, t) => {
      const chip = add(line, 'span', name, {class: t === data.position ? 'chip asked' : 'chip', title: `token ${data.ids[t]}`});
      if (n <= 12) add(chip, 'small', data.ids[t]);
      /* The filled-in word is shown in place of the mask, not after the text. */
      if (answer && kind === 'masked_token' && t === data.position && !data.unmasked) add(chip, 'b', bare(answer.text), {class: 'filled'});
    });
    if (answer && kind !== 'masked_token') {
      add(line, 'span', '→', {class: 'arrow', 'aria-label': 'the model says'});
      add(line, 'span', data.even ? '?' : bare(answer.text), {class: data.even ? 'chip wrong' : 'chip answer'});
    }
    const asked = data.unmasked ? `it would put in place of the visible ${quote(names[data.position])}` : kind === 'masked_token' ? `${quote(names[data.position])} hides` : kind === 'classify' ? 'the text is about: its label is' : `comes after ${quote(names[data.position])}`;
    $('summary').textContent = data.even ? `Asked what ${asked}, the model has no answer: with your changes all outputs are equally likely.` : !answer ? 'This model has no head: it predicts nothing. This page shows the attention over the text.' : kind === 'classify'
      ? `The model labels this text “${bare(answer.text)}”, with probability ${percent(answer.probability)}${data.set ? ', with your changes' : ''}. This page shows how.`
      : `Asked what ${asked}, the model says “${bare(answer.text)}”, with probability ${percent(answer.probability)}${data.set ? ', with your changes' : ''}. This page shows how.`;
    $('facts').textContent = `Attention over this text · ${data.family}: ${many(data.n_layer, 'layer')} of ${many(data.n_head, 'head')} · ${many(n, 'token')}, each with its id`;
    $('legend').replaceChildren();
    legend($('legend'), data.masks.some(mask => mask.some(row => row.includes('0'))));
  }

  $('heads-section').hidden = data.n_layer * data.n_head === 1;
  if (!data.first_given) $('first-note').textContent = ` The open one is that in which the attention of ${quote(apart[data.position])} is least uniform.`;
  const grid = $('heads');
  grid.style.gridTemplateColumns = `repeat(${data.n_head + 1}, max-content)`;
  grid.style.setProperty('--map', data.n_head > 8 ? '56px' : '84px');
  add(grid, 'span', '');
  for (let h = 0; h < data.n_head; h++) add(grid, 'span', `head ${h}`);
  for (let l = 0; l < data.n_layer; l++) {
    add(grid, 'span', `layer ${l}`);
    for (let h = 0; h < data.n_head; h++) {
      const button = add(grid, 'button', null, {type: 'button', id: `open-${l}-${h}`, 'aria-label': `layer ${l}, head ${h}`, title: `layer ${l}, head ${h}`});
      add(button, 'canvas');
      button.onclick = () => { state.layer = l; state.head = h; show(); };
      button.onkeydown = event => step(event, (down, right) => $(`open-${l + down}-${h + right}`));
    }
  }
  const drawHeads = () => $('heads-section').hidden || heads.forEach((layer, l) => layer.forEach((weights, h) => {
    drawMap($(`open-${l}-${h}`).firstChild, weights, maskOf(l));
    $(`open-${l}-${h}`).classList.toggle('off', Boolean(data.set && (data.set.layers.has(l) || data.set.heads.has(`${l}.${h}`))));
  }));
  /* The arrow keys move to the adjacent cell or head. */
  function step(event, beside) {
    const move = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
    const to = move && beside(...move);
    if (move) event.preventDefault();
    if (to) { to.focus(); to.click(); }
  }

  function tell(q, k) {
    const w = heads[state.layer][state.head][q][k];
    $('hover').textContent = `${quote(apart[q])} gives ${quote(apart[k])} the weight ${fixed(w)}, out of 1.`;
  }
  function showMap() {
    const weights = heads[state.layer][state.head];
    $('head-title').textContent = data.n_layer * data.n_head === 1 ? 'Attention weights' : `Layer ${state.layer}, head ${state.head}: attention weights`;
    $('head-title').textContent += habitName(data, state.layer, state.head);
    mapTable($('map'), names, maskOf(state.layer), weights, (cell, q, k) => {
      cell.id = `cell-${q}-${k}`;
      cell.tabIndex = q === state.q && k === state.k ? 0 : -1;
      cell.setAttribute('aria-label', `${names[q]} looks at ${names[k]}: ${fixed(weights[q][k], 3)}`);
      cell.classList.toggle('edited', Boolean(data.set && data.set.edits.has(`${state.layer}.${state.head}.${q}.${k}`)));
      cell.onmouseenter = () => tell(q, k);
      cell.onmouseleave = () => tell(state.q, state.k);
      cell.onclick = () => { state.q = q; state.k = k; choose(); };
      cell.onkeydown = event => {
        if (['+', '-', 'Delete'].includes(event.key)) state.edited(event.key);
        if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); $('steps-section').scrollIntoView(); }
        step(event, (down, right) => $(`cell-${q + down}-${k + right}`));
      };
    });
  }
  function showRow() {
    const row = heads[state.layer][state.head][state.q], table = $('row');
    $('row-title').textContent = `${quote(apart[state.q])} looks at`;
    table.replaceChildren();
    const order = row.map((_, k) => k).filter(k => maskOf(state.layer)[state.q][k] === '1');
    const listed = n <= 16 ? order : order.sort((a, b) => row[b] - row[a]).slice(0, 10);
    listed.forEach(k => {
      const line = add(table, 'tr', null, k === state.k ? {class: 'result'} : {});
      add(line, 'td', apart[k]);
      add(line, 'td', fixed(row[k]));
      bar(line, row[k]);
    });
    if (listed.length < order.length) {
      const rest = add(table, 'tr', null, {class: 'rest'}), left = order.slice(10).reduce((sum, k) => sum + row[k], 0);
      add(rest, 'td', `the other ${order.length - 10}`);
      add(rest, 'td', fixed(left));
      bar(rest, left);
    }
  }
  /* The arithmetic is the longest part of the page: after a keystroke it is updated with the next frame. */
  let waiting = 0;
  function choose(isTyped) {
    document.querySelectorAll('#map .chosen').forEach(cell => { cell.classList.remove('chosen'); cell.tabIndex = -1; });
    const cell = $(`cell-${state.q}-${state.k}`);
    cell.classList.add('chosen');
    cell.parentElement.classList.add('chosen');
    cell.tabIndex = 0;
    $('cell-title').textContent = `Step by step: how ${quote(apart[state.q])} looks at ${quote(apart[state.k])}`;
    tell(state.q, state.k);
    showRow();
    const weights = heads[state.layer][state.head];
    why(weights[state.q]);
    const steps = () => {
      cellSteps($('arithmetic'), data, apart, state, weights, vectorsOf(state.layer, state.head));
      predictionSteps($('prediction'), data, apart, state);
      scoreOrigins(data, apart, state);
    };
    cancelAnimationFrame(waiting);
    if (isTyped) waiting = requestAnimationFrame(steps); else steps();
    state.chosen(weights, Array.from(maskOf(state.layer)[state.q]).filter(cell => cell === '1').length);
  }
  /* Why there are three vectors and a sum, before any of their values. */
  function why(weights) {
    const asked = quote(apart[state.q]), other = state.q === state.k ? 'its own key' : `the key of ${quote(apart[state.k])}`;
    const seen = weights.filter((_, k) => data.masks[data.kinds[state.layer]][state.q][k] === '1').length, w = weights[state.k];
    const is_edited = data.set && data.set.edits.has(`${state.layer}.${state.head}.${state.q}.${state.k}`);
    const fit = is_edited ? ` (here it was set by hand to ${fixed(w)}, independent of query and key)` : seen === 1 ? `; ${asked} can only attend to itself` : `, ${w * seen >= 1 ? `as that query and ${other} do here` : `which that query and ${other} do not`} (weight ${fixed(w)}; uniform attention would give ${fixed(1 / seen)})`;
    $('why').textContent = `A word alone says little: what it means depends on the words around it. So ${asked} asks them. Its query says what it is looking for; each word’s key says what that word has to offer. Where the two fit, the product is large, and so is the weight${fit}. What then flows to ${asked} is not the key but the value, what a word contributes if it is chosen: the sum of all values, weighted.`;
  }
  function show() {
    grid.querySelectorAll('button').forEach(button => {
      const open = button.id === `open-${state.layer}-${state.head}`;
      button.setAttribute('aria-pressed', open);
      button.tabIndex = open ? 0 : -1;
    });
    const row = heads[state.layer][state.head][state.q];
    state.k = row.indexOf(Math.max(...row));
    showMap();
    choose();
  }

  function knockouts() {
    /* While new results are computed, the old ones are shown as waiting. */
    $('knockout-section').classList.toggle('waiting', data.knockouts === null);
    if (data.knockouts === null) return;
    const table = $('knockout'), n_heads = data.n_layer * data.n_head;
    const weights = names.map((_, k) => heads.flat().reduce((sum, head) => sum + head[data.position][k], 0) / n_heads);
    $('knockout-section').hidden = data.knockouts.length === 0;
    $('knockout-note').textContent = `A large weight alone is not a cause. So each word in turn is hidden from all others, in every layer. The change is how much the log-probability of “${bare(data.target.text)}” falls (orange) or rises (blue) without it; next to it is the weight that ${quote(apart[data.position])} gives the word${n_heads > 1 ? `, the mean over all ${n_heads} heads` : ''}. ${quote(apart[data.position])} itself is never hidden.`;
    table.replaceChildren();
    const body = header(table, ['word', n_heads > 1 ? 'mean weight' : 'weight', '', 'change without it', '']), most = Math.max(1e-9, ...data.knockouts.map(k => Math.abs(k.change))), places = Math.min(9, Math.max(3, 1 + Math.ceil(-Math.log10(most))));
    const order = [...data.knockouts].sort((a, b) => Math.abs(b.change) - Math.abs(a.change)), listed = order.length > 14 ? order.slice(0, 12) : data.knockouts;
    if (listed.length < order.length) $('knockout-note').append(` The 12 words with the largest change are listed; each of the other ${order.length - 12} changes less than ${digits(Math.abs(listed[11].change))}.`);
    listed.forEach(k => {
      const row = add(body, 'tr');
      add(row, 'td', apart[k.position]);
      add(row, 'td', fixed(weights[k.position]));
      bar(row, weights[k.position]).classList.add('half');
      add(row, 'td', (k.change > 0 ? '+' : '') + fixed(k.change, places));
      bar(row, Math.abs(k.change) / most, {minus: k.change < 0}).classList.add('half');
    });
  }
  function lens() {
    const answer = data.next[0];
    $('lens-section').hidden = data.lens.length === 0;
    if (!data.lens.length) return;
    $('lens').replaceChildren();
    const body = header($('lens'), ['after', `“${bare(answer.text)}”`, 'most likely', 'second', 'third']);
    data.lens.forEach(layer => {
      const row = add(body, 'tr');
      add(row, 'td', layer.after.replace('block', 'layer'));
      add(row, 'td', fixed(layer.probability), {class: 'result'});
      layer.next.slice(0, 3).forEach(line => heat(add(row, 'td', `${shown(line.text)}  ${fixed(line.probability, 2)}`), line.probability));
    });
  }
  function story() {
    $('story-section').hidden = !data.story;
    if (!data.story) return;
    const {frames, answer, model_step} = data.story, steps = frames.map(f => f.step), last = steps[steps.length - 1];
    const at = steps.indexOf(model_step), now = at < 0 ? frames.length - 1 : at;
    $('story-note').textContent = `During the training run the input of Wout at ${quote(names[data.position])}${opened(data.way.layers[0]).has('attention') || data.n_head > 1 ? '' : ' (its context vector)'} moved towards the row of “${bare(answer)}” in Wout. That is what training does: it shapes these vectors so that they point toward the right words.${model_step === null || model_step === last ? '' : ` The model on this page is the checkpoint of step ${model_step}, the best of the run by validation; the training and these snapshots continued to step ${last}.${at < 0 ? ' Step ' + model_step + ' is not among the snapshots.' : ' The dot marks step ' + model_step + '.'}`}`;
    if (frames.every(f => f.angle !== null && f.length !== undefined)) fan($('fan'), frames, bare(answer), now);
    curve($('curves'), `probability of “${bare(answer)}”`, steps, frames.map(f => f.probability), 0, 1, now);
  }

  /* All stages at a glance; the step in view is highlighted. */
  function overview() {
    const part = opened(data.way.layers[0]), more = data.n_layer > 1 ? ` × ${data.n_layer} layers` : '';
    const answer = data.next[0];
    $('flow').replaceChildren();
    const stations = [['words', 1], ['embeddings x', 1], ...(part.has('norm(x)') ? [['norm', 1]] : []), ['Q · K', 2], ['softmax: weights α', 2], ['Σ α × V: context', 3], ...(part.has('attention') ? [[`Wo, + x${part.has('ff') ? ', feed-forward' : ''}${more}`, 4]] : []), ...(answer ? [['Wout: logits', 4], ['softmax', 5], [bare(answer.text), 5], ...(data.gradients ? [['loss, and back', 6]] : [])] : [])];
    stations.forEach(([name, step], i) => {
      if (i) add($('flow'), 'span', '→', {class: 'arrow', 'aria-hidden': 'true'});
      add($('flow'), 'a', name, {href: `#step-${step}`, 'data-step': step, class: 'chip'});
    });
  }
  const light = () => {
    const middle = innerHeight / 2, on = [...document.querySelectorAll('.steps>li')].filter(li => li.getBoundingClientRect().top < middle).pop();
    $('flow').querySelectorAll('a').forEach(a => a.classList.toggle('lit', on !== undefined && on.id === `step-${a.dataset.step}`));
  };
  addEventListener('scroll', light, {passive: true});
  /* Everything that depends on the text. The chosen head and cell are kept if possible. */
  function showAll() {
    showSentence();
    drawHeads();
    overview();
    knockouts();
    lens();
    requestAnimationFrame(light);
  }
  showAll();
  story();
  nameHeads(data);
  taughtBy(data);
  show();
  document.querySelectorAll('header nav a').forEach(link => { link.hidden = $(link.hash.slice(1)).hidden; });
  return {
    state,
    apart: () => apart,
    knockouts,
    show: () => { showMap(); choose(); },
    load(next, follow) {
      const asked = state.q === data.position;
      load(next);
      if (asked || follow || state.q >= n) state.q = data.position;
      const row = heads[state.layer][state.head][state.q];
      if (follow || state.k >= n || maskOf(state.layer)[state.q][state.k] !== '1') state.k = row.indexOf(Math.max(...row));
      showAll();
      showMap();
      choose(true);
    },
  };
}
const PAGE = JSON.parse($('data').textContent), EXPLAINED = explain(PAGE);
