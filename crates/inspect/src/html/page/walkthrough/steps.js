/* The six steps as cards. Each is built once; it returns a function that shows the values of a pass. */
const pair = (row, n = 3) => `[${row.map(x => fixed(x, n)).join(', ')}]`;
function stepCard(number, title) {
  const box = add($('steps'), 'li', null, {id: `step-${number}`}), head = add(box, 'h3');
  add(head, 'b', `Step ${number}`);
  head.append(title);
  return box;
}
/* A number that can be typed, or changed with the arrow keys. */
function numberField(parent, label, step, set) {
  const field = add(parent, 'input', null, {type: 'number', step, 'aria-label': label, class: 'number'});
  field.oninput = () => { if (field.value !== '' && Number.isFinite(field.valueAsNumber)) set(field.valueAsNumber); };
  return x => { if (document.activeElement !== field) field.value = +x.toFixed(3); };
}
/* Two numbers of a row. */
function pairFields(row, label, set) {
  const cell = add(row, 'td', null, {class: 'pair'});
  const show = [0, 1].map(c => numberField(cell, `${label}, number ${c + 1}`, 0.05, x => set(c, x)));
  return values => values.forEach((x, c) => show[c](x));
}

function buildSteps({example, change}) {
  const {words, vocabulary, target} = example, shows = [], truth = vocabulary.indexOf(target);
  $('steps').replaceChildren();
  const tableIn = (box, titles, options = {}) => header(add(add(box, 'div', null, {class: 'scroll'}), 'table', null, {class: 'bars', ...options}), titles);

  let box = stepCard(1, 'Get Embeddings');
  say(box, 'Each word comes in as a vector, here of two numbers. The embeddings are the values *V*, too, as if Wv changed nothing.');
  let body = tableIn(box, ['word', 'embedding = V']);
  words.forEach((word, i) => {
    const row = add(body, 'tr');
    add(row, 'td', word);
    const show = pairFields(row, `embedding of ${word}`, (c, x) => change(numbers => { numbers.values[i][c] = x; }));
    shows.push(({numbers}) => show(numbers.values[i]));
  });

  box = stepCard(2, 'Compute Attention');
  say(box, `Attention gives each word a weight: how much it matters for what comes after ${quote(words[words.length - 1])}. The weights sum to 1: *move one*, and the others share the rest.`);
  body = tableIn(box, ['word', 'weight α', '', 'score ln α']);
  words.forEach((word, i) => {
    const row = add(body, 'tr'), name = add(row, 'td', word), number = add(row, 'td');
    const slide = add(add(row, 'td', null, {class: 'wide'}), 'input', null, {type: 'range', min: 0.005, max: 0.98, step: 0.005, id: `weight-${i}`, 'aria-label': `weight of ${word}`}), score = add(row, 'td');
    slide.oninput = () => change(numbers => Object.assign(numbers, withWeight(numbers, i, Number(slide.value))));
    shows.push(({pass, numbers}) => {
      if (document.activeElement !== slide || Math.abs(slide.value - pass.weights[i]) > 0.004) slide.value = pass.weights[i];
      slide.setAttribute('aria-valuetext', fixed(pass.weights[i], 3));
      heat(name, pass.weights[i]);
      number.textContent = fixed(pass.weights[i], 4);
      score.textContent = fixed(numbers.scores[i], 4);
    });
  });

  box = stepCard(3, 'Compute Weighted Sum (Context Vector)');
  say(box, 'Each word contributes its V times its weight. Head to tail they make the path in the picture; its end is *the context vector*.');
  body = tableIn(box, ['word', 'weight × V', 'gives'], {id: 'sums'});
  words.forEach((word, i) => {
    const row = add(body, 'tr'), [product, gives] = (add(row, 'td', word), [add(row, 'td'), add(row, 'td')]);
    shows.push(({pass, numbers}) => { product.textContent = `${fixed(pass.weights[i], 3)} × ${pair(numbers.values[i])}`; gives.textContent = pair(pass.contributions[i]); });
  });
  const total = add(body, 'tr', null, {class: 'total result'}), context = (add(total, 'td', 'context'), add(total, 'td', 'sum'), add(total, 'td', null, {id: 'context'}));
  shows.push(({pass}) => { context.textContent = pair(pass.context, 4); context.dataset.value = JSON.stringify(pass.context); });

  box = stepCard(4, 'Output Projection');
  say(box, 'Each word that could come next has a row in *Wout*. Its logit is the dot product of the context vector with that row: large if both point in the same direction. *Drag a row* in the picture, or type its numbers.');
  body = tableIn(box, ['word', 'row of Wout', 'row · context', 'logit'], {id: 'logits'});
  vocabulary.forEach((word, i) => {
    const row = add(body, 'tr');
    add(row, 'td', word);
    const show = pairFields(row, `row of ${word} in Wout`, (c, x) => change(numbers => { numbers.wout[i][c] = x; })), product = add(row, 'td'), logit = add(row, 'td');
    shows.push(({pass, numbers}) => {
      show(numbers.wout[i]);
      product.textContent = numbers.wout[i].map((w, c) => `${fixed(w, 2)}×${fixed(pass.context[c], 3)}`).join(' + ');
      logit.textContent = fixed(pass.logits[i]);
      row.classList.toggle('result', i === pass.predicted);
    });
  });

  box = stepCard(5, 'Softmax → Prediction');
  say(box, 'exp(logit), divided by the sum of all four, makes probabilities that sum to 1.');
  body = tableIn(box, ['word', 'exp(logit)', 'probability', ''], {id: 'next'});
  vocabulary.forEach((word, i) => {
    const row = add(body, 'tr'), name = add(row, 'td', word), power = add(row, 'td'), number = add(row, 'td'), of = bar(row, 0).firstChild;
    if (i === truth) add(name, 'small', ' true word');
    shows.push(({pass}) => {
      power.textContent = fixed(Math.exp(pass.logits[i]));
      number.textContent = fixed(pass.probabilities[i]);
      of.style.width = `${100 * pass.probabilities[i]}%`;
      row.classList.toggle('result', i === pass.predicted);
    });
  });
  const says = say(box, '', {id: 'predicted'});
  shows.push(({pass}) => { says.textContent = `Predicted word = “${vocabulary[pass.predicted]}” (highest score).`; });

  box = stepCard(6, 'Backpropagation');
  const loss = say(box, '', {class: 'formula'});
  shows.push(({pass}) => { loss.textContent = `Loss = −ln(probability of “${target}”) = −ln(${fixed(pass.probabilities[truth])}) = ${fixed(pass.loss)}`; });
  say(box, 'The gradient says for each value how the loss grows with it; an update goes the other way. From the end to the beginning:');
  body = tableIn(box, ['gradient of', 'word', 'value'], {id: 'gradients'});
  const gradient = (what, word, of) => {
    const row = add(body, 'tr'), cells = [what, word].map(text => add(row, 'td', text)), value = add(row, 'td');
    cells[1].style.textAlign = 'left';
    shows.push(({pass}) => { const x = of(pass.gradients); value.textContent = Array.isArray(x) ? pair(x, 4) : fixed(x); });
  };
  const each = (what, names, of) => names.forEach((word, i) => gradient(i ? '' : what, word, all => of(all)[i]));
  each('logits', vocabulary, all => all.logits);
  each('Wout', vocabulary, all => all.wout);
  gradient('context', '', all => all.context);
  each('values V', words, all => all.values);
  each('weights α', words, all => all.weights);
  each('scores Q·K', words, all => all.scores);
  say(box, 'If attention looks at the wrong word, gradients flow into the scores, and through them into *Wq and Wk*. If the content of a word misleads, they flow into the values, and so into *Wv* and the embeddings.');
  return state => shows.forEach(show => show(state));
}
