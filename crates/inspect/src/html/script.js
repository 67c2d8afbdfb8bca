'use strict';
const $ = id => document.getElementById(id);
const CIVIDIS = [[0,34,78],[18,53,112],[59,73,108],[87,93,109],[112,113,115],[138,134,120],[165,156,116],[195,179,105],[225,204,85],[244,220,72],[254,232,56]];
function colour(w) {
  const at = Math.max(0, Math.min(1, w)) * 10, low = Math.floor(at), high = Math.min(10, low + 1);
  return CIVIDIS[low].map((c, i) => Math.round(c + (CIVIDIS[high][i] - c) * (at - low)));
}
const css = rgb => `rgb(${rgb.join(',')})`;
const ink = w => w > 0.55 ? '#000' : '#fff';
function shown(token) {
  const text = token.replace(/\n/g, '\\n').replace(/\t/g, '\\t').replace(/^ /, '·');
  return text.length > 16 ? text.slice(0, 15) + '…' : text;
}
function add(parent, name, text, options = {}) {
  const element = document.createElement(name);
  if (text !== undefined && text !== null) element.textContent = text;
  for (const [key, value] of Object.entries(options)) element.setAttribute(key, value);
  parent.append(element);
  return element;
}
function floats(text) {
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}
const fixed = (x, n = 4) => Number(x).toFixed(n).replace(/^-(0\.?0*)$/, '$1');
const list = (numbers, n = 4) => '[' + Array.from(numbers, x => fixed(x, n)).join(', ') + ']';
const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
function bar(cell, share, minus) {
  add(cell, 'span', '', {class: minus ? 'bar minus' : 'bar', style: `width:${Math.max(0, Math.min(1, share)) * 100}%`});
}
/* The scores of a head as rows; what the mask forbids is null. */
function scoreRows(data, text) {
  const flat = floats(text);
  let at = 0;
  return data.mask.map(row => Array.from(row, cell => cell === '1' ? flat[at++] : null));
}
/* Softmax of a row over what the mask allows; forbidden keys get 0. */
function softmaxRow(scores) {
  const allowed = scores.filter(s => s !== null), greatest = Math.max(...allowed);
  const powers = scores.map(s => s === null ? 0 : Math.exp(s - greatest)), sum = powers.reduce((a, b) => a + b, 0);
  return powers.map(p => sum > 0 ? p / sum : 0);
}
function drawMap(canvas, weights, mask) {
  const n = weights.length, context = canvas.getContext('2d');
  canvas.width = canvas.height = n;
  const image = context.createImageData(n, n);
  weights.forEach((row, q) => row.forEach((w, k) => {
    if (mask[q][k] === '1') image.data.set([...colour(w), 255], 4 * (q * n + k));
  }));
  context.putImageData(image, 0, 0);
}

function explain(data) {
  const n = data.tokens.length, names = data.tokens.map(shown);
  const state = {layer: data.first[0], head: data.first[1], q: data.position, k: 0};
  const heads = data.scores.map(layer => layer.map(text => {
    const scores = scoreRows(data, text);
    return {scores, weights: scores.map(softmaxRow)};
  }));
  const vectorsOf = (layer, head) => {
    const packed = data.vectors[`${layer}.${head}`];
    if (!packed) return null;
    const rows = text => { const all = floats(text); return data.tokens.map((_, t) => Array.from(all.subarray(t * data.d_head, (t + 1) * data.d_head))); };
    return {q: rows(packed.q), k: rows(packed.k), v: rows(packed.v)};
  };

  names.forEach((name, t) => add(add($('sentence'), 'span', name, t === data.position ? {class: 'asked', title: 'the word that is asked about'} : {}), 'small', data.ids[t]));
  const many = (count, word) => `${count} ${word}${count === 1 ? '' : 's'}`;
  $('summary').textContent = `${many(n, 'token')}, ${many(data.n_layer, 'layer')} of ${many(data.n_head, 'head')} (${data.family}). The marked word is asked what ${data.head.kind === 'masked_token' ? 'it hides' : data.head.kind === 'classify' ? 'the text is' : 'comes next'}; the answer: “${shown(data.next[0].text).replace('·', ' ').trim()}”, probability ${fixed(data.next[0].probability, 3)}.`;

  $('heads').style.gridTemplateColumns = `repeat(${data.n_head}, max-content)`;
  heads.forEach((layer, l) => layer.forEach((head, h) => {
    const button = add($('heads'), 'button', null, {type: 'button', id: `open-${l}-${h}`, 'aria-label': `layer ${l}, head ${h}`});
    drawMap(add(button, 'canvas', null), head.weights, data.mask);
    add(button, 'span', `${l}.${h}`);
    button.onclick = () => { state.layer = l; state.head = h; show(); };
  }));

  function showMap() {
    const {scores, weights} = heads[state.layer][state.head], table = $('map');
    table.replaceChildren();
    table.className = n > 20 ? 'map dense' : 'map';
    $('head-title').textContent = `Layer ${state.layer}, head ${state.head}: attention weights`;
    const top = add(add(table, 'thead'), 'tr');
    add(top, 'th', '');
    names.forEach(name => add(top, 'th', name));
    const body = add(table, 'tbody');
    for (let q = 0; q < n; q++) {
      const row = add(body, 'tr');
      add(row, 'th', names[q]);
      for (let k = 0; k < n; k++) {
        if (data.mask[q][k] !== '1') { add(row, 'td', '', {class: 'blocked', title: 'masked: weight 0'}); continue; }
        const w = weights[q][k];
        const cell = add(row, 'td', fixed(w, 2), {tabindex: q === state.q && k === state.k ? 0 : -1, id: `cell-${q}-${k}`,
          'aria-label': `${names[q]} looks at ${names[k]}: ${fixed(w, 3)}`, style: `background:${css(colour(w))};color:${ink(w)}`});
        cell.onmouseenter = () => { $('hover').textContent = `“${names[q]}” looks at “${names[k]}”: weight ${fixed(w, 6)}, score ${fixed(scores[q][k], 6)}`; };
        cell.onclick = () => { state.q = q; state.k = k; choose(); };
        cell.onkeydown = event => {
          const move = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
          if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); cell.click(); }
          if (!move) return;
          const to = $(`cell-${q + move[0]}-${k + move[1]}`);
          if (to) { event.preventDefault(); to.focus(); to.click(); }
        };
      }
    }
  }

  function choose() {
    document.querySelectorAll('#map td.chosen').forEach(cell => cell.classList.remove('chosen'));
    const cell = $(`cell-${state.q}-${state.k}`);
    if (cell) { cell.classList.add('chosen'); cell.setAttribute('tabindex', 0); }
    arithmetic();
    knockouts();
  }

  function arithmetic() {
    const {layer, head, q, k} = state, {scores, weights} = heads[layer][head], vectors = vectorsOf(layer, head);
    const place = $('arithmetic');
    place.replaceChildren();
    $('cell-title').textContent = `The arithmetic of one cell: “${names[q]}” looks at “${names[k]}”`;
    const step = title => { const box = add(place, 'div', null, {class: 'step'}); add(box, 'h3', title); return box; };
    const value = (box, before, id, number) => {
      const line = add(box, 'p', before);
      add(line, 'span', fixed(number, 6), {class: 'result', id, 'data-value': number});
    };
    const vector = (box, name, numbers) => add(box, 'p', `${name} = ${list(numbers)}`, {class: 'vector'});
    let box = step('Step 1: Get Q, K and V');
    if (vectors) {
      add(box, 'p', `The embeddings, as the layer receives them, times Wq, Wk and Wv: what “${names[q]}” is looking for (Q), what “${names[k]}” offers (K), and what it contributes if chosen (V).`);
      vector(box, `Q of “${names[q]}”`, vectors.q[q]);
      vector(box, `K of “${names[k]}”`, vectors.k[k]);
      vector(box, `V of “${names[k]}”`, vectors.v[k]);
    } else {
      add(box, 'p', `The vectors of this head were left out to keep the page small. For them make the page with --layer ${layer} --head ${head}; the scores below are all here.`);
    }
    box = step('Step 2: Compute attention: score = Q · K × scale');
    if (vectors) {
      const product = dot(vectors.q[q], vectors.k[k]);
      value(box, 'Q · K = ', 'product', product);
      value(box, `× scale ${fixed(data.scale, 6)} (1 / √${data.d_head}) = score `, 'score', product * data.scale);
    } else value(box, 'score ', 'score', scores[q][k]);
    box = step('The mask, and the softmax of the row');
    add(box, 'p', `“${names[q]}” may look at ${scores[q].filter(s => s !== null).length} of ${n} words. weight = exp(score) / sum of exp(score) over them:`);
    const table = add(box, 'table'), header = add(add(table, 'thead'), 'tr');
    ['word', 'score', 'exp(score − greatest)', 'weight α'].forEach(title => add(header, 'th', title));
    const greatest = Math.max(...scores[q].filter(s => s !== null)), body = add(table, 'tbody');
    scores[q].forEach((s, j) => {
      if (s === null || (n > 24 && j !== k && weights[q][j] < 0.01)) return;
      const row = add(body, 'tr');
      [names[j], fixed(s), fixed(Math.exp(s - greatest)), fixed(weights[q][j])].forEach(text => add(row, 'td', text, j === k ? {class: 'result'} : {}));
    });
    if (n > 24) add(box, 'p', 'Words with a weight below 0.01 are left out of this list.', {class: 'note'});
    value(box, `weight of “${names[k]}” = `, 'weight', weights[q][k]);
    box = step('Step 3: Compute weighted sum (context vector)');
    if (vectors) {
      vector(box, `${fixed(weights[q][k])} × V of “${names[k]}”`, vectors.v[k].map(x => x * weights[q][k]));
      const context = vectors.v[0].map((_, c) => weights[q].reduce((sum, w, j) => sum + w * vectors.v[j][c], 0));
      add(box, 'p', `The same for every word, added up: the context vector of “${names[q]}” in this head.`);
      const line = add(box, 'p', `context = ${list(context)}`, {class: 'vector', id: 'context'});
      line.dataset.value = JSON.stringify(context);
    } else add(box, 'p', 'weight × V, added up over the row, is the context vector.');
    box = step('Steps 4 and 5: output projection, softmax → prediction');
    add(box, 'p', `The context vectors of all heads go on through the model; at “${names[data.position]}” the vocabulary head (Wout) makes logits of them, and softmax probabilities: the table “${$('next-title').textContent}” below. Step 6, backpropagation, is the section on gradients.`);
  }

  function knockouts() {
    const table = $('knockout');
    table.replaceChildren();
    $('knockout-section').hidden = data.knockouts.length === 0;
    $('knockout-note').textContent = `The change in the log-probability of “${shown(data.target.text).replace('·', ' ').trim()}” when nobody may look at a word, next to the weight that “${names[data.position]}” gives it in layer ${state.layer}, head ${state.head}. Below 0: the prediction needs the word.`;
    const header = add(add(table, 'thead'), 'tr'), body = add(table, 'tbody');
    ['cut off', 'change', 'weight', ''].forEach(title => add(header, 'th', title));
    const most = Math.max(1e-9, ...data.knockouts.map(k => Math.abs(k.change)));
    data.knockouts.forEach(k => {
      const row = add(body, 'tr');
      [names[k.position], fixed(k.change), fixed(heads[state.layer][state.head].weights[data.position][k.position], 3)].forEach(text => add(row, 'td', text));
      bar(add(row, 'td', null, {class: 'wide'}), Math.abs(k.change) / most, k.change < 0);
    });
  }

  function show() {
    document.querySelectorAll('#heads button').forEach(button => button.setAttribute('aria-pressed', button.id === `open-${state.layer}-${state.head}`));
    if (data.mask[state.q][state.k] !== '1') state.k = data.mask[state.q].indexOf('1');
    const row = heads[state.layer][state.head].weights[state.q];
    state.k = row.indexOf(Math.max(...row));
    showMap();
    choose();
  }

  if (data.head.kind === 'masked_token') $('next-title').textContent = `The word at “${names[data.position]}”`;
  if (data.head.kind === 'classify') $('next-title').textContent = 'Label';
  data.next.forEach(line => {
    const row = add($('next'), 'tr');
    [shown(line.text), fixed(line.probability), fixed(line.logit, 3)].forEach(text => add(row, 'td', text));
    bar(add(row, 'td', null, {class: 'wide'}), line.probability, false);
  });
  $('lens-section').hidden = data.lens.length === 0;
  if (data.lens.length) {
    const header = add(add($('lens'), 'thead'), 'tr'), body = add($('lens'), 'tbody');
    ['after', `p(${shown(data.next[0].text)})`, '1st', '2nd', '3rd'].forEach(title => add(header, 'th', title));
    data.lens.forEach(layer => {
      const row = add(body, 'tr');
      add(row, 'td', layer.after);
      add(row, 'td', fixed(layer.probability));
      layer.next.slice(0, 3).forEach(line => {
        const cell = add(row, 'td', `${shown(line.text)} ${fixed(line.probability, 2)}`);
        cell.style.cssText = `background:${css(colour(line.probability))};color:${ink(line.probability)}`;
      });
    });
  }
  $('gradient-section').hidden = !data.gradients;
  if (data.gradients) {
    const flow = data.gradients;
    $('gradient-note').textContent = `If the true word is “${shown(flow.target.text).replace('·', ' ').trim()}”, the loss is −ln(${fixed(flow.target.probability)}) = ${fixed(flow.loss)}. Backpropagation sends it to every parameter; the share is of the squared norm of all gradients, ${fixed(flow.norm)}² .`;
    const header = add(add($('gradient'), 'thead'), 'tr'), body = add($('gradient'), 'tbody');
    ['part', 'norm', 'share', ''].forEach(title => add(header, 'th', title));
    const lines = flow.parameters.length <= 40 ? flow.parameters : flow.parts;
    lines.forEach(part => {
      const row = add(body, 'tr');
      [part.name, fixed(part.norm, 5), fixed(part.share, 3)].forEach(text => add(row, 'td', text));
      bar(add(row, 'td', null, {class: 'wide'}), part.share, false);
    });
  }
  show();
}
if ($('data') && $('heads')) explain(JSON.parse($('data').textContent));

function playFilm(film) {
  const slider = $('step'), choice = $('probe'), frames = film.frames;
  slider.max = frames.length - 1;
  film.probes.forEach((probe, i) => add(choice, 'option', probe.text, {value: i}));
  const shape = 'http://www.w3.org/2000/svg';
  const draw = (parent, name, options, text) => {
    const element = document.createElementNS(shape, name);
    for (const [key, value] of Object.entries(options)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  };
  function curve(title, values, least, most, now) {
    const svg = draw($('curves'), 'svg', {viewBox: '0 0 420 130', width: 420, height: 130, role: 'img', 'aria-label': title});
    draw(svg, 'text', {x: 4, y: 14}, title);
    const x = i => 40 + 360 * i / Math.max(1, frames.length - 1), y = v => 110 - 85 * (v - least) / (most - least || 1);
    draw(svg, 'text', {x: 34, y: 114, 'text-anchor': 'end'}, least.toFixed(least % 1 ? 1 : 0));
    draw(svg, 'text', {x: 34, y: 29, 'text-anchor': 'end'}, most.toFixed(most % 1 ? 1 : 0));
    draw(svg, 'polyline', {points: values.map((v, i) => `${x(i)},${y(v)}`).join(' '), fill: 'none', stroke: 'var(--bar)', 'stroke-width': 2});
    draw(svg, 'circle', {cx: x(now), cy: y(values[now]), r: 5, fill: 'var(--minus)'});
  }
  function show() {
    const now = Number(slider.value), frame = frames[now], which = Number(choice.value || 0), probe = film.probes[which], seen = frame.probes[which];
    $('at').textContent = `step ${frame.step}` + (frame.val_loss === null ? '' : `, validation loss ${fixed(frame.val_loss, 3)}`);
    $('question').textContent = `“${probe.tokens.join(' ')}” → ${shown(seen.next[0].text)}${seen.next[0].id === probe.target ? ' ✓' : ` (true: ${probe.answer})`}`;
    $('sentence').replaceChildren();
    probe.tokens.forEach((token, t) => add($('sentence'), 'span', shown(token), t === probe.position ? {class: 'asked'} : {}));
    $('next').replaceChildren();
    seen.next.forEach(line => {
      const row = add($('next'), 'tr');
      [shown(line.text), fixed(line.probability)].forEach(text => add(row, 'td', text, line.id === probe.target ? {class: 'result'} : {}));
      bar(add(row, 'td', null, {class: 'wide'}), line.probability, false);
    });
    $('curves').replaceChildren();
    const all = key => frames.map(f => f.probes[which][key]);
    curve(`probability of “${probe.answer}”`, all('probability'), 0, 1, now);
    const angles = all('angle');
    if (angles.every(angle => angle !== null)) {
      curve(`angle between the context vector and the row of “${probe.answer}” (degrees)`, angles, 0, Math.ceil(Math.max(90, ...angles)), now);
    }
    $('way-note').textContent = `As it learns, the context vector turns towards the row of “${probe.answer}” in the vocabulary head.`;
    $('heads').replaceChildren();
    $('heads').style.gridTemplateColumns = `repeat(${seen.attentions[0].length}, max-content)`;
    const causal = probe.tokens.map((_, q) => probe.tokens.map((_, k) => k <= q || seen.attentions[0][0][q][k] > 0 ? '1' : '0').join(''));
    seen.attentions.forEach((layer, l) => layer.forEach((weights, h) => {
      const box = add($('heads'), 'div', null, {class: 'step'});
      drawMap(add(box, 'canvas', null, {role: 'img', 'aria-label': `layer ${l}, head ${h}`}), weights, causal);
      add(box, 'span', `${l}.${h}: ${fixed(seen.entropies[l][h], 2)}`);
    }));
  }
  slider.oninput = choice.onchange = show;
  let timer = null;
  $('play').onclick = () => {
    const stop = () => { clearInterval(timer); timer = null; $('play').textContent = 'Play'; };
    if (timer) return stop();
    if (Number(slider.value) >= frames.length - 1) slider.value = 0;
    $('play').textContent = 'Pause';
    timer = setInterval(() => {
      slider.value = Number(slider.value) + 1;
      show();
      if (Number(slider.value) >= frames.length - 1) stop();
    }, 700);
  };
  slider.value = frames.length - 1;
  show();
}
if ($('film')) playFilm(JSON.parse($('film').textContent));
