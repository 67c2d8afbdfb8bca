'use strict';
/* Shared by all pages: elements, numbers, heat, vectors as strips. */
const $ = id => document.getElementById(id);
function add(parent, name, text, options = {}) {
  const element = document.createElement(name);
  if (text !== undefined && text !== null) element.textContent = text;
  for (const [key, value] of Object.entries(options)) element.setAttribute(key, value);
  parent.append(element);
  return element;
}
/* A paragraph in which `code` and *strong* parts alternate with plain ones. */
function say(parent, text, options) {
  const line = add(parent, 'p', null, options);
  text.split(/(`[^`]*`|\*[^*]+\*)/).forEach(part => {
    if (part.length > 1 && part[0] === '`') add(line, 'code', part.slice(1, -1));
    else if (part.length > 2 && part[0] === '*') add(line, 'b', part.slice(1, -1));
    else line.append(part);
  });
  return line;
}
function shown(token) {
  const text = token.replace(/\n/g, '\\n').replace(/\t/g, '\\t').replace(/^ /, '·');
  return text.length > 16 ? text.slice(0, 15) + '…' : text;
}
const quote = name => `“${name.replace(/^[·▁](?=.)/, '')}”`;
const bare = token => shown(token).replace(/^·(?=.)/, '');
const fixed = (x, n = 4) => Number(x).toFixed(n).replace(/^-(0\.?0*)$/, '$1').replace('-', '−');
const percent = p => p > 0.9995 && p < 1 ? 'over 99.9 %' : p < 0.001 && p > 0 ? 'under 0.1 %' : `${fixed(100 * p, 1)} %`;
const many = (count, word) => `${count} ${word}${count === 1 ? '' : 's'}`;
const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);

/* Numbers arrive as base64: float32, or weights from 0 to 1 in steps of 2⁻²⁰, two in five bytes. */
const bytesOf = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const floats = text => typeof text === 'string' ? new Float32Array(bytesOf(text).buffer) : text;
/* Values that the page has computed itself are rows already. */
function rowsOf(text, width) {
  if (Array.isArray(text)) return text;
  const all = floats(text);
  return Array.from({length: all.length / width}, (_, t) => Array.from(all.subarray(t * width, (t + 1) * width)));
}
function weightsOf(text, mask) {
  if (Array.isArray(text)) return text;
  const b = bytesOf(text);
  let at = 0;
  const next = () => {
    const i = 5 * (at >> 1);
    const code = at++ & 1 ? (b[i + 2] & 15) << 16 | b[i + 3] << 8 | b[i + 4] : b[i] << 12 | b[i + 1] << 4 | b[i + 2] >> 4;
    return code / 1048575;
  };
  return mask.map(row => Array.from(row, cell => cell === '1' ? next() : 0));
}
/* Weights exp(x − greatest) / sum; null has none. */
function softmax(scores) {
  const greatest = scores.reduce((most, s) => s !== null && s > most ? s : most, -Infinity);
  const powers = Array.from(scores, s => s === null ? 0 : Math.exp(s - greatest)), sum = powers.reduce((a, b) => a + b, 0);
  return {greatest, powers, sum, weights: powers.map(p => sum ? p / sum : 0)};
}

/* How strongly a weight is drawn: small ones are visible, too. */
const level = w => Math.pow(Math.max(0, Math.min(1, w)), 0.6);
function heat(cell, w) {
  cell.classList.add('heat');
  cell.classList.toggle('strong', level(w) > 0.6);
  cell.style.setProperty('--w', `${(100 * level(w)).toFixed(1)}%`);
  return cell;
}
function bar(row, share, options = {}) {
  const cell = add(row, 'td', null, {class: 'wide'});
  add(cell, 'span', '', {class: options.minus ? 'bar minus' : 'bar', style: `width:${(100 * Math.max(0, Math.min(1, share))).toFixed(2)}%`});
  return cell;
}
function header(table, titles) {
  const row = add(add(table, 'thead'), 'tr');
  titles.forEach(title => add(row, 'th', title, {scope: 'col'}));
  return add(table, 'tbody');
}
/* A vector: a strip of cells, blue above zero, orange below, with its numbers on request. */
function vector(parent, name, numbers, options = {}) {
  const box = add(parent, 'div', null, {class: 'vector'});
  add(box, 'span', name, {class: 'name'});
  const strip = add(box, 'span', null, {class: 'strip', role: 'img', 'aria-label': `${name}: ${numbers.length} numbers`});
  const most = options.most || Math.max(1e-12, ...numbers.map(Math.abs));
  numbers.slice(0, 96).forEach((x, i) => {
    const cell = add(strip, 'i', null, {title: `${i + 1}: ${fixed(x, 6)}`, style: `--w:${(100 * level(Math.abs(x) / most)).toFixed(0)}%`});
    if (x < 0) cell.className = 'minus';
  });
  const all = add(box, 'details'), of = options.of || numbers.length;
  const few = numbers.slice(0, 3).map(x => fixed(x, 3)).join(', ');
  add(all, 'summary', `[${few}${of > 3 ? ', …' : ''}]`, {title: `all ${numbers.length} numbers`});
  all.ontoggle = () => { if (all.open && all.children.length === 1) add(all, 'code', `[${numbers.map(x => fixed(x, 4)).join(', ')}${of > numbers.length ? `, … ${of} in all` : ''}]`); };
  if (options.cells) strip.style.setProperty('--cells', Math.min(options.cells, 96));
  if (options.id) { box.id = options.id; box.dataset.value = JSON.stringify(numbers); }
  return box;
}

/* The page's colors, read once: reading them makes the browser compute the layout. */
const read_colors = new Map();
function colors(name) {
  if (!read_colors.has(name)) read_colors.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim().match(/[0-9a-f]{2}/gi).map(h => parseInt(h, 16)));
  return read_colors.get(name);
}
const drawn = new Map();
/* A head as a small image, one pixel per cell; redrawn when the color scheme changes. */
function drawMap(canvas, weights, mask) {
  const n = weights.length, context = canvas.getContext('2d'), low = colors('--low'), high = colors('--high');
  canvas.width = canvas.height = n;
  const image = context.createImageData(n, n);
  weights.forEach((row, q) => row.forEach((w, k) => {
    if (mask[q][k] === '1') image.data.set([...low.map((c, i) => c + (high[i] - c) * level(w)), 255], 4 * (q * n + k));
  }));
  context.putImageData(image, 0, 0);
  drawn.set(canvas, () => drawMap(canvas, weights, mask));
}
['(prefers-color-scheme: dark)', 'print'].forEach(media => matchMedia(media).addEventListener('change', () => { read_colors.clear(); drawn.forEach((again, canvas) => canvas.isConnected ? again() : drawn.delete(canvas)); }));
/* The legend of the heat colors. */
function legend(parent, masked = true) {
  const box = add(parent, 'p', null, {class: 'legend'});
  add(box, 'span', 'weight');
  [0, 0.01, 0.1, 0.25, 0.5, 1].forEach(w => heat(add(box, 'span', String(w)), w));
  if (masked) heat(add(box, 'span', 'masked'), 0).className = 'blocked';
}
/* The map of one head as a table: rows are queries, columns keys. */
function mapTable(table, names, mask, weights, dress = () => {}) {
  const n = names.length;
  table.replaceChildren();
  table.className = n > 40 ? 'map dense tiny' : n > 16 ? 'map dense' : 'map';
  const top = add(add(table, 'thead'), 'tr');
  add(top, 'th', '');
  names.forEach(name => add(add(top, 'th', null, {scope: 'col'}), 'span', name));
  const body = add(table, 'tbody');
  for (let q = 0; q < n; q++) {
    const row = add(body, 'tr');
    add(row, 'th', names[q], {scope: 'row'});
    for (let k = 0; k < n; k++) {
      if (mask[q][k] !== '1') { add(row, 'td', '', {class: 'blocked'}); continue; }
      dress(heat(add(row, 'td', n > 16 ? '' : fixed(weights[q][k], 2)), weights[q][k]), q, k);
    }
  }
}

/* Line drawings. */
function draw(parent, name, options, text) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(options)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}
/* One value over the steps of the run; a dot marks the current step. */
function curve(parent, title, steps, values, least, most, now, unit = '') {
  const svg = draw(parent, 'svg', {viewBox: '0 0 420 150', class: 'curve', role: 'img', 'aria-label': `${title}: from ${fixed(values[0], 2)} to ${fixed(values[values.length - 1], 2)}`});
  const last = steps[steps.length - 1] || 1, x = i => 40 + 365 * steps[i] / last, y = v => 118 - 88 * (v - least) / (most - least || 1);
  draw(svg, 'text', {x: 4, y: 14, class: 'title'}, title);
  [least, most].forEach(v => {
    draw(svg, 'line', {x1: 40, x2: 405, y1: y(v), y2: y(v), class: 'axis'});
    draw(svg, 'text', {x: 34, y: y(v) + 4, 'text-anchor': 'end'}, `${v}${unit}`);
  });
  draw(svg, 'polyline', {points: values.map((v, i) => `${x(i)},${y(v)}`).join(' '), class: 'line'});
  draw(svg, 'circle', {cx: x(now), cy: y(values[now]), r: 5, class: 'now'});
  const left = x(now) < 330;
  draw(svg, 'text', {x: x(now) + (left ? 9 : -9), y: y(values[now]) < 60 ? y(values[now]) + 26 : y(values[now]) - 12, 'text-anchor': left ? 'start' : 'end', class: 'result'}, `${fixed(values[now], unit ? 0 : 4)}${unit}`);
  draw(svg, 'text', {x: 40, y: 140}, 'step 0');
  draw(svg, 'text', {x: 405, y: 140, 'text-anchor': 'end'}, `step ${last}`);
}
/* The vector that Wout reads as an arrow at each step; the row of the answer points up. */
function fan(parent, frames, answer, now) {
  const svg = draw(parent, 'svg', {viewBox: '0 0 420 262', class: 'fan', role: 'img', 'aria-label': `the input of Wout rotates from ${fixed(frames[0].angle, 0)} to ${fixed(frames[frames.length - 1].angle, 0)} degrees from the row of ${answer}`});
  const [cx, cy, r] = [90, 225, 200], longest = Math.max(...frames.map(f => f.length));
  draw(svg, 'line', {x1: cx, y1: cy, x2: cx, y2: cy - r, class: 'goal'});
  draw(svg, 'path', {d: `M${cx - 6},${cy - r + 12}L${cx},${cy - r}L${cx + 6},${cy - r + 12}`, class: 'goal'});
  draw(svg, 'text', {x: cx + 10, y: cy - r + 8, class: 'goal-name'}, `row of “${answer}” in Wout`);
  const tip = f => { const a = f.angle * Math.PI / 180, l = r * (0.25 + 0.75 * f.length / longest); return [cx + l * Math.sin(a), cy - l * Math.cos(a)]; };
  frames.forEach((f, i) => {
    const [x, y] = tip(f);
    draw(svg, 'line', {x1: cx, y1: cy, x2: x, y2: y, class: i === now ? 'arrow now' : 'arrow', style: `opacity:${i === now ? 1 : 0.25 + 0.35 * i / frames.length}`});
  });
  draw(svg, 'polyline', {points: frames.map(f => tip(f).join(',')).join(' '), class: 'way'});
  const [x, y] = tip(frames[now]), [x0, y0] = tip(frames[0]);
  if (now > 0) draw(svg, 'text', {x: Math.min(x0 + 8, 300), y: Math.min(y0 + 4, cy - 4)}, `step ${frames[0].step}: ${fixed(frames[0].angle, 0)}°`);
  draw(svg, 'circle', {cx: x, cy: y, r: 5, class: 'now'});
  /* Below the name of the row, and next to the first step's label. */
  let label = Math.max(Math.min(y + 5, cy - 4), cy - r + 28);
  if (now > 0 && Math.abs(label - Math.min(y0 + 4, cy - 4)) < 16 && Math.abs(x - x0) < 130) label -= 18;
  draw(svg, 'text', {x: Math.min(x + 10, 300), y: label, class: 'result'}, `step ${frames[now].step}: ${fixed(frames[now].angle, 0)}°`);
  draw(svg, 'text', {x: cx - 60, y: cy + 26}, 'the input of Wout, one arrow per step');
}
