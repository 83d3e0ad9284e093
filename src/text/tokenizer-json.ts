import type { Tokenizer } from '@huggingface/tokenizers'
import { LibraError } from '../errors.ts'
import { readJson } from '../weights/json.ts'

/**
 * Where @huggingface/tokenizers 0.2 gives other ids or texts than the Rust library does, and what is done about it;
 * docs/decisions.md lists what was found by comparing them.
 */
export type TokenizerJson = Record<string, unknown> & {
  added_tokens?: {
    id: number
    content: string
    special: boolean
    lstrip?: boolean
    rstrip?: boolean
    single_word?: boolean
  }[]
}

/** Reads a tokenizer.json. Throws `unsupported_architecture` on an added token that only counts as a whole word. */
export async function readTokenizerJson(file: string): Promise<TokenizerJson> {
  const json = (await readJson(file)) as TokenizerJson
  const whole = json.added_tokens?.find(({ single_word: single }) => single === true)
  if (whole !== undefined)
    throw new LibraError(
      'unsupported_architecture',
      `${file}: added token ${JSON.stringify(whole.content)} has single_word, which is not supported`,
    )
  return { ...json, pre_tokenizer: withSpelledPattern(json['pre_tokenizer']) }
}

/** GPT-2's expression, which ByteLevel has built in (tokenizers, pre_tokenizers/byte_level.rs). */
const GPT2 = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

/** ByteLevel's built-in expression takes JavaScript's spaces for Unicode's (U+FEFF, U+0085), Digits knows Nd alone; a Split does it right. */
function withSpelledPattern(pretokenizer: unknown): unknown {
  const given = pretokenizer as Record<string, unknown> | null | undefined
  if (given == null) return given
  if (given['type'] === 'Sequence') {
    const parts = given['pretokenizers'] as unknown[]
    return { ...given, pretokenizers: parts.map(withSpelledPattern) }
  }
  if (given['type'] === 'Digits') {
    // a digit is what Unicode counts as a number (char::is_numeric), ½ and 〇 too
    const pattern = { Regex: given['individual_digits'] === true ? '\\p{N}' : '\\p{N}+' }
    return { type: 'Split', pattern, behavior: 'Isolated', invert: false }
  }
  const spelled = given['use_regex'] !== false && given['add_prefix_space'] === false
  if (given['type'] !== 'ByteLevel' || !spelled) return given
  const split = { type: 'Split', pattern: { Regex: GPT2 }, behavior: 'Isolated', invert: false }
  return { type: 'Sequence', pretokenizers: [split, { ...given, use_regex: false }] }
}

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Byte tokens in a row: their text, or one replacement character each where they are no UTF-8 (byte_fallback.rs). */
function decodeRun(bytes: Uint8Array): string {
  try {
    return strict.decode(bytes)
  } catch {
    return '\ufffd'.repeat(bytes.length)
  }
}

/** Gives the ByteFallback decoders of a tokenizer our reading of a run of bytes. */
export function decodeBytesAsRust({ decoder }: Tokenizer): void {
  type Part = { config?: { type?: string }; decoders?: Part[]; text_decoder?: unknown }
  const visit = (part: Part | null): void => {
    if (part?.config?.type === 'ByteFallback') part.text_decoder = { decode: decodeRun }
    part?.decoders?.forEach(visit)
  }
  visit(decoder as Part | null)
}

type Part = Record<string, unknown> & { tokenizers?: Part[]; use_regex?: boolean }

/** The sign of each byte in a byte-level vocabulary (openai/gpt-2, encoder.py, bytes_to_unicode). */
const BYTE_SIGNS = Array.from({ length: 256 }, (_, byte) => {
  const printable = (b: number): boolean => (b > 32 && b < 127) || (b > 160 && b !== 173)
  const unprintable = Array.from({ length: byte }, (_, b) => b).filter((b) => !printable(b))
  return String.fromCharCode(printable(byte) ? byte : 256 + unprintable.length)
})

/** Gives the ByteLevel pre-tokenizers of a tokenizer a mapping of bytes that leaves words of ASCII letters as they are. */
export function mapBytesFaster({ pre_tokenizer }: Tokenizer): void {
  const bytes = (text: string): string => {
    if (/^[!-~]*$/.test(text)) return text
    let signs = ''
    for (const byte of Buffer.from(text)) signs += BYTE_SIGNS[byte] ?? ''
    return signs
  }
  const visit = (part: Part | null): void => {
    if (part?.use_regex === false && 'byte_encoder' in part && part['add_prefix_space'] === false)
      part['pre_tokenize_text'] = (text: string) => [bytes(text)]
    part?.tokenizers?.forEach(visit)
  }
  visit(pre_tokenizer as Part | null)
}
