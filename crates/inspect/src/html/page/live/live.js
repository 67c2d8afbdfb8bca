/* The live page: everything typed, switched or set goes through the model at once. */
function liven(page, explained) {
  const plan = planted(page.live.plan, unpacked(page.live)), words = tokenizerOf(page.live.words), kind = page.head.kind;
  const model = {plan, words, labels: page.live.labels}, {before, after, mask, start, unk} = words.words, continued = kind === 'next_token';
  const isOutput = kind === 'classify' ? id => model.labels[id] ?? `LABEL_${id}` : id => bare(words.piece(id));
  /* The ids of a text in its frame, as many as the model reads. */
  function idsOf(text) {
    if (text === fresh.text) return page.ids;
    const inner = words.encode(text), end = continued ? [] : after;
    if (inner.length + before.length + end.length === 0) return start === null ? [] : [start];
    const ids = [...before, ...inner], most = plan.context_len - end.length;
    return continued ? ids.slice(-most) : [...ids.slice(0, most), ...end];
  }
  const framed = {first: before.length, last: continued ? 0 : after.length};
  const textOf = ids => words.decode(ids.slice(framed.first, ids.length - framed.last));
  const isFramed = before.every((id, i) => page.ids[i] === id) && page.ids.length >= framed.first + framed.last;
  if (!isFramed) framed.first = framed.last = 0;
  const fresh = freshState(textOf(page.ids));
  let state = freshState(fresh.text), now, ids = page.ids, pinned = null, as_it_is = {}, history = [], version = 0, waiting;

  const words_shown = wordButtons($('words'), $('word-tools'), {state: () => state, changed: () => changed(), rewrite, retype: typed, words, page});
  const name = t => words_shown.name(t);
  const showSwitches = partSwitches($('switches'), {plan, state: () => state, changed: () => changed(), page});
  weightByHand({state: () => state, changed: () => changed()}, explained);

  /* Another order or number of the same tokens: the text is made from them, and the settings follow them. */
  function rewrite(to, place) {
    follow(state, place, plan.causal);
    const text = textOf(to);
    state.text = text;
    ids = idsOf(text);
    history = [];
    update();
  }
  function typed(text, moved = () => null) {
    const to = idsOf(text);
    if (to.length) {
      follow(state, moved(to) || movedPlaces(ids, to), plan.causal);
      ids = to;
    }
    state.text = text;
    history = [];
    changed();
  }
  const isFresh = () => addressOf({...state, seed: 1}, fresh) === '';
  const chances = logits => chancesOf(logits, state);
  /* With larger models only the last of several quick changes is computed. */
  const changed = page.live.n_parameter < 200000 ? update : () => { clearTimeout(waiting); waiting = setTimeout(update, 120); };
  /* The reference of comparisons: a kept state; else this text with the unchanged model, or the page's own text. */
  function earlier() {
    if (pinned) return pinned;
    const text = isFresh() || addressOf({...state, text: fresh.text, seed: 1}, fresh) === '' ? fresh.text : state.text;
    if (as_it_is.text === text) return as_it_is;
    const {logits} = explainedBy(page, model, text === state.text ? ids : idsOf(text), freshState(text));
    return as_it_is = {text, label: text === fresh.text ? `“${text.length > 60 ? '…' + text.slice(-60) : text}” without changes` : 'this text without changes', chances: logits.length ? chancesOf(logits, freshState(text)) : []};
  }

  function update() {
    const began = performance.now(), to = idsOf(state.text), mine = ++version;
    if (to.length) ids = to;
    now = explainedBy(page, model, ids, state);
    const isChanged = !isFresh(), asked = now.position;
    if (isChanged && page.knockouts.length) knock(mine);
    explained.load(isChanged ? now : {...page, originsOf: now.originsOf, is_rounded: !page.live.is_exact}, state.text !== shown_text);
    shown_text = state.text;
    words_shown.show(ids, framed.first, ids.length - framed.last);
    showSwitches();
    const was = earlier();
    showNext(isChanged, asked, to.length === 0, was);
    showChanges(isChanged, was);
    document.querySelectorAll('[data-own-text]').forEach(part => part.classList.toggle('stale', isChanged));
    const address = addressOf(state, fresh);
    clearTimeout(writing);
    if (arrived) writing = setTimeout(() => address !== location.hash.slice(1) && (address || location.hash.includes('=')) && window.history.replaceState(null, '', `#${address}`), 150);
    vulpes.took = performance.now() - began;
  }
  let shown_text = fresh.text, arrived = false, writing;

  /* The knockouts of a changed page take a pass per word: at once if that is fast, else when there is time. */
  function knock(mine) {
    const passes = knockoutsOf(plan, ids, state, now.position, plan.causal, now.target.id), mean = now;
    if (page.live.n_parameter * ids.length * passes.length < 5e5) return void (now.knockouts = passes.map(pass => pass()));
    now.knockouts = null;
    const made = [];
    const next = () => {
      if (mine !== version) return;
      made.push(passes[made.length]());
      if (made.length < passes.length) return void setTimeout(next);
      mean.knockouts = made;
      explained.knockouts();
    };
    if (passes.length) setTimeout(next, 200);
    else now.knockouts = [];
  }

  function showNext(isChanged, asked, isEmpty, was) {
    const box = $('typed'), unknown = new Set(ids.filter((id, t) => id === unk && t >= framed.first)), cut = continued ? words.encode(state.text).length + before.length > plan.context_len : words.encode(state.text).length + before.length + after.length > plan.context_len;
    if (box.value !== state.text) box.value = state.text;
    const says = [];
    if (isEmpty) says.push('Type a word to begin.');
    if (unknown.size) says.push(`A word with a dashed frame is not in this model’s vocabulary: the model reads ${words.text(unk)} instead.`);
    if (cut) says.push(`The model reads ${plan.context_len} tokens at a time: ${continued ? 'the first ones are' : 'the rest is'} left out.`);
    if (kind === 'masked_token' && !ids.includes(mask)) says.push(`Nothing is masked: choose a word and mask it, or type ${words.text(mask)} instead.`);
    if (faults.length) says.push(`The link contains settings that don’t fit this model: ${faults.join(', ')}.`);
    $('typed-says').textContent = says.join(' ');
    const has = now.logits.length > 0, list = has ? chances(now.logits) : [];
    $('compared').parentElement.hidden = !has;
    if (!has) return;
    $('next-title').textContent = (kind === 'classify' ? 'The label' : kind === 'masked_token' ? `In place of ${now.unmasked ? 'the visible ' : ''}${name(asked)}` : `After ${name(asked)} comes`) + dialled();
    $('next-before').replaceChildren();
    if (isChanged) {
      $('next-before').append(`Before: ${was.label}. The change is in percentage points. `);
      const now_on = add($('next-before'), 'button', 'Use the current state as “before”', {type: 'button', id: 'pin', class: 'small'});
      now_on.onclick = () => { pinned = {label: `“${state.text}”${changesOf(state, fresh, words_shown).slice(state.text === fresh.text ? 0 : 1).map(c => ', ' + c.text).join('')}`, chances: list}; update(); };
    } else $('next-before').textContent = 'The unchanged model. Change something to see the difference here.';
    showCompared($('compared'), list, was.chances, isOutput, kind, isChanged);
    $('moral').textContent = moral(list, was, isChanged);
    $('sampling').hidden = kind === 'classify';
    $('temperature').value = state.temperature;
    $('temperature-is').textContent = state.temperature === 0 ? '0: always the most likely' : state.temperature;
    $('top-k').value = state.top_k;
    $('top-k-is').textContent = state.top_k || 'all words';
    $('seed').value = state.seed;
    $('draw').textContent = kind === 'masked_token' ? `Draw a word for ${name(asked)}` : 'Draw the next word';
    $('draw').disabled = kind === 'masked_token' && !ids.includes(mask);
    $('undraw').disabled = history.length === 0;
    showDrawn($('drawn'), history, isOutput);
  }
  /* The effect of a change in words, where a rule applies. */
  const has_places = plan.embedding.position || plan.relative_bias || plan.kinds.some(({thetas}) => thetas);
  function moral(list, was, isChanged) {
    const others = kind === 'classify' ? 'labels' : 'words', sorted = row => [...row].sort((a, b) => a - b).join();
    if (now.even) return `All ${list.length} ${others} are equally likely now: the parts that distinguish them are switched off (zeros).`;
    if (!isChanged || !was.chances.length) return '';
    const before = new Map(was.chances.map(line => [line.id, line.probability])), same = list.every(line => Math.abs(line.probability - (before.get(line.id) ?? 0)) < 5e-4);
    if (!same) return '';
    if (!has_places && state.text !== fresh.text && sorted(ids) === sorted(page.ids)) return `Nothing changes: this model has no positions. It sees which words are there, not in what order.`;
    return 'Nothing changes: the prediction does not depend on this.';
  }
  /* How the probabilities differ from plain softmax. */
  const dialled = () => (state.top_k ? `, of the ${state.top_k} most likely` : '') + (state.temperature === 1 ? '' : `, at temperature ${state.temperature}`);
  function draw() {
    const list = chances(now.logits), choice = choiceOf(list, drawnNumber(state.seed, continued ? words.encode(state.text).length : now.position)), was = {text: state.text, hidden: state.hidden, edits: state.edits};
    let text;
    if (continued) {
      const inner = ids.slice(framed.first), whole = words.decode([...inner, choice.id]), part = words.decode(inner);
      text = whole.startsWith(part) ? state.text + whole.slice(part.length) : whole;
    } else text = textOf(ids.map((id, t) => t === now.position ? choice.id : id));
    follow(state, movedPlaces(ids, idsOf(text)), plan.causal);
    state.text = text;
    history = [...history, {choice, chances: list, was}];
    update();
  }

  /* The bar at the bottom: the changes and their effect, always visible. */
  function showChanges(isChanged, earlier) {
    const bar_ = $('changed'), list = $('changes'), focused = list.contains(document.activeElement);
    bar_.hidden = !isChanged;
    document.body.classList.toggle('with-bar', isChanged);
    list.replaceChildren();
    if (!isChanged) return;
    const line = $('changed-says');
    line.replaceChildren();
    if (now.logits.length) {
      const [first] = chances(now.logits), [was] = earlier.chances;
      add(line, 'b', now.even ? 'all equally likely' : `“${isOutput(first.id)}” ${percent(first.probability)}${dialled()}`);
      line.append(' · before ');
      add(line, 'span', `“${isOutput(was.id)}” ${percent(was.probability)}`);
    }
    changesOf(state, fresh, words_shown).forEach(({text, undo}) => {
      add(list, 'button', `${text} ×`, {type: 'button', 'aria-label': `undo: ${text}`}).onclick = () => { undo(); history = []; update(); };
    });
    add(list, 'button', 'Undo all changes', {type: 'button', id: 'reset', class: 'main'}).onclick = () => { state = freshState(fresh.text); pinned = null; history = []; faults = []; update(); $('typed').focus({preventScroll: true}); };
    const link = add(list, 'button', 'Copy the link', {type: 'button', id: 'copy'});
    link.onclick = () => Promise.resolve().then(() => navigator.clipboard.writeText(`${location.href.split('#')[0]}#${addressOf(state, fresh)}`)).then(() => { link.textContent = 'Copied'; }, () => { link.textContent = 'Copy it from the address bar'; });
    if (focused) $('reset').focus();
  }

  /* Event listeners. */
  let faults = [];
  const arrive = () => {
    arrived = true;
    if (!location.hash.includes('=')) return;
    ({state, faults} = stateOf(location.hash.slice(1), fresh, plan));
    history = [];
    update();
  };
  $('typed').oninput = () => typed($('typed').value);
  $('temperature').oninput = () => { state.temperature = Number($('temperature').value); changed(); };
  $('top-k').oninput = () => { state.top_k = Number($('top-k').value); changed(); };
  $('top-k').max = Math.min(plan.n_output, 20);
  $('seed').oninput = () => { state.seed = Math.max(0, Math.floor(Number($('seed').value) || 0)); update(); };
  $('draw').onclick = draw;
  $('undraw').onclick = () => { Object.assign(state, history[history.length - 1].was); history = history.slice(0, -1); update(); };
  addEventListener('hashchange', arrive);
  /* The URL fragment holds the state: links within the page only scroll. */
  document.addEventListener('click', event => {
    const link = event.target.closest('a[href^="#"]'), to = link && $(link.hash.slice(1));
    if (!to) return;
    event.preventDefault();
    to.scrollIntoView();
    to.tabIndex = to.tabIndex < 0 ? -1 : to.tabIndex;
    to.focus({preventScroll: true});
  });

  $('live-exact').textContent = page.live.is_exact ? '' : 'To keep the page small, its weights are rounded to 8 bits, with a scale per matrix row: the results here differ slightly from the model’s. ';
  $('switch-note').textContent = `A head that is off outputs zeros${plan.blocks.some(block => block.feed_forward) ? '; a feed-forward that is off adds nothing' : ''}; a layer that is off passes its input through.`;
  const known = words.words.tokens.map((_, id) => id).filter(id => words.words.tokens[id] !== null && !words.special.has(id));
  $('known').hidden = words.words.kind !== 'WordLevel' || known.length > 500;
  if (!$('known').hidden) {
    $('known').firstElementChild.textContent = `The ${known.length} words of its vocabulary`;
    known.forEach(id => {
      const word = add($('known').lastElementChild, 'button', words.text(id), {type: 'button', class: 'chip', title: 'append it to the text'});
      word.onclick = () => typed(words.decode([...words.encode(state.text), id]));
    });
  }
  /* For tests and experiments. */
  window.vulpes = {
    took: 0,
    predict(text = state.text) {
      const ids = idsOf(text), {texts, logits, weights} = explainedBy(page, model, ids, state);
      const next = logits.length ? chances(logits).slice(0, 50).map(({id, probability}) => ({id, text: kind === 'classify' ? isOutput(id) : words.text(id), probability})) : [];
      return {ids, tokens: texts, logits, next, attentions: weights.map(layer => layer.map(head => head.map(row => Array.from(row))))};
    },
    encode: words.encode,
    decode: words.decode,
    state: () => addressOf(state, fresh),
  };
  $('live').hidden = false;
  document.querySelector('header nav a[href="#live"]').hidden = false;
  update();
  arrive();
}
if (PAGE.live) liven(PAGE, EXPLAINED);
