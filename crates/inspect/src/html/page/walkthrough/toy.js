/* The worked example: from attention weights to a prediction, back to every gradient, then repeated updates. */
const rowsCopied = rows => rows.map(row => row.slice());
const numbersOf = example => ({scores: example.scores.slice(), values: rowsCopied(example.embeddings), wout: rowsCopied(example.wout)});

/* Forward: weights = softmax(scores), context = Σ weight × value, logits = Wout @ context, probabilities = softmax(logits). */
function passOf({scores, values, wout}, target) {
  const {weights} = softmax(scores), contributions = values.map((v, i) => v.map(x => weights[i] * x));
  const context = [0, 1].map(c => contributions.reduce((sum, row) => sum + row[c], 0));
  const logits = wout.map(row => dot(row, context)), {weights: probabilities} = softmax(logits);
  const predicted = probabilities.indexOf(Math.max(...probabilities)), loss = -Math.log(probabilities[target]);
  return {weights, contributions, context, logits, probabilities, predicted, loss, gradients: backward({values, wout}, {weights, context, probabilities}, target)};
}

/* Backward: the derivative of the loss with respect to each quantity, from the end to the beginning. */
function backward({values, wout}, {weights, context, probabilities}, target) {
  const logits = probabilities.map((p, i) => p - (i === target ? 1 : 0));
  const context_ = [0, 1].map(c => logits.reduce((sum, d, i) => sum + d * wout[i][c], 0));
  const of_weights = values.map(v => dot(context_, v)), mean = dot(weights, of_weights);
  return {
    logits,
    wout: logits.map(d => context.map(x => d * x)),
    context: context_,
    values: weights.map(w => context_.map(d => w * d)),
    weights: of_weights,
    scores: weights.map((w, i) => w * (of_weights[i] - mean)),
  };
}

/* One update: every parameter moves against its gradient. */
function updatedBy({scores, values, wout}, gradients, rate) {
  const moved = (rows, by) => rows.map((row, i) => row.map((x, c) => x - rate * by[i][c]));
  return {scores: scores.map((s, i) => s - rate * gradients.scores[i]), values: moved(values, gradients.values), wout: moved(wout, gradients.wout)};
}

/* A weight set by hand: the others share the rest in their old proportion. The scores are such that softmax yields these weights. */
function withWeight(numbers, i, weight) {
  const {weights} = softmax(numbers.scores), w = Math.min(0.98, Math.max(0.005, weight)), rest = 1 - weights[i];
  return {...numbers, scores: weights.map((other, j) => Math.log(j === i ? w : other * (1 - w) / rest))};
}
const angleOf = (a, b) => Math.acos(Math.max(-1, Math.min(1, dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))))) * 180 / Math.PI;
