/* The picture with its draggable points, and the updates. */
const SIDE = 440, LEAST = -0.2, MOST = 1.2, FAR = 8;
const toX = x => (x - LEAST) / (MOST - LEAST) * SIDE, toY = y => SIDE - toX(y);

/* The plane of the two numbers: values as dots, their weighted sum as a path, rows of Wout as draggable arrows. */
function buildPlane(svg, {example, change}) {
  const {words, vocabulary, target} = example;
  svg.replaceChildren();
  const grid = draw(svg, 'g', {});
  /* The visible part of the plane: everything in it, and unchanged during a drag. */
  const view = {left: LEAST, bottom: LEAST, size: MOST - LEAST, held: false};
  function frame(points) {
    if (view.held) return;
    const [left, bottom] = [0, 1].map(c => Math.max(-FAR, Math.min(LEAST, ...points.map(point => point[c] - 0.15))));
    const [right, top] = [0, 1].map(c => Math.min(FAR, Math.max(MOST, ...points.map(point => point[c] + 0.15)))), size = Math.max(right - left, top - bottom);
    Object.assign(view, {left, bottom, size});
    const side = size / (MOST - LEAST) * SIDE, zoom = side / SIDE;
    svg.style.setProperty('--zoom', zoom);
    svg.setAttribute('viewBox', `${toX(left)} ${toY(bottom) - side} ${side} ${side}`);
    grid.replaceChildren();
    const ticks = least => Array.from({length: 2 * FAR * 2 + 1}, (_, i) => -FAR + i / 2).filter(at => at > least && at < least + size), named = at => String(at).replace('-', '−');
    ticks(bottom).forEach(at => {
      draw(grid, 'line', {x1: toX(left), x2: toX(left + size), y1: toY(at), y2: toY(at), class: at ? 'grid' : 'axis'});
      if (at) draw(grid, 'text', {x: toX(0) - 6 * zoom, y: toY(at) + 4 * zoom, 'text-anchor': 'end', class: 'tick'}, named(at));
    });
    ticks(left).forEach(at => {
      draw(grid, 'line', {y1: toY(bottom), y2: toY(bottom + size), x1: toX(at), x2: toX(at), class: at ? 'grid' : 'axis'});
      if (at < left + size - 0.1 * zoom) draw(grid, 'text', {x: toX(at) + 4 * zoom, y: toY(0) + 14 * zoom, class: 'tick'}, named(at));
    });
  }
  const under = draw(svg, 'g', {}), path = draw(svg, 'polyline', {class: 'path'}), pull = draw(svg, 'line', {class: 'pull'}), context = draw(svg, 'line', {class: 'context'}), tip = draw(svg, 'circle', {r: 6, class: 'tip'}), label = draw(svg, 'text', {class: 'context-name'}, 'context');
  const dots = words.map(word => ({dot: draw(under, 'circle', {class: 'word'}), name: draw(under, 'text', {class: 'word-name'}, word)}));
  const rows = vocabulary.map((word, i) => {
    const line = draw(svg, 'line', {class: word === target ? 'row true' : 'row'});
    const grip = draw(svg, 'circle', {r: 9, class: word === target ? 'grip true' : 'grip', tabindex: 0, role: 'button', id: `row-${i}`, 'aria-roledescription': 'draggable point'});
    const name = draw(svg, 'text', {class: 'row-name'}, word);
    const move = (x, y) => change(numbers => { numbers.wout[i] = [[x, view.left], [y, view.bottom]].map(([v, least]) => Math.min(least + view.size, Math.max(least, v))); });
    grip.onlostpointercapture = () => { view.held = false; };
    grip.onpointerdown = event => { grip.setPointerCapture(event.pointerId); view.held = true; event.preventDefault(); grip.focus(); };
    grip.onpointermove = event => {
      if (!grip.hasPointerCapture(event.pointerId)) return;
      const box = svg.getBoundingClientRect(), scale = view.size / box.width;
      move(view.left + (event.clientX - box.left) * scale, view.bottom + view.size - (event.clientY - box.top) * scale);
    };
    grip.onkeydown = event => {
      const by = {ArrowUp: [0, 1], ArrowDown: [0, -1], ArrowLeft: [-1, 0], ArrowRight: [1, 0]}[event.key];
      if (!by) return;
      event.preventDefault();
      change(numbers => { numbers.wout[i] = numbers.wout[i].map((v, c) => v + 0.02 * by[c]); });
    };
    return {line, grip, name};
  });
  const line = (element, [x1, y1], [x2, y2]) => Object.entries({x1: toX(x1), y1: toY(y1), x2: toX(x2), y2: toY(y2)}).forEach(([key, v]) => element.setAttribute(key, v));
  const put = (element, x, y) => { element.setAttribute(element.tagName === 'circle' ? 'cx' : 'x', x); element.setAttribute(element.tagName === 'circle' ? 'cy' : 'y', y); };
  return ({numbers, pass}) => {
    frame([...numbers.values, ...numbers.wout, pass.context]);
    const zoom = view.size / (MOST - LEAST);
    dots.forEach(({dot, name}, i) => {
      const [x, y] = numbers.values[i];
      put(dot, toX(x), toY(y));
      dot.setAttribute('r', zoom * (3 + 9 * Math.sqrt(pass.weights[i])));
      put(name, toX(x) + zoom * (8 + 8 * Math.sqrt(pass.weights[i])), toY(y) - 6 * zoom);
    });
    let at = [0, 0];
    const corners = [at, ...pass.contributions.map(row => at = at.map((v, c) => v + row[c]))];
    path.setAttribute('points', corners.map(([x, y]) => `${toX(x)},${toY(y)}`).join(' '));
    line(context, [0, 0], pass.context);
    put(tip, toX(pass.context[0]), toY(pass.context[1]));
    put(label, toX(pass.context[0]) - 12 * zoom, toY(pass.context[1]) - 12 * zoom);
    line(pull, pass.context, pass.context.map((v, c) => v - 0.45 * pass.gradients.context[c]));
    rows.forEach(({line: element, grip, name}, i) => {
      const [x, y] = numbers.wout[i];
      line(element, [0, 0], [x, y]);
      put(grip, toX(x), toY(y));
      grip.setAttribute('aria-label', `row of ${vocabulary[i]} in Wout: ${pair(numbers.wout[i], 2)}; arrow keys move it`);
      put(name, toX(x) + 13 * zoom, toY(y) + 5 * zoom);
    });
  };
}

function playToy(page) {
  let example, numbers, pass, truth, history, show, timer = null;
  const rate = page.learning_rate;
  /* Applies a user's change: everything that depends on it is updated, and learning restarts from there. */
  function change(by) {
    stop();
    by(numbers);
    history = [];
    refresh();
  }
  function refresh() {
    pass = passOf(numbers, truth);
    if (!history.length || history[history.length - 1].numbers !== numbers) history.push({numbers, probabilities: pass.probabilities, loss: pass.loss});
    show.forEach(one => one({numbers, pass}));
    showHead();
    showLearning();
  }
  const isRight = () => pass.predicted === truth;
  function showHead() {
    const line = $('sentence'), said = example.vocabulary[pass.predicted];
    line.replaceChildren();
    example.words.forEach((word, i) => add(line, 'span', word, {class: i === example.words.length - 1 ? 'chip asked' : 'chip'}));
    add(line, 'span', '→', {class: 'arrow', 'aria-label': 'the model says'});
    add(line, 'span', said, {class: isRight() ? 'chip answer' : 'chip wrong'});
    const p = i => percent(pass.probabilities[i]);
    $('verdict').textContent = isRight() ? `Right: it says “${said}” (${p(truth)}).` : `It says “${said}” (${p(pass.predicted)}); the true word is “${example.target}” (${p(truth)}).`;
    $('at').textContent = `${many(history.length - 1, 'update')} · loss ${fixed(pass.loss)}`;
    $('update').disabled = $('play').disabled = false;
    $('play').hidden = isRight() && !timer;
    $('play').textContent = timer ? '❚❚ Pause' : `▶ Until it says “${example.target}”`;
  }
  function showLearning() {
    const steps = history.map((_, i) => i), of = i => history.map(h => h.probabilities[i]), now = history.length - 1, rival = example.vocabulary.indexOf(example.predicted);
    $('curves').replaceChildren();
    $('learning-note').textContent = now === 0
      ? `One update moves scores, values and Wout by −${rate} × gradient. Press the button above and watch the context vector turn towards the row of “${example.target}”.`
      : `After ${many(now, 'update')} the angle between the context vector and the row that “${example.target}” started with is ${fixed(angleOf(pass.context, example.wout[truth]), 1)}°.`;
    if (now === 0) return;
    const all = [...of(truth), ...of(rival)], least = Math.floor(Math.min(...all) * 20) / 20, most = Math.ceil(Math.max(...all) * 20) / 20;
    curve($('curves'), `probability of “${example.target}”`, steps, of(truth), least, most, now);
    curve($('curves'), `probability of “${example.predicted}”`, steps, of(rival), least, most, now);
  }
  function update() {
    numbers = updatedBy(numbers, pass.gradients, rate);
    refresh();
  }
  function stop() { clearInterval(timer); timer = null; }
  function begin(i) {
    stop();
    example = page.examples[i];
    truth = example.vocabulary.indexOf(example.target);
    numbers = numbersOf(example);
    history = [];
    show = [buildSteps({example, change}), buildPlane($('plane'), {example, change})];
    $('goal').textContent = `The row of the true word, “${example.target}”, is the bold one.`;
    refresh();
  }
  $('update').onclick = () => { stop(); update(); };
  $('back').onclick = () => begin(Number($('which').value));
  $('play').onclick = () => {
    if (timer) stop();
    else timer = setInterval(() => { update(); if (isRight() || history.length > 1000) stop(); showHead(); }, 250);
    showHead();
  };
  page.examples.forEach((one, i) => add($('which'), 'option', `${one.words.join(' ')} → ${one.target}`, {value: i}));
  $('which').onchange = () => begin(Number($('which').value));
  begin(0);
  /* For tests and experiments. */
  window.vulpes = {numbers: () => numbers, pass: () => pass, updates: () => history.length - 1};
}
playToy(JSON.parse($('data').textContent));
