/* The forward pass, from words to the next word, in nine steps. Every row belongs to one token; nothing is omitted.
   `set` holds the changes: {heads, layers, feed_forwards: switched off, edits: weights set by hand,
   hidden: positions hidden from all others}. */
const AS_TRAINED = {heads: new Set(), layers: new Set(), feed_forwards: new Set(), edits: new Map(), hidden: new Set()};

function forward(plan, ids, set = AS_TRAINED) {
  const seen = {layers: []};
  /* Step 1: get the embeddings. */
  let x = embedded(plan, ids, seen);
  for (const [l, block] of plan.blocks.entries()) {
    const at = seen.layers[l] = {x}, {attention, feed_forward} = block;
    /* Steps 2 to 6: each word looks at the others; step 7: what it found is projected back and added. */
    const context = attend(plan, block, l, x, set, at);
    let z = context;
    if (attention.output) {
      at.attention = projected(attention.output, context);
      z = at.y = joined(attention.residual, x, at.attention, at, ['added', 's']);
    }
    /* Step 8: the feed-forward transforms each word separately. */
    if (feed_forward) {
      const read = block.parallel ? x : z, norm = block.shared_norm ? attention.residual.before : feed_forward.residual.before;
      at.read = normed(norm, read);
      at.up = projected(feed_forward.up, at.read);
      at.gate = feed_forward.gate && projected(feed_forward.gate, at.read);
      at.inner = at.gate
        ? activated(feed_forward.activation, at.gate).map((row, t) => row.map((g, i) => g * at.up[t][i]))
        : activated(feed_forward.activation, at.up);
      at.ff = projected(feed_forward.down, at.inner);
      z = set.feed_forwards.has(l) ? normed(feed_forward.residual.after, z) : joined(feed_forward.residual, z, at.ff, at, ['added₂', 't']);
    }
    /* A layer that is switched off outputs its input. */
    x = at.z = set.layers.has(l) ? x : z;
  }
  seen.z = x;
  seen.hidden = normed(plan.norm, x);
  /* Step 9: the head computes logits from the last vectors, one for each possible word: `logitsOf`. */
  return seen;
}

/* Step 1. The sum of a word's embedding, its position's and its type's. */
function embedded({embedding, counts_from}, ids, seen) {
  const {token, position, token_type, scale, norm} = embedding;
  let counted = counts_from;
  const places = ids.map((id, t) => counts_from === null ? t : id === counts_from ? counts_from : ++counted);
  seen.token = ids.map(id => Float64Array.from(rowOf(token, id)));
  seen.position = position && places.map(place => Float64Array.from(rowOf(position, place)));
  seen.type = token_type && ids.map(() => Float64Array.from(rowOf(token_type, 0)));
  let sum = seen.token;
  for (const more of [seen.position, seen.type]) if (more) sum = plus(sum, more);
  seen.sum = times(sum, scale);
  return seen.x = normed(norm, seen.sum);
}

/* Steps 2 to 6: the context vectors of all heads, concatenated. */
function attend(plan, block, l, x, set, at) {
  const {attention, kind} = block, {d_head: d, n_head, n_kv_head, scale} = attention, {thetas, window} = plan.kinds[kind];
  /* Step 2: the norm, if the model has one here. */
  const read = at['norm(x)'] = normed(attention.residual.before, x);
  /* Step 3: queries, keys and values; split into heads, normed and rotated where the model does so. */
  const headsOf = (rows, n) => Array.from({length: n}, (_, h) => rows.map(row => row.slice(h * d, (h + 1) * d)));
  const made = (projection, norm, n) => {
    const rows = projected(projection, read), whole = norm && norm.weight.width !== d;
    const heads = headsOf(whole ? normed(norm, rows) : rows, n);
    const unturned = norm && !whole ? heads.map(head => normed(norm, head)) : heads;
    return {unturned, turned: thetas ? unturned.map(head => head.map((row, t) => rotated(row, t, thetas))) : unturned};
  };
  const q = made(attention.query, attention.query_norm, n_head), k = made(attention.key, attention.key_norm, n_kv_head);
  at.v = headsOf(projected(attention.value, read), n_kv_head);
  Object.assign(at, {q: q.turned, k: k.turned, q0: q.unturned, k0: k.unturned, weights: [], computed: []});
  const may = (i, j) => !(plan.causal && j > i) && !(window && Math.abs(i - j) >= window) && !set.hidden.has(j);
  const contexts = x.map(() => new Float64Array(n_head * d));
  for (let h = 0; h < n_head; h++) {
    const group = Math.floor(h / (n_head / n_kv_head)), bias = plan.relative_bias;
    at.computed[h] = x.map((_, i) => {
      /* Step 4: scores, how well each key fits the query. */
      const scores = x.map((_, j) => may(i, j) ? dot(at.q[h][i], at.k[group][j]) * scale + (bias ? rowOf(bias, bucket(i, j))[h] : 0) : null);
      /* Step 5: softmax over the row: weights that sum to 1. */
      return softmax(scores).weights;
    });
    at.weights[h] = at.computed[h].map((row, i) => edited(row, set.edits, `${l}.${h}.${i}`, j => may(i, j)));
    /* Step 6: the context vector, the sum of every word's value times its weight. A head that is off gives zeros. */
    if (set.heads.has(`${l}.${h}`)) continue;
    contexts.forEach((context, i) => at.weights[h][i].forEach((w, j) => {
      if (w) for (let c = 0; c < d; c++) context[h * d + c] += w * at.v[group][j][c];
    }));
  }
  return at.contexts = contexts;
}

/* A row of weights with those set by hand; the others share the rest in their old proportion. */
function edited(row, edits, place, may) {
  const set = row.map((_, j) => edits.get(`${place}.${j}`)).map((w, j) => may(j) ? w : undefined);
  if (set.every(w => w === undefined)) return row;
  const fixed_sum = set.reduce((sum, w) => sum + (w || 0), 0);
  const free = row.map((_, j) => j).filter(j => set[j] === undefined && may(j)), rest = free.reduce((sum, j) => sum + row[j], 0);
  const left = Math.max(0, 1 - fixed_sum), shrink = fixed_sum > 1 || free.length === 0 && fixed_sum > 0 ? fixed_sum : 1;
  return row.map((w, j) => !may(j) ? 0 : set[j] !== undefined ? set[j] / shrink : rest > 0 ? w * left / rest : left / free.length);
}

/* Step 7. A sublayer's result, combined with its input: [norm of] x + factor × [norm of] result. */
function joined({branch, multiplier, after, add}, x, result, at, [name, sum]) {
  const added = at[name] = times(normed(branch, result), multiplier);
  at[sum] = add ? plus(x, added) : added;
  return normed(after, at[sum]);
}

/* Step 9. The input of the head's last matrix, and its logits. */
function readOf(head, rows, seen = {}) {
  const step = head.kind === 'labels' ? head.step : head.transform;
  if (step) {
    seen.dense = projected(step.dense, rows);
    seen.active = activated(step.activation, seen.dense);
    rows = normed(step.norm, seen.active);
  }
  return seen.read = head.divisor ? times(rows, 1 / head.divisor) : rows;
}
function logitsOf({head, embedding}, rows) {
  if (head.kind === 'labels') return projected(head.classifier, rows);
  const logits = projected({weight: head.weight || embedding.token, bias: head.bias}, rows), cap = head.softcap;
  return cap ? logits.map(row => row.map(x => cap * Math.tanh(x / cap))) : logits;
}
/* The rows of hidden states that the head reads: a classifier has one. */
function rowsForHead({head}, hidden, ids) {
  if (head.kind !== 'labels') return hidden;
  if (head.pooling === 'mean') return [hidden[0].map((_, i) => hidden.reduce((sum, row) => sum + row[i], 0) / hidden.length)];
  return [hidden[head.pooling === 'first' ? 0 : lastReal(head, ids)]];
}
const lastReal = (head, ids) => Math.max(0, ids.findLastIndex(id => id !== head.pad_id));
