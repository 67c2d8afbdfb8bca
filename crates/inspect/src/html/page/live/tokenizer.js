/* Text to ids and back, according to the model's tokenizer.json: words, characters, byte-level BPE, WordPiece. */
function tokenizerOf(words) {
  const ids = new Map(), known = words.known || words.tokens.map((_, id) => id);
  known.forEach(id => { if (words.tokens[id] !== null) ids.set(words.tokens[id], id); });
  const added = [...words.added].sort((a, b) => b.content.length - a.content.length);
  const special = new Set(words.added.filter(token => token.special).map(token => token.id));
  const ranks = mergesOf(words), kept = new Map();
  /* The ids of one word. */
  const spell = word => {
    if (!kept.has(word)) kept.set(word, words.kind === 'WordLevel' ? wordLevel(ids, words, word) : words.kind === 'WordPiece' ? wordPiece(ids, words, word) : bytePairs(ids, words, ranks, word));
    return kept.get(word);
  };
  const plain = text => partsOf(words.pre_tokenizer, 'pretokenizers').reduce(split, [normalized(words.normalizer, text)]).flatMap(spell);
  /* The ids of a text, without the tokens around it: added tokens are found first, then words. */
  function encode(text) {
    const all = [];
    while (text) {
      const found = added.map(token => ({token, at: text.indexOf(token.content)})).filter(({at}) => at >= 0).sort((a, b) => a.at - b.at)[0];
      if (!found) return [...all, ...plain(text)];
      const {token, at} = found;
      let before = text.slice(0, at);
      text = text.slice(at + token.content.length);
      if (token.lstrip) before = before.replace(/\p{White_Space}+$/u, '');
      if (token.rstrip) text = text.replace(/^\p{White_Space}+/u, '');
      if (before) all.push(...plain(before));
      all.push(token.id);
    }
    return all;
  }
  const steps = partsOf(words.decoder, 'decoders');
  /* The text of ids. */
  function decode(row, skip = false) {
    const tokens = row.filter(id => !skip || !special.has(id)).map(id => words.tokens[id]).filter(token => token !== null && token !== undefined);
    return steps.length ? steps.reduce(decoded, tokens).join('') : tokens.join(' ');
  }
  /* One token's own text; the vocabulary's spelling if that is not complete text. */
  function text(id) {
    const alone = decode([id]);
    return alone === '' || alone.includes('\ufffd') ? words.tokens[id] ?? `<${id}>` : alone;
  }
  /* The same as it continues after a word. */
  const piece = id => (words.tokens[id] || '').startsWith('▁') && words.tokens[id] !== '▁' && !text(id).startsWith(' ') ? ' ' + text(id) : text(id);
  return {encode, decode, text, piece, special, words, id: token => ids.get(token)};
}

const partsOf = (part, list) => part === null ? [] : part.type === 'Sequence' ? part[list] : [part];

/* Normalizers: the text in the form of the vocabulary. */
function normalized(normalizer, text) {
  return partsOf(normalizer, 'normalizers').reduce((text, {type, ...rest}) => {
    if (type === 'Lowercase') return lowered(text);
    return type === 'BertNormalizer' ? bertNormal(text, rest) : text.normalize(type);
  }, text);
}
/* Letter by letter: without the special form of a final sigma. */
const lowered = text => Array.from(text, c => c.toLowerCase()).join('');
const CHINESE = /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b820}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/u;
function bertNormal(text, {clean_text, handle_chinese_chars, strip_accents, lowercase}) {
  let letters = Array.from(text);
  if (clean_text) letters = letters.filter(c => /[\t\n\r]/.test(c) || !/[\0\ufffd\p{Cc}\p{Cf}\p{Co}]/u.test(c)).map(c => /\p{White_Space}/u.test(c) ? ' ' : c);
  if (handle_chinese_chars) letters = letters.map(c => CHINESE.test(c) ? ` ${c} ` : c);
  text = letters.join('');
  if (strip_accents ?? lowercase) text = text.normalize('NFD').replace(/\p{Mn}/gu, '');
  return lowercase ? lowered(text) : text;
}

/* Splitters: a text split into words. */
const MARK = '[\\p{P}$+<=>^`|~]';
const GPT2 = /'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;
const matches = (texts, pattern) => texts.flatMap(text => text.match(pattern) || []);
function split(texts, {type, add_prefix_space, use_regex}) {
  if (type === 'WhitespaceSplit') return matches(texts, /\P{White_Space}+/gu);
  if (type === 'Whitespace') return matches(texts, /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]+|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}\p{White_Space}]+/gu);
  if (type === 'Punctuation') return matches(texts, new RegExp(`${MARK}|(?:(?!${MARK})[^])+`, 'gu'));
  if (type === 'BertPreTokenizer') return matches(texts, new RegExp(`${MARK}|(?:(?!${MARK})\\P{White_Space})+`, 'gu'));
  const spaced = texts.map(text => add_prefix_space && !text.startsWith(' ') ? ' ' + text : text);
  return (use_regex === false ? spaced : matches(spaced, GPT2)).map(spelledInBytes);
}

/* Byte-level: each byte is a printable letter. */
const UTF8 = new TextEncoder(), OF_UTF8 = new TextDecoder('utf-8', {ignoreBOM: true});
const LETTERS = (() => {
  const printed = b => b >= 33 && b <= 126 || b >= 161 && b <= 172 || b >= 174;
  let spare = 256;
  return Array.from({length: 256}, (_, b) => String.fromCodePoint(printed(b) ? b : spare++));
})();
const BYTES = new Map(LETTERS.map((letter, byte) => [letter, byte]));
const spelledInBytes = text => Array.from(UTF8.encode(text), byte => LETTERS[byte]).join('');

/* A complete word has an id, or is unknown. */
function wordLevel(ids, {model_unk}, word) {
  const id = ids.get(word) ?? model_unk;
  return id === null ? [] : [id];
}

/* WordPiece: the longest prefix in the vocabulary, then the longest of the rest. */
function wordPiece(ids, {model_unk, prefix, longest}, word) {
  const letters = Array.from(word), pieces = [];
  if (letters.length > longest) return [model_unk];
  for (let start = 0; start < letters.length;) {
    let end = letters.length, id;
    while (end > start && (id = ids.get((start ? prefix : '') + letters.slice(start, end).join(''))) === undefined) end--;
    if (end === start) return [model_unk];
    pieces.push(id);
    start = end;
  }
  return pieces;
}

/* Byte pair encoding: letters, merged in the order in which the merges were learned. */
function mergesOf({merges, tokens, kind, known}) {
  const ranks = new Map();
  if (!merges) return ranks;
  const pairs = new Uint32Array(bytesOf(merges).buffer), ids = new Map();
  (known || tokens.map((_, id) => id)).forEach(id => ids.set(tokens[id], id));
  for (let i = 0; i < pairs.length; i += 2) ranks.set(pairs[i] * 2 ** 26 + pairs[i + 1], {rank: i, id: ids.get(tokens[pairs[i]] + tokens[pairs[i + 1]])});
  return ranks;
}
function bytePairs(ids, {model_unk}, ranks, word) {
  const row = Array.from(word, letter => ids.get(letter) ?? model_unk).filter(id => id !== null);
  for (;;) {
    let best = null, at = -1;
    for (let i = 0; i + 1 < row.length; i++) {
      const merge = ranks.get(row[i] * 2 ** 26 + row[i + 1]);
      if (merge && (best === null || merge.rank < best.rank)) [best, at] = [merge, i];
    }
    if (best === null) return row;
    row.splice(at, 2, best.id);
  }
}

/* Decoders: tokens to pieces of text. */
function decoded(tokens, {type, prefix, cleanup, pattern, content}) {
  if (type === 'Fuse') return [tokens.join('')];
  if (type === 'Replace') return tokens.map(token => token.replaceAll(pattern.String, content));
  if (type === 'WordPiece') return tokens.map((token, i) => {
    const piece = i > 0 ? token.startsWith(prefix) ? token.replaceAll(prefix, '') : ' ' + token : token;
    return cleanup ? cleaned(piece) : piece;
  });
  return [OF_UTF8.decode(Uint8Array.from(tokens.flatMap(token => {
    const letters = Array.from(token);
    return letters.every(letter => BYTES.has(letter)) ? letters.map(letter => BYTES.get(letter)) : [...UTF8.encode(token)];
  })))];
}
const cleaned = text => [[' .', '.'], [' ?', '?'], [' !', '!'], [' ,', ','], [" ' ", "'"], [" n't", "n't"], [" 'm", "'m"], [' do not', " don't"], [" 's", "'s"], [" 've", "'ve"], [" 're", "'re"]]
  .reduce((text, [from, to]) => text.replaceAll(from, to), text);
