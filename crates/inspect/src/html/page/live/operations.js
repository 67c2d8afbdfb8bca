/* Decodes the model's parameters: float32, or 8 bits times the scale of their row. */
function unpacked({leaves, floats: kept, bytes}) {
  const exact = floats(kept), rounded = new Int8Array(bytesOf(bytes).buffer);
  let at = 0, byte = 0;
  return leaves.map(({name, shape, bits}) => {
    const size = shape.reduce((all, n) => all * n, 1), width = shape[shape.length - 1];
    if (bits === 32) {
      at += size;
      return {name, shape, width, numbers: exact.subarray(at - size, at)};
    }
    const numbers = new Float32Array(size);
    for (let row = 0; row < size / width; row++, at++)
      for (let i = row * width; i < (row + 1) * width; i++) numbers[i] = exact[at] * rounded[byte++];
    return {name, shape, width, numbers};
  });
}

/* The plan of the model with each number replaced by its parameter. */
const PARAMETERS = ['token', 'position', 'token_type', 'weight', 'bias', 'relative_bias'];
function planted(plan, leaves) {
  if (Array.isArray(plan)) return plan.map(part => planted(part, leaves));
  if (plan === null || typeof plan !== 'object') return plan;
  return Object.fromEntries(Object.entries(plan).map(([key, part]) =>
    [key, typeof part === 'number' && PARAMETERS.includes(key) ? leaves[part] : planted(part, leaves)]));
}

/* The operations of a transformer, on rows of numbers: one row per token. */
const rowOf = (parameter, i) => parameter.numbers.subarray(i * parameter.width, (i + 1) * parameter.width);
const plus = (a, b) => a.map((row, t) => row.map((x, i) => x + b[t][i]));
const times = (rows, factor) => factor === 1 ? rows : rows.map(row => row.map(x => x * factor));

/* W @ x + b, for each row x. Four sums at a time, which is faster in browsers. */
function projected({weight, bias}, rows) {
  const [n_out, n_in] = weight.shape, w = weight.numbers, whole = n_in - n_in % 4;
  return rows.map(x => {
    const y = new Float64Array(n_out);
    for (let o = 0, at = 0; o < n_out; o++) {
      let a = 0, b = 0, c = 0, d = 0, i = 0;
      for (; i < whole; i += 4, at += 4) {
        a += w[at] * x[i];
        b += w[at + 1] * x[i + 1];
        c += w[at + 2] * x[i + 2];
        d += w[at + 3] * x[i + 3];
      }
      for (; i < n_in; i++) a += w[at++] * x[i];
      y[o] = a + b + c + d + (bias ? bias.numbers[o] : 0);
    }
    return y;
  });
}

/* Normalizes each row: (x − mean) / √(variance + ε) × γ + β, or without the mean. */
function normed(norm, rows) {
  if (!norm) return rows;
  const {kind, weight, bias, eps} = norm, gamma = weight.numbers;
  return rows.map(x => {
    const mean = kind === 'layer' ? x.reduce((a, b) => a + b, 0) / x.length : 0;
    const root = Math.sqrt(x.reduce((a, b) => a + (b - mean) ** 2, 0) / x.length + eps);
    return x.map((value, i) => (value - mean) / root * (kind === 'rms_plus_one' ? 1 + gamma[i] : gamma[i]) + (bias ? bias.numbers[i] : 0));
  });
}

/* The error function: its series, whose terms are all positive; from 6 on it is ±1 in float64. */
function erf(x) {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x, sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) sum += term *= 2 * x * x / (2 * n + 1);
  return 2 / Math.sqrt(Math.PI) * Math.exp(-x * x) * sum;
}
const ACTIVATIONS = {
  gelu_tanh: x => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  gelu_erf: x => 0.5 * x * (1 + erf(x * Math.SQRT1_2)),
  silu: x => x / (1 + Math.exp(-x)),
  relu: x => Math.max(x, 0),
  relu2: x => Math.max(x, 0) ** 2,
  tanh: Math.tanh,
};
const activated = (name, rows) => name ? rows.map(row => row.map(ACTIVATIONS[name])) : rows;

/* Rotary positions: the first channels of a head are rotated in pairs, by an angle proportional to the position. */
function rotated(head, place, thetas) {
  const half = thetas.length, turned = head.slice();
  thetas.forEach((theta, i) => {
    const cos = Math.fround(Math.cos(place * theta)), sin = Math.fround(Math.sin(place * theta));
    turned[i] = head[i] * cos - head[i + half] * sin;
    turned[i + half] = head[i + half] * cos + head[i] * sin;
  });
  return turned;
}

/* The row of the bias table for a distance: one each up to 7, then ever wider ranges up to 128. */
function bucket(q, k) {
  const first = k > q ? 16 : 0, distance = Math.abs(q - k), log = x => Math.fround(Math.log(x));
  if (distance < 8) return first + distance;
  return first + Math.min(15, 8 + Math.floor(Math.fround(Math.fround(log(distance / 8) / log(16)) * 8)));
}
