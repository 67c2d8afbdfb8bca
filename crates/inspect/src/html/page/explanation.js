function explain(data) {
  const n = data.tokens.length, names = data.tokens.map(shown), kind = data.head.kind;
  /* A word that stands in the text more than once is told apart by its place. */
  const apart = names.map((name, t) => names.indexOf(name) === names.lastIndexOf(name) ? name : name + Array.from(String(t), d => '₀₁₂₃₄₅₆₇₈₉'[d]).join(''));
  /* Which keys a query of a layer may look at. */
  const maskOf = layer => data.masks[data.kinds[layer]];
  const heads = data.weights.map((layer, l) => layer.map(text => weightsOf(text, maskOf(l))));
  const unpacked = {};
  function vectorsOf(layer, head) {
    const name = `${layer}.${head}`, packed = data.vectors[name];
    if (packed && !unpacked[name]) unpacked[name] = Object.fromEntries(Object.entries(packed).map(([key, text]) => [key, rowsOf(text, data.d_head)]));
    return unpacked[name];
  }
  const state = {layer: data.first[0], head: data.first[1], q: data.position, k: 0};

  const answer = data.next[0];
  names.forEach((name, t) => {
    const chip = add($('sentence'), 'span', name, {class: t === data.position ? 'chip asked' : 'chip', title: `token ${data.ids[t]}`});
    if (n <= 12) add(chip, 'small', data.ids[t]);
    else $('sentence').classList.add('long');
    /* What a mask hides stands in its place, not after the text. */
    if (answer && kind === 'masked_token' && t === data.position) add(chip, 'b', bare(answer.text), {class: 'filled'});
  });
  if (answer && kind !== 'masked_token') {
    add($('sentence'), 'span', '→', {class: 'arrow', 'aria-label': 'the model says'});
    add($('sentence'), 'span', bare(answer.text), {class: 'chip answer'});
  }
  const asked = kind === 'masked_token' ? `${quote(names[data.position])} hides` : kind === 'classify' ? 'the text is about: its label is' : `comes after ${quote(names[data.position])}`;
  $('summary').textContent = !answer ? 'This model has no head: it predicts nothing. This page shows what attention makes of the text.' : kind === 'classify'
    ? `The model labels this text “${bare(answer.text)}”, with probability ${percent(answer.probability)}. This page shows how it came to that.`
    : `Asked what ${asked}, the model says “${bare(answer.text)}”, with probability ${percent(answer.probability)}. This page shows how it came to that.`;
  $('facts').textContent = `What attention does with this text · ${data.family}: ${many(data.n_layer, 'layer')} of ${many(data.n_head, 'head')} · ${many(n, 'token')}, each with its id`;

  legend($('legend'), data.masks.some(mask => mask.some(row => row.includes('0'))));
  $('heads-section').hidden = data.n_layer * data.n_head === 1;
  if (!data.first_given) $('first-note').textContent = ` Open is the one in which ${quote(apart[data.position])} spreads its attention least evenly.`;
  const grid = $('heads');
  grid.style.gridTemplateColumns = `repeat(${data.n_head + 1}, max-content)`;
  grid.style.setProperty('--map', data.n_head > 8 ? '56px' : '84px');
  add(grid, 'span', '');
  for (let h = 0; h < data.n_head; h++) add(grid, 'span', `head ${h}`);
  heads.forEach((layer, l) => {
    add(grid, 'span', `layer ${l}`);
    layer.forEach((weights, h) => {
      const button = add(grid, 'button', null, {type: 'button', id: `open-${l}-${h}`, 'aria-label': `layer ${l}, head ${h}`, title: `layer ${l}, head ${h}`});
      drawMap(add(button, 'canvas'), weights, maskOf(l));
      button.onclick = () => { state.layer = l; state.head = h; show(); };
      button.onkeydown = event => step(event, (down, right) => $(`open-${l + down}-${h + right}`));
    });
  });
  /* The arrow keys go to the cell or head beside this one. */
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
    mapTable($('map'), names, maskOf(state.layer), weights, (cell, q, k) => {
      cell.id = `cell-${q}-${k}`;
      cell.tabIndex = q === state.q && k === state.k ? 0 : -1;
      cell.setAttribute('aria-label', `${names[q]} looks at ${names[k]}: ${fixed(weights[q][k], 3)}`);
      cell.onmouseenter = () => tell(q, k);
      cell.onmouseleave = () => tell(state.q, state.k);
      cell.onclick = () => { state.q = q; state.k = k; choose(); };
      cell.onkeydown = event => {
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
  function choose() {
    document.querySelectorAll('#map .chosen').forEach(cell => { cell.classList.remove('chosen'); cell.tabIndex = -1; });
    const cell = $(`cell-${state.q}-${state.k}`);
    cell.classList.add('chosen');
    cell.parentElement.classList.add('chosen');
    cell.tabIndex = 0;
    $('cell-title').textContent = `Step by step: how ${quote(apart[state.q])} looks at ${quote(apart[state.k])}`;
    tell(state.q, state.k);
    showRow();
    why(heads[state.layer][state.head][state.q]);
    cellSteps($('arithmetic'), data, apart, state, heads[state.layer][state.head], vectorsOf(state.layer, state.head));
    predictionSteps($('prediction'), data, apart, state);
  }
  /* Why there are three vectors and a sum, before any of their numbers. */
  function why(weights) {
    const asked = quote(apart[state.q]), other = state.q === state.k ? 'its own key' : `the key of ${quote(apart[state.k])}`;
    const seen = weights.filter((_, k) => data.masks[data.kinds[state.layer]][state.q][k] === '1').length, w = weights[state.k];
    const fit = seen === 1 ? `; ${asked} has nobody to ask but itself` : `, ${w * seen >= 1 ? `as that query and ${other} do here` : `which that query and ${other} do not`} (weight ${fixed(w)}; evenly spread it would be ${fixed(1 / seen)})`;
    $('why').textContent = `A word alone says little: what it means depends on the words around it. So ${asked} asks them. Its query says what it is looking for; each word’s key says what that word has to offer. Where the two fit, the product is large, and so is the weight${fit}. What then flows to ${asked} is not the key but the value, what a word hands on when it is chosen: the sum of all values, each by its weight.`;
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
    const table = $('knockout'), n_heads = data.n_layer * data.n_head;
    const weights = names.map((_, k) => heads.flat().reduce((sum, head) => sum + head[data.position][k], 0) / n_heads);
    $('knockout-section').hidden = data.knockouts.length === 0;
    $('knockout-note').textContent = `A great weight is not yet a reason. So each word in turn is cut off: nobody may look at it, in any layer. The change says how much the log-probability of “${bare(data.target.text)}” falls (orange) or rises (blue) without it; beside it stands the weight that ${quote(apart[data.position])} gives the word${n_heads > 1 ? `, the mean over all ${n_heads} heads` : ''}. ${quote(apart[data.position])} itself, which is asked, is left in.`;
    table.replaceChildren();
    const body = header(table, ['word', n_heads > 1 ? 'mean weight' : 'weight', '', 'change without it', '']), most = Math.max(1e-9, ...data.knockouts.map(k => Math.abs(k.change)));
    const order = [...data.knockouts].sort((a, b) => Math.abs(b.change) - Math.abs(a.change)), listed = order.length > 14 ? order.slice(0, 12) : data.knockouts;
    if (listed.length < order.length) $('knockout-note').append(` Listed are the 12 words that matter most; each of the other ${order.length - 12} changes less than ${digits(Math.abs(listed[11].change))}.`);
    listed.forEach(k => {
      const row = add(body, 'tr');
      add(row, 'td', apart[k.position]);
      add(row, 'td', fixed(weights[k.position]));
      bar(row, weights[k.position]).classList.add('half');
      add(row, 'td', (k.change > 0 ? '+' : '') + fixed(k.change, 3));
      bar(row, Math.abs(k.change) / most, {minus: k.change < 0}).classList.add('half');
    });
  }
  function lens() {
    $('lens-section').hidden = data.lens.length === 0;
    if (!data.lens.length) return;
    const body = header($('lens'), ['after', `“${bare(answer.text)}”`, 'likeliest', 'second', 'third']);
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
    $('story-note').textContent = `Over the training run the vector of ${quote(names[data.position])} that Wout reads${opened(data.way.layers[0]).has('attention') || data.n_head > 1 ? '' : ' (its context vector)'} moved towards the row of “${bare(answer)}” in Wout. That is what training does: it shapes these vectors so that they point toward the right words.${model_step === null || model_step === last ? '' : ` The model on this page is the checkpoint of step ${model_step}, the best of the run by validation; the training, and with it this film, went on to step ${last}.${at < 0 ? ' Step ' + model_step + ' is not among the film’s frames.' : ' The dot marks it.'}`}`;
    if (frames.every(f => f.angle !== null && f.length !== undefined)) fan($('fan'), frames, bare(answer), now);
    curve($('curves'), `probability of “${bare(answer)}”`, steps, frames.map(f => f.probability), 0, 1, now);
  }

  /* The whole way at a glance; the step in view is lit. */
  function overview() {
    const part = opened(data.way.layers[0]), more = data.n_layer > 1 ? ` × ${data.n_layer} layers` : '';
    const stations = [['words', 1], ['embeddings x', 1], ...(part.has('norm(x)') ? [['norm', 1]] : []), ['Q · K', 2], ['softmax: weights α', 2], ['Σ α × V: context', 3], ...(part.has('attention') ? [[`Wo, + x${part.has('ff') ? ', feed-forward' : ''}${more}`, 4]] : []), ...(answer ? [['Wout: logits', 4], ['softmax', 5], [bare(answer.text), 5], ...(data.gradients ? [['loss, and back', 6]] : [])] : [])];
    stations.forEach(([name, step], i) => {
      if (i) add($('flow'), 'span', '→', {class: 'arrow', 'aria-hidden': 'true'});
      add($('flow'), 'a', name, {href: `#step-${step}`, 'data-step': step, class: 'chip'});
    });
    const light = () => {
      const middle = innerHeight / 2, on = [...document.querySelectorAll('.steps>li')].filter(li => li.getBoundingClientRect().top < middle).pop();
      $('flow').querySelectorAll('a').forEach(a => a.classList.toggle('lit', on !== undefined && on.id === `step-${a.dataset.step}`));
    };
    addEventListener('scroll', light, {passive: true});
    light();
  }
  overview();
  knockouts();
  lens();
  story();
  show();
  document.querySelectorAll('header nav a').forEach(link => { link.hidden = $(link.hash.slice(1)).hidden; });
}
explain(JSON.parse($('data').textContent));
