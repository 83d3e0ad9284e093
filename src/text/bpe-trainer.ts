import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/** Libra's own control tokens and chat template: role, text, end of turn. */
export const CONTROL_TOKENS = [
  '<|pad|>',
  '<|begin|>',
  '<|end|>',
  '<|system|>',
  '<|user|>',
  '<|assistant|>',
] as const
export const CHAT_TEMPLATE =
  "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"

/**
 * GPT-2's pre-tokenizer with every Chinese character a word of its own: Chinese has no spaces, and merges across
 * words would write the same name in other tokens in every other sentence. tokenizer.json says the same.
 */
const HAN = '[一-鿿]'
const WORD =
  /[一-鿿]|'s|'t|'re|'ve|'m|'ll|'d| ?(?:(?![一-鿿])\p{L})+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu

/** GPT-2's printable stand-ins for the 256 bytes. */
function byteAlphabet(): string[] {
  const printable = (b: number): boolean =>
    (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255)
  let next = 256
  return Array.from({ length: 256 }, (_, b) => String.fromCodePoint(printable(b) ? b : next++))
}

type Word = { symbols: number[]; count: number }

/**
 * Byte-level BPE (Sennrich et al. 2016 on bytes): merges the most frequent pair, ties by the pair's ids, until
 * the vocabulary is full. Returns the object of a tokenizer.json. Deterministic in the texts and their order.
 */
export function trainByteLevelBpe(
  texts: Iterable<string>,
  vocabularySize: number,
  minFrequency = 2,
): Record<string, unknown> {
  const alphabet = byteAlphabet()
  const offset = CONTROL_TOKENS.length
  const tokens = [...CONTROL_TOKENS, ...alphabet.toSorted()]
  const idOf = new Map(tokens.map((t, i) => [t, i]))
  const encoder = new TextEncoder()
  const counts = new Map<string, number>()
  for (const text of texts)
    for (const word of text.match(WORD) ?? []) counts.set(word, (counts.get(word) ?? 0) + 1)
  const words: Word[] = [...counts].map(([word, count]) => ({
    symbols: Array.from(encoder.encode(word), (b) => idOf.get(alphabet[b] ?? '') ?? offset),
    count,
  }))

  // pair key → frequency and the words it occurs in
  const pairs = new Map<number, { count: number; words: Set<number> }>()
  const key = (a: number, b: number): number => a * 2 ** 21 + b
  const addPair = (a: number, b: number, count: number, word: number): void => {
    const k = key(a, b)
    const entry = pairs.get(k) ?? { count: 0, words: new Set<number>() }
    entry.count += count
    if (count > 0) entry.words.add(word)
    pairs.set(k, entry)
  }
  words.forEach(({ symbols, count }, w) => {
    for (let i = 0; i + 1 < symbols.length; i++)
      addPair(symbols[i] ?? 0, symbols[i + 1] ?? 0, count, w)
  })

  const merges: string[] = []
  while (tokens.length < vocabularySize) {
    let best = -1
    let most = minFrequency - 1
    for (const [k, { count }] of pairs)
      if (count > most || (count === most && best >= 0 && k < best)) [best, most] = [k, count]
    if (best < 0) break
    const a = Math.floor(best / 2 ** 21)
    const b = best % 2 ** 21
    const id = tokens.length
    merges.push(`${tokens[a] ?? ''} ${tokens[b] ?? ''}`)
    tokens.push(`${tokens[a] ?? ''}${tokens[b] ?? ''}`)
    for (const w of pairs.get(best)?.words ?? []) {
      const word = words[w]
      if (word === undefined) continue
      const { symbols, count } = word
      for (let i = 0; i + 1 < symbols.length; i++)
        addPair(symbols[i] ?? 0, symbols[i + 1] ?? 0, -count, w)
      const merged: number[] = []
      for (let i = 0; i < symbols.length; i++) {
        const pair = symbols[i] === a && symbols[i + 1] === b
        merged.push(pair ? id : (symbols[i] ?? 0))
        if (pair) i++
      }
      word.symbols = merged
      for (let i = 0; i + 1 < merged.length; i++)
        addPair(merged[i] ?? 0, merged[i + 1] ?? 0, count, w)
    }
    pairs.delete(best)
  }
  const byteLevel = {
    type: 'ByteLevel',
    add_prefix_space: false,
    trim_offsets: true,
    use_regex: true,
  }
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: CONTROL_TOKENS.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: HAN }, behavior: 'Isolated', invert: false },
        byteLevel,
      ],
    },
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((t, i) => [t, i])),
      merges,
    },
  }
}

/** Writes tokenizer.json and tokenizer_config.json with Libra's chat template. */
export async function writeTokenizer(
  folder: string,
  tokenizer: Record<string, unknown>,
): Promise<void> {
  const [pad, bos, eos] = CONTROL_TOKENS
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer))
  const config = {
    tokenizer_class: 'PreTrainedTokenizerFast',
    bos_token: bos,
    eos_token: eos,
    pad_token: pad,
    chat_template: CHAT_TEMPLATE,
  }
  await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify(config, null, 1))
}
