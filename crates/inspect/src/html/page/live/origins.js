/* Why a head looks there, for any text: the input of attention is a sum of its sources and, with the norms' scales held
   fixed, so are queries and keys. A stream is a map from a source's name to its part: a row for each
   of `places`. */
function originsAt(plan, seen, set, {layer, head}, places) {
  let stream = streamOf(plan.embedding, seen, places);
  for (let l = 0; l < layer; l++) stream = streamAfter(plan.blocks[l], seen.layers[l], set, l, stream, places);
  const {attention, kind} = plan.blocks[layer], {thetas} = plan.kinds[kind], read = throughNorm(attention.residual.before, stream);
  const turned = (stream, factor) => [...stream.values()].map(rows => rows.map((row, i) => (thetas ? rotated(row, places[i], thetas) : row).map(x => x * factor)));
  const group = Math.floor(head / (attention.n_head / attention.n_kv_head));
  const queries = headOf(read, attention.query, attention.query_norm, head, attention.d_head);
  const keys = headOf(read, attention.key, attention.key_norm, group, attention.d_head);
  return {sources: [...queries.keys()], queries: turned(queries, attention.scale), keys: turned(keys, 1)};
}

const mapped = (stream, change) => new Map([...stream].map(([source, rows]) => [source, change(rows)]));
/* A part is added to those of the same source; the biases stay last. */
function joinPart(stream, source, rows) {
  const known = stream.get(source), biases = stream.get('biases');
  stream.set(source, known ? plus(known, rows) : rows);
  if (!known && biases && source !== 'biases') { stream.delete('biases'); stream.set('biases', biases); }
  return stream;
}
const everywhere = (numbers, places) => places.map(() => Float64Array.from(numbers));

/* Applies a norm to each part, divided by the scale of their sum. */
function throughNorm(norm, stream) {
  if (!norm || stream.size === 0) return stream;
  const whole = [...stream.values()].reduce(plus), gamma = norm.weight.numbers;
  const mean = row => norm.kind === 'layer' ? row.reduce((a, b) => a + b, 0) / row.length : 0;
  const scales = whole.map(row => {
    const m = mean(row);
    return 1 / Math.sqrt(row.reduce((a, b) => a + (b - m) ** 2, 0) / row.length + norm.eps);
  });
  const parts = mapped(stream, rows => rows.map((row, t) => {
    const m = mean(row);
    return row.map((x, i) => (x - m) * scales[t] * (norm.kind === 'rms_plus_one' ? 1 + gamma[i] : gamma[i]));
  }));
  return norm.bias ? joinPart(parts, 'biases', everywhere(norm.bias.numbers, whole)) : parts;
}

/* Projects each part and takes one head of it, after the norm of queries or keys. */
function headOf(stream, {weight, bias}, norm, h, d) {
  const whole = norm && norm.weight.width !== d, n_in = weight.shape[1];
  const rows = whole ? weight : {...weight, shape: [d, n_in], numbers: weight.numbers.subarray(h * d * n_in, (h + 1) * d * n_in)};
  const made = mapped(stream, part => projected({weight: rows}, part));
  if (bias) joinPart(made, 'biases', everywhere(whole ? bias.numbers : bias.numbers.subarray(h * d, (h + 1) * d), [...made.values()][0]));
  const normed_ = throughNorm(norm, made);
  return whole ? mapped(normed_, part => part.map(row => row.slice(h * d, (h + 1) * d))) : normed_;
}

/* The embeddings. */
function streamOf({scale, norm}, seen, places) {
  const stream = new Map(), at = rows => times(places.map(t => rows[t]), scale);
  for (const [source, rows] of [['token', seen.token], ['position', seen.position], ['type', seen.type]]) if (rows) joinPart(stream, source, at(rows));
  return throughNorm(norm, stream);
}
/* The stream after a layer with its settings. */
function streamAfter({attention, feed_forward: inner}, at, set, l, stream, places) {
  if (set.layers.has(l)) return stream;
  const d = attention.d_head, heads = new Map();
  for (let h = 0; h < attention.n_head; h++) {
    const alone = places.map(t => at.contexts[t].map((x, i) => Math.floor(i / d) === h ? x : 0));
    joinPart(heads, `head ${l}.${h}`, attention.output ? projected({weight: attention.output.weight}, alone) : alone);
  }
  if (!attention.output) stream = heads;
  else {
    if (attention.output.bias) joinPart(heads, 'biases', everywhere(attention.output.bias.numbers, places));
    stream = joinedStream(attention.residual, stream, heads);
  }
  if (!inner) return stream;
  if (set.feed_forwards.has(l)) return throughNorm(inner.residual.after, stream);
  const rows = places.map(t => at.ff[t]), bias = inner.down.bias && everywhere(inner.down.bias.numbers, places), result = new Map();
  joinPart(result, `feed-forward ${l}`, bias ? plus(rows, times(bias, -1)) : rows);
  if (bias) joinPart(result, 'biases', bias);
  return joinedStream(inner.residual, stream, result);
}
function joinedStream({branch, multiplier, after, add}, stream, result) {
  const sum = new Map(add ? stream : []);
  for (const [source, rows] of throughNorm(branch, result)) joinPart(sum, source, times(rows, multiplier));
  return throughNorm(after, sum);
}
