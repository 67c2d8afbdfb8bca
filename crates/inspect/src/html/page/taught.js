/* The training rows that the answer depends on, and the answer without them. */
function taughtBy(data) {
  const taught = data.taught;
  $('taught-section').hidden = !taught;
  if (!taught) return;
  const answer = `“${bare(taught.target.text)}”`, box = $('taught'), n = taught.rows.length;
  const digits3 = p => p < 0.0005 ? p < 0.00005 ? 'under 0.0001' : fixed(p) : fixed(p, 3), line = add(box, 'p', null, {class: 'lead', id: 'taught-lead'});
  add(line, 'b', answer);
  line.append(`: ${digits3(taught.probability)}; without ${n === 1 ? 'this row' : `these ${n} rows`} of the training set: ${digits3(taught.without_all)}.`);
  say(box, `Verified by retraining: the training was repeated without the targets of a row, everything else unchanged (the same batches, the same dropout, the same weight of every other row): ${data.taught_how}.`, {class: 'note'});
  const table = add(add(box, 'div', null, {class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'the rows and the answer without them'}), 'table', null, {class: 'bars taught', id: 'taught-rows'});
  const stepwise = n > 1 && taught.rows[0].together !== undefined;
  const body = header(table, ['training row', 'read', 'gradients', 'without it', '', ...(stepwise ? ['and all above', ''] : [])]);
  const row = (texts, probabilities, options = {}) => {
    const tr = add(body, 'tr', null, options);
    texts.forEach((text, i) => add(tr, 'td', text, i === 0 ? {class: 'said'} : {}));
    probabilities.forEach(p => { add(tr, 'td', fixed(p)); bar(tr, p).classList.add('half'); });
  };
  row(['none left out', '', ''], stepwise ? [taught.probability, taught.probability] : [taught.probability], {class: 'rest'});
  taught.rows.forEach(own => row([own.text.replace(/\s+/g, ' ').trim(), `${own.uses}×`, (own.effect > 0 ? '+' : '') + fixed(own.effect, 3)], stepwise ? [own.without, own.together] : [own.without]));
  /* Left out on narrow screens. */
  for (const line of table.rows) [1, 2, 4, 6].forEach(i => line.cells[i] && line.cells[i].classList.add('aside'));
  say(box, data.taught_about, {class: 'note'});
}
