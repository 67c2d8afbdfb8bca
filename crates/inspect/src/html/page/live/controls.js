/* The controls: words, switches, sliders. Each changes the state and calls `changed`. */

/* The words as buttons: one is chosen, and its tools are shown below. A word can be several tokens. */
function wordButtons(box, tools, {state, changed, rewrite, retype, words, page}) {
  const view = {ids: [], groups: [], first: 0, chosen: null, isSwapping: false, dragged: null}, {kind, prefix, mask, unk} = words.words;
  const name = t => quote(shown(words.piece(view.ids[t]))), can_drag = matchMedia('(pointer: fine)').matches;
  /* Letters and pieces that begin with their space are joined by their text, complete words by their ids. */
  const isSpaced = kind === 'BPE', spelled = ({from, to}) => words.decode(view.ids.slice(from, to));
  const begins = (ids, t) => kind === 'WordLevel' || words.special.has(ids[t]) || words.special.has(ids[t - 1])
    || (isSpaced ? /^\s/.test(words.text(ids[t])) : !words.words.tokens[ids[t]].startsWith(prefix));
  const called = group => quote(shown(isSpaced ? spelled(group).trim() || spelled(group) : spelled(group)));
  function grouped(ids, first, end) {
    const groups = [];
    for (let t = first; t < end; t++) if (t === first || begins(ids, t)) groups.push({from: t, to: t + 1}); else groups[groups.length - 1].to = t + 1;
    return groups;
  }
  const tokensOf = ({from, to}) => Array.from({length: to - from}, (_, i) => from + i);
  const isHidden = group => tokensOf(group).every(t => state().hidden.has(t));
  function choose(i) {
    if (view.isSwapping && i !== view.chosen) return swap(view.chosen, i);
    view.chosen = view.chosen === i && !view.isSwapping ? null : i;
    view.isSwapping = false;
    draw();
    box.querySelectorAll('button')[i]?.focus();
  }
  function draw() {
    box.replaceChildren();
    const still = t => add(box, 'span', shown(words.piece(view.ids[t])), {class: 'chip', title: `token ${view.ids[t]}`}), last = view.groups[view.groups.length - 1];
    for (let t = 0; t < view.first; t++) still(t);
    view.groups.forEach((group, i) => {
      const chip = add(box, 'button', null, {type: 'button', class: 'chip', 'aria-pressed': i === view.chosen});
      tokensOf(group).forEach(t => add(chip, 'span', shown(words.piece(view.ids[t])), {title: `token ${view.ids[t]}`}));
      chip.classList.toggle('hidden-word', isHidden(group));
      chip.classList.toggle('unknown', tokensOf(group).some(t => view.ids[t] === unk));
      chip.tabIndex = i === (view.chosen ?? 0) ? 0 : -1;
      if (view.isSwapping && i !== view.chosen) chip.setAttribute('aria-label', `Swap ${called(view.groups[view.chosen])} with ${called(group)}`);
      chip.onclick = () => choose(i);
      chip.onpointerdown = event => { if (event.pointerType === 'mouse' && event.button === 0) view.dragged = i; };
      chip.onkeydown = event => {
        const to = box.querySelectorAll('button')[i + ({ArrowLeft: -1, ArrowRight: 1}[event.key] || 0)];
        if (to && to !== chip) { event.preventDefault(); to.focus(); }
        if (event.key === 'Delete' || event.key === 'Backspace') { event.preventDefault(); takeOut(i); }
        if (event.key === 'Escape' && view.isSwapping) choose(view.chosen);
      };
    });
    box.classList.toggle('swapping', view.isSwapping);
    for (let t = last ? last.to : view.first; t < view.ids.length; t++) still(t);
    showTools();
  }
  function takeOut(i) {
    const {from, to} = view.groups[i], n = to - from;
    view.chosen = null;
    view.isSwapping = false;
    if (isSpaced) return retype(view.groups.filter((_, j) => j !== i).map(spelled).join('').slice(i === 0 && view.groups[1] ? /^\s?/.exec(spelled(view.groups[1]))[0].length : 0));
    rewrite(view.ids.filter((_, t) => t < from || t >= to), t => t < from ? t : t < to ? null : t - n);
  }
  /* Swaps two words, with the spaces before them unchanged; the first of the two stays chosen. */
  function swap(chosen, other) {
    const [i, j] = [Math.min(chosen, other), Math.max(chosen, other)], [a, b] = [view.groups[i], view.groups[j]], n = [a.to - a.from, b.to - b.from];
    Object.assign(view, {chosen: other, isSwapping: false});
    if (isSpaced) {
      const [, lead, one] = /^(\s*)([^]*)$/.exec(spelled(a)), [, gap, two] = /^(\s*)([^]*)$/.exec(spelled(b));
      return retype(view.groups.map((group, at) => at === i ? lead + two : at === j ? gap + one : spelled(group)).join(''), to => movedGroups(to, at => at === i ? j : at === j ? i : at));
    }
    const moved = t => t >= a.from && t < a.to ? t + b.to - a.to : t >= b.from && t < b.to ? t + a.from - b.from : t >= a.to && t < b.from ? t + n[1] - n[0] : t;
    rewrite([...view.ids.slice(0, a.from), ...view.ids.slice(b.from, b.to), ...view.ids.slice(a.to, b.from), ...view.ids.slice(a.from, a.to), ...view.ids.slice(b.to)], moved);
  }
  /* Where the tokens of each word are after a move: at another position a word can have other tokens. */
  function movedGroups(to, moved) {
    const {ids, groups, first} = view, end = groups[groups.length - 1].to, more = to.length - ids.length, now = grouped(to, first, end + more);
    if (now.length !== groups.length) return null;
    return t => {
      const g = groups.findIndex(group => t >= group.from && t < group.to), own = groups[g], other = now[moved(g)];
      if (!own) return t < first ? t : t + more;
      return other.to - other.from === own.to - own.from ? other.from + t - own.from : tokensOf(other);
    };
  }
  /* A word dropped on another swaps places with it. */
  const under = event => Array.from(box.querySelectorAll('button')).indexOf(event.target.closest?.('#words button'));
  document.addEventListener('pointerover', event => {
    if (view.dragged === null) return;
    const at = under(event);
    box.querySelectorAll('button').forEach((chip, i) => chip.classList.toggle('aim', i === at && at !== view.dragged));
  });
  document.addEventListener('pointerup', event => {
    const from = view.dragged, to = under(event);
    view.dragged = null;
    if (from !== null && to >= 0 && to !== from) swap(from, to);
  });
  function showTools() {
    tools.replaceChildren();
    const i = view.chosen, group = view.groups[i];
    if (!group) return void add(tools, 'span', `Choose a word to hide it, remove it or swap it with another${can_drag ? '; or drag it onto another' : ''}.`, {class: 'hint'});
    const tool = (text, act, options = {}) => { add(tools, 'button', text, {type: 'button', ...options}).onclick = act; };
    const is = isHidden(group), word = called(group);
    tool(is ? `Show ${word} again` : `Hide ${word} from all others`, () => { tokensOf(group).forEach(t => state().hidden[is ? 'delete' : 'add'](t)); changed(); }, {id: 'tool-hide'});
    if (page.head.kind === 'masked_token' && mask !== null && view.ids[group.from] !== mask)
      tool(`Mask ${word}`, () => rewrite(view.ids.map((id, t) => t >= group.from && t < group.to ? mask : id), t => t), {id: 'tool-mask'});
    tool(`Remove ${word}`, () => takeOut(i), {id: 'tool-out'});
    if (i > 0) tool(`← Swap with ${called(view.groups[i - 1])}`, () => swap(i, i - 1), {id: 'tool-left'});
    if (i + 1 < view.groups.length) tool(`Swap with ${called(view.groups[i + 1])} →`, () => swap(i, i + 1), {id: 'tool-right'});
    if (view.groups.length > 2) tool('Swap with another word', () => {
      view.isSwapping = !view.isSwapping;
      draw();
      if (view.isSwapping) box.querySelectorAll('button')[i > 0 ? i - 1 : 1].focus(); else $('tool-swap').focus();
    }, {'aria-pressed': view.isSwapping, id: 'tool-swap'});
    add(tools, 'span', view.isSwapping ? `Choose the word to swap with ${word} (Escape cancels).` : `A hidden word keeps its position; a removed one is no longer in the text.${can_drag ? ' Dragged onto another, it swaps places with it.' : ''}`, {class: 'hint'});
  }
  return {
    name,
    /* The hidden words by name, each with its tokens. */
    hidden: () => view.groups.filter(isHidden).map(group => ({name: called(group), tokens: tokensOf(group)})),
    show(ids, first, end) {
      const had = document.activeElement?.parentElement, at = had === tools ? document.activeElement.id : had === box ? 'chip' : null;
      if (ids.length !== view.ids.length || ids.some((id, t) => id !== view.ids[t])) view.isSwapping = false;
      Object.assign(view, {ids, first});
      view.groups = grouped(ids, first, end);
      if (view.chosen >= view.groups.length) view.chosen = null;
      draw();
      /* Keyboard focus stays where it was. */
      const chips = box.querySelectorAll('button');
      if (at === 'chip') chips[view.chosen ?? 0]?.focus();
      else if (at) ($(at) || tools.querySelector('button') || chips[0])?.focus();
    },
  };
}

/* A switch for every head, feed-forward and layer. */
function partSwitches(box, {plan, state, changed, page}) {
  const all = [];
  const one = (row, text, label, set, key) => {
    const button = add(row, 'button', text, {type: 'button', role: 'switch', 'aria-label': label, id: `switch-${label.replace(/\W+/g, '-')}`});
    button.onclick = () => { const off = state()[set]; if (!off.delete(key)) off.add(key); changed(); };
    all.push(() => button.setAttribute('aria-checked', !state()[set].has(key)));
  };
  const many_heads = page.n_head > 6;
  plan.blocks.forEach((block, l) => {
    const row = add(box, 'div', null, {class: 'switch-row'});
    add(row, 'span', `layer ${l}`, {class: 'name'});
    const group = add(row, 'div', null, {class: 'tools', role: 'group', 'aria-label': `layer ${l}`});
    for (let h = 0; h < block.attention.n_head; h++) one(group, many_heads ? h : `head ${h}`, `layer ${l} head ${h}`, 'heads', `${l}.${h}`);
    if (block.feed_forward) one(group, 'feed-forward', `layer ${l} feed-forward`, 'feed_forwards', l);
    if (block.attention.residual.add || page.d_model === page.n_head * page.d_head) one(group, 'whole layer', `layer ${l} whole`, 'layers', l);
  });
  return () => all.forEach(show => show());
}

/* The weight of the chosen cell, set by hand. */
function weightByHand({state, changed}, explained) {
  const at = explained.state, slide = $('weight-set'), key = () => `${at.layer}.${at.head}.${at.q}.${at.k}`;
  const set = w => { state().edits.set(key(), Math.min(1, Math.max(0, w))); changed(); };
  slide.oninput = () => set(Number(slide.value));
  $('weight-undo').onclick = () => { state().edits.delete(key()); changed(); };
  at.edited = pressed => {
    if ($('by-hand').hidden) return;
    if (pressed === 'Delete') $('weight-undo').onclick();
    else set(Math.round(100 * (Number(slide.value) + (pressed === '+' ? 0.05 : -0.05))) / 100);
    $(`cell-${at.q}-${at.k}`)?.focus();
  };
  at.chosen = (weights, seen) => {
    const name = t => quote(explained.apart()[t]), w = weights[at.q][at.k], is = state().edits.has(key());
    $('by-hand').hidden = seen < 2;
    $('weight-name').textContent = `Set by hand: the weight of ${name(at.k)} for ${name(at.q)}`;
    if (document.activeElement !== slide || Math.abs(slide.value - w) > 0.006) slide.value = w;
    $('weight-is').textContent = fixed(w, 2);
    slide.setAttribute('aria-valuetext', `${fixed(w, 2)}${is ? ', set by hand' : ''}`);
    $('weight-undo').disabled = !is;
  };
}
