function playFilm(film) {
  const slider = $('step'), choice = $('probe'), frames = film.frames;
  slider.max = frames.length - 1;
  film.probes.forEach((probe, i) => add(choice, 'option', probe.text, {value: i}));
  $('choice').hidden = film.probes.length < 2;
  function show() {
    const now = Number(slider.value), frame = frames[now], which = Number(choice.value || 0);
    const probe = film.probes[which], seen = frame.probes[which], names = probe.tokens.map(shown);
    const loss = frame.val_loss === null ? '' : ` · validation loss ${fixed(frame.val_loss, 3)}`;
    $('at').textContent = `step ${frame.step} of ${frames[frames.length - 1].step}${loss}`;
    const right = seen.next[0].id === probe.target, line = $('sentence');
    line.replaceChildren();
    names.forEach((name, t) => add(line, 'span', name, {class: t === probe.position ? 'chip asked' : 'chip'}));
    add(line, 'span', '→', {class: 'arrow', 'aria-label': 'the model says'});
    add(line, 'span', bare(seen.next[0].text), {class: right ? 'chip answer' : 'chip wrong'});
    $('verdict').textContent = right ? `Right: the true word is “${bare(probe.answer)}”.` : `Wrong: the true word is “${bare(probe.answer)}”.`;
    $('next').replaceChildren();
    const body = header($('next'), ['word', 'probability', '']);
    const listed = seen.next.some(next => next.id === probe.target) ? seen.next : [...seen.next.slice(0, 4), {id: probe.target, text: probe.answer, probability: seen.probability}];
    listed.forEach(next => {
      const row = add(body, 'tr', null, next.id === probe.target ? {class: 'result'} : {});
      add(row, 'td', shown(next.text));
      add(row, 'td', fixed(next.probability));
      bar(row, next.probability);
    });
    const of = frames.map(f => ({step: f.step, ...f.probes[which]})), steps = of.map(f => f.step);
    $('curves').replaceChildren();
    curve($('curves'), `probability of “${bare(probe.answer)}”`, steps, of.map(f => f.probability), 0, 1, now);
    const turns = of.every(f => f.angle !== null && f.length !== undefined);
    $('way').hidden = !turns;
    if (turns) {
      $('fan').replaceChildren();
      fan($('fan'), of, bare(probe.answer), now);
      curve($('curves'), `angle between that vector and the row of “${bare(probe.answer)}”`, steps, of.map(f => f.angle), 0, Math.ceil(Math.max(90, ...of.map(f => f.angle)) / 10) * 10, now, '°');
    }
    const mask = probe.tokens.map((_, q) => probe.tokens.map((_, k) => k <= q || seen.attentions[0][0][q][k] > 0 ? '1' : '0').join(''));
    $('legend').replaceChildren();
    legend($('legend'), mask.some(row => row.includes('0')));
    const place = $('heads'), [n_layer, n_head] = [seen.attentions.length, seen.attentions[0].length];
    place.replaceChildren();
    place.className = n_layer * n_head <= 4 && names.length <= 8 ? 'large' : 'small';
    place.style.gridTemplateColumns = `repeat(${place.className === 'large' ? Math.min(n_head, 2) : n_head}, max-content)`;
    seen.attentions.forEach((layer, l) => layer.forEach((weights, h) => {
      const box = add(place, 'figure');
      if (place.className === 'large') mapTable(add(box, 'table'), names, mask, weights);
      else drawMap(add(box, 'canvas', null, {role: 'img', 'aria-label': `layer ${l}, head ${h}`}), weights, mask);
      add(box, 'figcaption', n_layer * n_head === 1 ? `entropy ${fixed(seen.entropies[l][h], 2)}` : `layer ${l}, head ${h}: ${fixed(seen.entropies[l][h], 2)}`);
    }));
  }
  slider.oninput = choice.onchange = show;
  let timer = null;
  const stop = () => { clearInterval(timer); timer = null; $('play').textContent = '▶ Play'; };
  $('play').onclick = () => {
    if (timer) return stop();
    if (Number(slider.value) >= frames.length - 1) slider.value = 0;
    $('play').textContent = '❚❚ Pause';
    show();
    timer = setInterval(() => {
      slider.value = Number(slider.value) + 1;
      show();
      if (Number(slider.value) >= frames.length - 1) stop();
    }, Math.max(120, Math.min(700, 9000 / frames.length)));
  };
  slider.value = 0;
  show();
}
playFilm(JSON.parse($('film').textContent));
