/* Equations: the model's own values by name, and sums written out so that the visible terms add up. */
const small = i => Array.from(String(i), d => '₀₁₂₃₄₅₆₇₈₉'[d]).join('');
const digits = x => x !== 0 && Math.abs(x) < 1e-4 ? Number(x).toExponential(2).replace('-', '−').replace('e-', 'e−').replace('e+', 'e') : Math.abs(x) >= 1e6 ? Number(x).toExponential(3).replace('e+', 'e') : fixed(x);
/* Divisors: significant digits for any magnitude. */
const fine = x => Number(x).toPrecision(5).replace('e-', 'e−').replace('e+', 'e');
const sized = x => x === 0 || Math.abs(x) >= 0.1 && Math.abs(x) < 1e6 ? digits(x) : fine(x);
const signed = x => x < 0 ? `(${digits(x)})` : digits(x);

/* One part of the computation from ids to logits: its values, formulas and parameters by name. */
function opened(part) {
  if (part.opened) return part.opened;
  const equations = Object.fromEntries(part.equations.map(e => [e.name, e])), rows = {}, numbers = {};
  return part.opened = {
    names: part.equations.map(e => e.name),
    has: name => name in equations,
    formula: name => equations[name].formula,
    width: name => equations[name].width,
    rows(name) {
      const e = equations[name];
      if (!e || !e.values) return null;
      return rows[name] = rows[name] || rowsOf(e.values, e.kept);
    },
    parameter(name) {
      const p = part.parameters[name];
      if (!p) return null;
      return numbers[name] = numbers[name] || floats(p.numbers);
    },
    /* A row of a matrix. */
    row(name, i) {
      const p = part.parameters[name], all = this.parameter(name);
      return all && Array.from(all.subarray(i * p.shape[1], (i + 1) * p.shape[1]));
    },
  };
}

/* `name = formula`, on a line of its own. */
function formula(box, text) { return add(box, 'p', text, {class: 'formula'}); }

/* name = a sum of products = result. A term is its factors, with a note if their meaning isn't obvious. */
function sum(box, name, terms, result, options = {}) {
  const line = add(box, 'p', null, {class: 'formula sum', 'data-equation': JSON.stringify({name, terms: terms.map(t => t.factors), result})});
  line.append(`${name} = `);
  terms.forEach((term, i) => {
    const minus = i > 0 && term.factors.length === 1 && term.factors[0] < 0;
    if (i > 0) line.append(minus ? ' − ' : ' + ');
    line.append(term.text || term.factors.map((x, j) => minus ? digits(-x) : i + j > 0 ? signed(x) : digits(x)).join(' × '));
    if (term.note) add(line, 'small', ` (${term.note})`);
  });
  line.append(' = ');
  add(line, 'span', digits(result), {class: 'result', ...(options.id ? {id: options.id, 'data-value': result} : {})});
  return line;
}
/* The terms of a dot product: the first three products, and the others together as the rest of `total`. */
function dotTerms(a, b, total, width = a.length) {
  const few = width <= 4 ? Math.min(width, a.length) : 3;
  const terms = a.slice(0, few).map((x, i) => ({factors: [x, b[i]]}));
  const rest = total - terms.reduce((all, t) => all + t.factors[0] * t.factors[1], 0);
  return width > few ? [...terms, {factors: [rest], note: `the other ${width - few} products together`}] : terms;
}

/* A value of a token as a strip after its formula; only the formula if the page has no room for the values. */
function stepTo(box, part, name, t, options = {}) {
  if (!part.has(name)) return;
  /* A classifier's head has one row of values. */
  const rows = part.rows(name), text = part.formula(name);
  if (rows && rows.length === 1) t = 0;
  if (text) formula(box, `${name} = ${text}`);
  if (rows && rows[t]) vector(box, options.label || name, rows[t], {of: part.width(name), ...options});
  else if (text) say(box, `(its ${part.width(name) || ''} values are omitted to keep the page small)`, {class: 'note'});
}

/* One element of a projection, written out: row i of the matrix times its input, plus the bias. */
function oneProduct(box, part, name, shownName, matrix, bias, read, t, i, result) {
  const row = part.row(matrix, i), x = part.rows(read);
  if (x && x.length === 1) t = 0;
  if (!row || !x || x[t].length < row.length) return false;
  const b = part.parameter(bias), first = part.formula(name);
  const both = add(box, 'div', null, {class: 'lined'});
  vector(both, `row ${i + 1} of ${matrix}`, row, {cells: row.length});
  vector(both, read, x[t], {cells: row.length});
  const terms = dotTerms(row, x[t], dot(row, x[t]));
  if (first.includes(` + ${bias}`)) terms.push({factors: [b[i]], note: `${bias}${small(i + 1)}`});
  sum(box, shownName, terms, result);
  return true;
}

/* A norm: its mean and spread, and its first element. */
function oneNorm(box, part, name, of, marks, t) {
  if (part.rows(name)?.length === 1) t = 0;
  const rows = part.rows(of), out = part.rows(name), gamma = part.parameter(`γ${marks}`), beta = part.parameter(`β${marks}`), eps = part.parameter('ε');
  if (!rows || !out || !gamma || rows[t].length < part.width(of)) return;
  const x = rows[t], centered = part.formula(name).includes(' − mean(');
  const mean = centered ? x.reduce((a, b) => a + b, 0) / x.length : 0;
  const root = Math.sqrt(x.reduce((a, b) => a + (b - mean) ** 2, 0) / x.length + eps[0]);
  say(box, centered ? `Here mean(${of}) = ${digits(mean)} and √(var(${of}) + ε) = ${fine(root)}; γ and β were learned.` : `Here √(mean(${of}²) + ε) = ${fine(root)}; γ was learned.`, {class: 'note'});
  const top = centered ? `(${digits(x[0])} − ${signed(mean)})` : digits(x[0]);
  const terms = [{factors: [x[0] - mean, 1 / root, gamma[0]], text: `${top} / ${fine(root)} × ${signed(gamma[0])}`}];
  if (beta) terms.push({factors: [beta[0]]});
  sum(box, `${name}${small(1)}`, terms, out[t][0]);
}
