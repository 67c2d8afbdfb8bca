/* The prediction, now and before, and words drawn from it. */

/* The sampling distribution over the outputs: top-k and temperature applied; largest first. */
function chancesOf(logits, {temperature, top_k}) {
  const order = logits.map((_, id) => id).sort((a, b) => logits[b] - logits[a] || a - b).slice(0, top_k || logits.length);
  if (temperature === 0) return order.map((id, i) => ({id, probability: i === 0 ? 1 : 0}));
  const shares = softmax(order.map(id => logits[id] / temperature)).weights;
  return order.map((id, i) => ({id, probability: shares[i]}));
}

/* A number from 0 to 1 for the nth draw of a seed: always the same. */
function drawnNumber(seed, n) {
  let x = Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul(n + 1, 0x85ebca6b);
  for (const factor of [0x21f0aaad, 0x735a2d97]) x = Math.imul(x ^ x >>> 16, factor);
  return ((x ^ x >>> 15) >>> 0) / 2 ** 32;
}
/* The output whose interval contains the number. */
function choiceOf(chances, r) {
  let from = 0;
  for (const chance of chances) {
    if (r < from + chance.probability) return {...chance, from, to: from + chance.probability, r};
    from += chance.probability;
  }
  const last = chances.findLast(chance => chance.probability > 0);
  return {...last, from: 1 - last.probability, to: 1, r};
}

const isSmall = change => Math.abs(change) < 0.0005;
const points = change => isSmall(change) ? '0' : `${change > 0 ? '+' : '−'}${fixed(Math.abs(100 * change), 1)}`;
const share = p => p > 0 && p < 0.001 ? '< 0.1 %' : p < 1 && p > 0.9995 ? '> 99.9 %' : percent(p);
/* The table of the most likely outputs: the current ones, and those before the change. */
function showCompared(table, chances, before, name, kind, isChanged) {
  table.replaceChildren();
  /* On ties, the outputs of before are shown. */
  const is_even = chances.length > 1 && chances[0].probability - chances[chances.length - 1].probability < 1e-12, now = new Map(chances.map(line => [line.id, line]));
  const was = new Map(before.map(({id, probability}) => [id, probability])), top = (is_even ? before.map(({id}) => now.get(id) || {id, probability: 0}) : chances).slice(0, 6);
  const lost = before.slice(0, 3).filter(({id}) => !top.some(line => line.id === id)).map(({id}) => chances.find(line => line.id === id) || {id, probability: 0});
  const body = header(table, [kind === 'classify' ? 'label' : 'word', 'now', '', ...(isChanged ? ['before', 'change'] : [])]);
  [...top, ...lost].forEach(({id, probability}, i) => {
    const row = add(body, 'tr', null, i === 0 && !is_even ? {class: 'result'} : {}), earlier = was.get(id) ?? 0;
    add(row, 'td', name(id));
    add(row, 'td', share(probability), {'data-id': id, 'data-value': probability});
    bar(row, probability).classList.add('half');
    if (!isChanged) return;
    add(row, 'td', share(earlier), {class: 'before'});
    add(row, 'td', points(probability - earlier), {class: isSmall(probability - earlier) ? 'before' : probability > earlier ? 'up' : 'down', 'aria-label': `${points(probability - earlier)} percentage points`});
  });
}

/* The draw: an interval per word as long as its probability, and the number drawn. */
function showDrawn(box, history, name) {
  box.replaceChildren();
  const last = history[history.length - 1];
  if (!last) return;
  const {choice, chances} = last, strip = add(box, 'div', null, {class: 'choice', 'aria-hidden': 'true'});
  let from = 0;
  chances.slice(0, 12).forEach(({id, probability}) => {
    const part = add(strip, 'span', probability > 0.08 ? name(id) : '', {class: id === choice.id ? 'chosen' : '', title: `${name(id)}: ${fixed(from)} to ${fixed(from + probability)}`});
    part.style.width = `${100 * probability}%`;
    from += probability;
  });
  const mark = add(strip, 'i', '');
  mark.style.left = `${100 * choice.r}%`;
  say(box, `Drawn: the number ${fixed(choice.r)}. It falls into the interval of *“${name(choice.id)}”*, from ${fixed(choice.from)} to ${fixed(choice.to)}, which is as long as its probability, ${percent(choice.probability)}.`, {class: 'note'});
  if (history.length > 1) say(box, `So far: ${history.map(({choice}) => `“${name(choice.id)}” (${percent(choice.probability)})`).join(', ')}.`, {class: 'note'});
}
