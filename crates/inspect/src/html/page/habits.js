/* The names of heads, and the scores behind them. */
const HABITS = [['previous_token', 'previous token'], ['first_token', 'first token'], ['same_token', 'same token'], ['induction', 'induction'], ['position_only', 'position only'], ['spread_out', 'spread out']];
const habitOf = (data, layer, head) => data.habits.find(h => h.layer === layer && h.head === head);
/* " · induction (0.83)", or an empty string. */
function habitName(data, layer, head) {
  const own = habitOf(data, layer, head), habit = own && HABITS.find(([key]) => key === own.name);
  return habit ? ` · ${habit[1]} (${fixed(own[habit[0]], 2)})` : '';
}
function nameHeads(data) {
  const box = $('habits');
  box.hidden = data.habits.length === 0;
  if (box.hidden) return;
  data.habits.forEach(({layer, head}) => {
    const button = $(`open-${layer}-${head}`), name = `layer ${layer}, head ${head}${habitName(data, layer, head)}`;
    if (button) { button.title = name; button.setAttribute('aria-label', name); }
  });
  const named = data.habits.filter(h => h.name).length;
  add(box, 'summary', `What each head does: ${named} of ${data.habits.length} ${data.habits.length === 1 ? 'has' : 'have'} a name`);
  say(box, 'Measured on random words, each text repeated, so that meaning plays no part: the mean weight on the previous token, the first token, the same token elsewhere, and what followed its earlier occurrence (*induction*). A mean of 0.5 or more gives the name. Otherwise, from 0.9 on: *spread out* (the entropy of a row relative to its maximum), *position only* (what the rows of two texts have in common).', {class: 'note'});
  const body = header(add(add(box, 'div', null, {class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'what each head does'}), 'table', null, {id: 'habit-table'}), ['head', 'name', ...HABITS.map(([, name]) => name)]);
  data.habits.forEach(own => {
    const row = add(body, 'tr'), habit = HABITS.find(([key]) => key === own.name);
    add(row, 'td', `${own.layer}.${own.head}`);
    add(row, 'td', habit ? habit[1] : '–');
    HABITS.forEach(([key]) => { const cell = add(row, 'td', own[key] === null ? '–' : fixed(own[key], 2)); if (own[key] !== null) heat(cell, own[key]); });
  });
}
