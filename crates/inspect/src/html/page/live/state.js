/* The user's changes, and the URL fragment that holds them: #text=…&off=…&set=…&hide=…&temp=…&k=…&seed=… */
const freshState = text => ({text, heads: new Set(), layers: new Set(), feed_forwards: new Set(), edits: new Map(), hidden: new Set(), temperature: 1, top_k: 0, seed: 1});

function addressOf(state, fresh) {
  const address = new URLSearchParams();
  if (state.text !== fresh.text) address.set('text', state.text);
  const off = [...[...state.heads], ...[...state.layers].map(l => `layer${l}`), ...[...state.feed_forwards].map(l => `ff${l}`)];
  if (off.length) address.set('off', off.join(','));
  if (state.edits.size) address.set('set', [...state.edits].map(([place, w]) => `${place}:${+w.toFixed(4)}`).join(','));
  if (state.hidden.size) address.set('hide', [...state.hidden].join(','));
  if (state.temperature !== 1) address.set('temp', state.temperature);
  if (state.top_k) address.set('k', state.top_k);
  if (state.seed !== 1) address.set('seed', state.seed);
  return address.toString();
}

/* The state of a URL fragment, and what of it doesn't fit this model, in words. */
function stateOf(address, fresh, plan) {
  const state = freshState(fresh.text), faults = [], given = new URLSearchParams(address), n_layer = plan.blocks.length;
  const list = key => (given.get(key) || '').split(',').filter(Boolean);
  const number = (text, least, most) => text !== '' && Number(text) >= least && Number(text) <= most ? Number(text) : (faults.push(text), null);
  const isHead = (l, h) => plan.blocks[l] !== undefined && /^\d+$/.test(h) && h < plan.blocks[l].attention.n_head;
  if (given.has('text')) state.text = given.get('text');
  list('off').forEach(part => {
    const [, word, l, h] = /^(layer|ff|)(\d+)(?:\.(\d+))?$/.exec(part) || [];
    if (word === '' && h !== undefined && isHead(l, h)) state.heads.add(`${+l}.${+h}`);
    else if (word === 'layer' && h === undefined && l < n_layer) state.layers.add(+l);
    else if (word === 'ff' && h === undefined && l < n_layer && plan.blocks[l].feed_forward) state.feed_forwards.add(+l);
    else faults.push(part);
  });
  list('set').forEach(part => {
    const [, place, l, h, w] = /^((\d+)\.(\d+)\.\d+\.\d+):([\d.]+)$/.exec(part) || [];
    const weight = place && isHead(l, h) ? number(w, 0, 1) : (faults.push(part), null);
    if (weight !== null) state.edits.set(place, weight);
  });
  list('hide').forEach(t => { const place = number(t, 0, plan.context_len - 1); if (place !== null) state.hidden.add(place); });
  if (given.has('temp')) state.temperature = number(given.get('temp'), 0, 2) ?? 1;
  if (given.has('k')) state.top_k = Math.floor(number(given.get('k'), 0, plan.n_output) ?? 0);
  if (given.has('seed')) state.seed = Math.floor(number(given.get('seed'), 0, 2 ** 32 - 1) ?? 1);
  return {state, faults};
}

/* Where each token of one text is in another: those before the first difference, and those after the last. */
function movedPlaces(from, to) {
  let before = 0, after = 0;
  while (before < Math.min(from.length, to.length) && from[before] === to[before]) before++;
  while (after < Math.min(from.length, to.length) - before && from[from.length - 1 - after] === to[to.length - 1 - after]) after++;
  return t => t < before ? t : t >= from.length - after ? t + to.length - from.length : null;
}
/* Hidden words and set weights follow their words: `place` returns where a token is now, null if nowhere, or the tokens that its
   word consists of now. A weight is dropped if one of its words can no longer see the other. */
function follow(state, place, causal) {
  state.hidden = new Set([...state.hidden].flatMap(t => place(t)).filter(t => t !== null));
  const kept = [...state.edits].map(([key, w]) => {
    const [l, h, q, k] = key.split('.').map(Number), [to_q, to_k] = [place(q), place(k)], isThere = [to_q, to_k].every(t => typeof t === 'number');
    return !isThere || causal && to_k > to_q ? null : [`${l}.${h}.${to_q}.${to_k}`, w];
  });
  state.edits = new Map(kept.filter(Boolean));
}

/* Each change in words, with a function that undoes it. */
function changesOf(state, fresh, {name, hidden}) {
  const changes = [], one = (text, undo) => changes.push({text, undo});
  if (state.text !== fresh.text) one(state.text.trim() === '' ? 'no text' : `text: “${state.text.length > 40 ? '…' + state.text.slice(-40) : state.text}”`, () => { state.text = fresh.text; state.hidden.clear(); state.edits.clear(); });
  state.layers.forEach(l => one(`layer ${l} off`, () => state.layers.delete(l)));
  state.heads.forEach(place => one(`head ${place.split('.')[1]} of layer ${place.split('.')[0]} off`, () => state.heads.delete(place)));
  state.feed_forwards.forEach(l => one(`feed-forward of layer ${l} off`, () => state.feed_forwards.delete(l)));
  hidden().forEach(word => one(`${word.name} hidden`, () => word.tokens.forEach(t => state.hidden.delete(t))));
  state.edits.forEach((w, key) => { const [, , q, k] = key.split('.'); one(`${name(q)} looks at ${name(k)}: ${fixed(w, 2)}`, () => state.edits.delete(key)); });
  if (state.temperature !== 1) one(`temperature ${state.temperature}`, () => { state.temperature = 1; });
  if (state.top_k) one(`only the ${state.top_k} most likely`, () => { state.top_k = 0; });
  return changes;
}
