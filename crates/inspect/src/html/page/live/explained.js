/* A forward pass in the form of the page's explanation: the same names, every value computed here. */
function explainedBy(base, {plan, words, labels}, ids, set) {
  const seen = forward(plan, ids, set), {kind} = base.head, n = ids.length;
  const position = kind === 'masked_token' ? (ids.includes(words.words.mask) ? ids.indexOf(words.words.mask) : n - 1)
    : kind !== 'classify' ? n - 1 : plan.head.pooling === 'last' ? lastReal(plan.head, ids) : 0;
  const rows = rowsForHead(plan, seen.hidden, ids), asked = rows.length === 1 ? 0 : position, hasHead = plan.head.kind !== 'hidden';
  const logitsAt = once(t => Array.from(logitsOf(plan, readOf(plan.head, [rows[t]]))[0]));
  const text = id => kind === 'classify' ? labels[id] ?? `LABEL_${id}` : words.text(id), piece = id => kind === 'classify' ? text(id) : words.piece(id);
  const next = (logits, most, name = piece) => likeliest(logits, most).map(({id, probability}) => ({id, text: name(id), probability, logit: logits[id]}));
  const saidAt = t => {
    const logits = logitsAt(t), log_sum = logSum(logits), id = kind === 'next_token' ? ids[t + 1] : undefined;
    return {next: next(logits, 5), log_sum, truth: id === undefined ? null : {id, text: piece(id), logit: logits[id], probability: Math.exp(logits[id] - log_sum)}};
  };
  const said = hasHead ? lazily(rows.length, once(saidAt)) : [], answers = hasHead ? next(logitsAt(asked), 8) : [];
  const mask = ({window}) => ids.map((_, q) => ids.map((_, k) => plan.causal && k > q || window && Math.abs(q - k) >= window || set.hidden.has(k) ? '0' : '1').join(''));
  const evenly = hasHead && Math.max(...logitsAt(asked)) - Math.min(...logitsAt(asked)) < 1e-9;
  const data = {
    ...base, ids, position, set, seen, even: evenly, unmasked: kind === 'masked_token' && ids[position] !== words.words.mask, said, next: answers, target: answers[0], target_given: false, gradients: null, update: null, origins: [], originsOf: originsOf(plan, seen, set),
    tokens: ids.map(words.piece), texts: ids.map(words.text), logits: hasHead ? logitsAt(asked) : [], answers: most => hasHead ? next(logitsAt(asked), most, text) : [],
    masks: plan.kinds.map(mask), kinds: plan.blocks.map(block => block.kind), weights: seen.layers.map(layer => layer.weights),
    vectorsOf: plan.relative_bias ? () => undefined : once2((l, h) => vectorsOf(plan.blocks[l], seen.layers[l], h)),
    way: {
      embedding: {...base.way.embedding, opened: embeddingPart(base.way.embedding, plan, seen)},
      layers: base.way.layers.map((part, l) => ({...part, opened: layerPart(part, plan, l, seen)})),
      head: {...base.way.head, opened: headPart(base.way.head, plan, seen, rows)},
    },
    projection: base.projection && {...base.projection, row: id => outputRow(plan, id)},
    knockouts: [],
  };
  const lens = once(() => base.lens.length ? lensOf(base, plan, seen, position, logits => next(logits, 3), answers[0].id) : []);
  return Object.defineProperty(data, 'lens', {get: lens});
}

const once = make => { const kept = new Map(); return key => { if (!kept.has(key)) kept.set(key, make(key)); return kept.get(key); }; };
const once2 = make => { const kept = once(l => once(h => make(l, h))); return (l, h) => kept(l)(h); };
/* An array whose entries are computed on first access. */
const lazily = (n, make) => Object.defineProperties([], Object.fromEntries(Array.from({length: n}, (_, t) => [t, {get: () => make(t), enumerable: true}])));
function logSum(logits) {
  const greatest = Math.max(...logits);
  return greatest + Math.log(logits.reduce((sum, x) => sum + Math.exp(x - greatest), 0));
}
/* The most likely outputs, largest first; on ties the first. */
function likeliest(logits, most) {
  const probabilities = softmax(logits).weights;
  return probabilities.map((probability, id) => ({id, probability})).sort((a, b) => logits[b.id] - logits[a.id] || a.id - b.id).slice(0, most);
}

/* What each layer would predict if the model ended there. */
function lensOf(base, plan, seen, position, next, id) {
  const streams = [seen.x, ...seen.layers.map(layer => layer.z)].slice(-base.lens.length);
  return base.lens.map(({after}, i) => {
    const logits = Array.from(logitsOf(plan, readOf(plan.head, normed(plan.norm, [streams[i][position]])))[0]);
    return {after, next: next(logits), probability: Math.exp(logits[id] - logSum(logits))};
  });
}
/* What the answer loses if a word is hidden: one pass each, run by `each` as time permits. */
function knockoutsOf(plan, ids, set, position, causal, id) {
  const rowAt = hidden => {
    const seen = forward(plan, ids, {...set, hidden}), rows = rowsForHead(plan, seen.hidden, ids);
    const logits = logitsOf(plan, readOf(plan.head, [rows[rows.length === 1 ? 0 : position]]))[0];
    return logits[id] - logSum(Array.from(logits));
  };
  const whole = rowAt(set.hidden);
  return ids.map((_, j) => j).filter(j => j !== position && !(causal && j > position) && !set.hidden.has(j))
    .map(j => () => ({position: j, change: rowAt(new Set([...set.hidden, j])) - whole}));
}

const plainRows = rows => rows && rows.map(row => Array.from(row));
function vectorsOf({attention}, at, h) {
  const g = Math.floor(h / (attention.n_head / attention.n_kv_head));
  return {q: plainRows(at.q[h]), k: plainRows(at.k[g]), v: plainRows(at.v[g]), q0: plainRows(at.q0[h]), k0: plainRows(at.k0[g])};
}

/* The parts of a cell's score, in the form of `packedOrigins`. */
const originsOf = (plan, seen, set) => (layer, head, q, k) => {
  const {sources, queries, keys} = originsAt(plan, seen, set, {layer, head}, [q, k]), table = plan.relative_bias;
  return {sources, parts: queries.map(query => keys.map(key => dot(query[0], key[1]))), bias: table ? rowOf(table, bucket(q, k))[head] : null};
};

/* A part of the computation with its values from `rows` and its parameters from `parameters`, by the names of its formulas. */
function livePart(part, rows, parameters) {
  const equations = Object.fromEntries(part.equations.map(e => [e.name, e]));
  const parameter = once(name => {
    const p = parameters[name] && parameters[name]();
    return p ? p.numbers || p : null;
  });
  return {
    names: part.equations.map(e => e.name),
    has: name => name in equations,
    formula: name => equations[name].formula,
    width: name => equations[name].width,
    rows: once(name => rows[name] ? plainRows(rows[name]()) ?? null : null),
    parameter,
    row: (name, i) => parameters[name] && parameters[name]() ? Array.from(rowOf(parameters[name](), i)) : null,
  };
}
const ofNorm = (mark, norm) => norm ? {
  [`γ${mark}`]: () => norm.kind === 'rms_plus_one' ? norm.weight.numbers.map(x => x + 1) : norm.weight.numbers,
  [`β${mark}`]: () => norm.bias, 'ε': () => [norm.eps],
} : {};
const ofLinear = (weight, bias, linear) => linear ? {[weight]: () => linear.weight, [bias]: () => linear.bias} : {};

function embeddingPart(part, {embedding}, seen) {
  return livePart(part, {token: () => seen.token, position: () => seen.position, type: () => seen.type, sum: () => seen.sum, x: () => seen.x},
    {...ofNorm('', embedding.norm), scale: () => [embedding.scale]});
}
function layerPart(part, plan, l, seen) {
  const block = plan.blocks[l], at = seen.layers[l], {attention, feed_forward: inner} = block, around = attention.residual;
  const direct = ['x', 'norm(x)', 'attention', 'added', 's', 'y', 'up', 'gate', 'inner', 'ff', 'added₂', 't', 'z'];
  const angles = turn => () => at.x.map((_, t) => (plan.kinds[block.kind].thetas || []).map(theta => Math.fround(turn(t * theta))));
  return livePart(part, {
    ...Object.fromEntries(direct.map(name => [name, () => at[name]])),
    'norm₂(x)': () => at.read, 'norm(y)': () => at.read, context: () => at.contexts, contexts: () => at.contexts, cos: angles(Math.cos), sin: angles(Math.sin),
  }, {
    ...ofNorm('₁', around.before || around.after), ...ofNorm('q', attention.query_norm), ...ofNorm('k', attention.key_norm), ...ofNorm('₃', around.branch),
    ...ofNorm('₂', inner && (inner.residual.before || inner.residual.after)), ...ofNorm('₄', inner && inner.residual.branch),
    ...ofLinear('Wq', 'bq', attention.query), ...ofLinear('Wk', 'bk', attention.key), ...ofLinear('Wv', 'bv', attention.value), ...ofLinear('Wo', 'bo', attention.output),
    ...(inner ? {...ofLinear('Wup', 'bup', inner.up), ...ofLinear('Wgate', 'bgate', inner.gate), ...ofLinear('Wdown', 'bdown', inner.down)} : {}),
    multiplier: () => [around.multiplier],
  });
}
function headPart(part, plan, seen, rows) {
  const step = plan.head.kind === 'labels' ? plan.head.step : plan.head.transform, made = once(() => { const made = {}; if (plan.head.kind !== 'hidden') readOf(plan.head, rows, made); return made; });
  return livePart(part, {
    z: () => seen.z, hidden: () => seen.hidden, text: () => rows, dense: () => made().dense, active: () => made().active, read: () => made().read,
  }, {
    ...ofNorm('', plan.norm), ...(step ? {...ofLinear('Wt', 'bt', step.dense), ...ofLinear('Wp', 'bp', step.dense), ...ofNorm('ₜ', step.norm)} : {}),
    divided: () => [1 / (plan.head.divisor || 1)],
  });
}
function outputRow({head, embedding}, id) {
  const weight = head.kind === 'labels' ? head.classifier.weight : head.weight || embedding.token, bias = head.kind === 'labels' ? head.classifier.bias : head.bias;
  return {row: Array.from(rowOf(weight, id)), bias: bias ? bias.numbers[id] : 0, has_bias: Boolean(bias)};
}
