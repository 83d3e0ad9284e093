import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers'
import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { LibraError } from '../errors.ts'
import { readJson } from '../weights/json.ts'
import { decodeBytesAsRust, mapBytesFaster, readTokenizerJson } from './tokenizer-json.ts'
import type { TokenizerJson } from './tokenizer-json.ts'

export type Tokenizer = {
  /**
   * Ids of a text in which what looks like a control token is ordinary text. `first`: it begins the input; some
   * tokenizers put a space before that.
   */
  encode(text: string, first?: boolean): number[]
  /** Ids of a text whose control tokens count. */
  encodeTemplate(text: string): number[]
  /** Control tokens by their text; what they take of the spaces beside them. */
  controls: ReadonlyMap<string, { id: number; lstrip: boolean; rstrip: boolean }>
  decode(ids: readonly number[]): string
  size: number
  bos: number | null
  eos: number
  pad: number
  bosToken: string
  eosToken: string
  template: string
}

/**
 * Loads tokenizer.json and tokenizer_config.json with its chat template; '' where there is none, as in many bases.
 * Throws `damaged_checkpoint` or `unsupported_architecture` naming the file and the field.
 */
export async function loadTokenizer(folder: string): Promise<Tokenizer> {
  const file = join(folder, 'tokenizer.json')
  const json = await readTokenizerJson(file)
  const configFile = join(folder, 'tokenizer_config.json')
  const config = await readJson(configFile)
  const name = (key: string): string => {
    const value = config[key] as string | { content: string } | null | undefined
    return typeof value === 'string' ? value : (value?.content ?? '')
  }
  const template = await readTemplate(folder, config)
  const eosToken = name('eos_token')
  const full = build(json, config, file)
  // The same tokenizer without control tokens: message text can't reach their ids. One that nobody can know stands
  // before a text that does not begin the input.
  const sentinel = `<|${randomUUID()}|>`
  const added = json.added_tokens ?? []
  const before = { id: 0, content: sentinel, special: true, normalized: false }
  const plain = build(
    { ...json, added_tokens: [...added.filter((t) => !t.special), before] },
    config,
    file,
  )
  const ids = (tokenizer: HuggingFaceTokenizer, text: string): number[] =>
    text === '' ? [] : tokenizer.encode(text, { add_special_tokens: false }).ids
  const eos = full.token_to_id(eosToken)
  if (eos === undefined)
    throw new LibraError(
      'damaged_checkpoint',
      `${configFile}: eos_token ${JSON.stringify(eosToken)} is not in the vocabulary`,
    )
  const bosToken = name('bos_token')
  return {
    encode: (text, first = true) =>
      first || text === '' ? ids(plain, text) : ids(plain, sentinel + text).slice(1),
    encodeTemplate: (text) => ids(full, text),
    controls: new Map(
      added
        .filter(({ special }) => special)
        .map(({ content, id, lstrip = false, rstrip = false }) => [
          content,
          { id, lstrip, rstrip },
        ]),
    ),
    decode: (ids) =>
      ids.length === 0
        ? ''
        : full.decode([...ids], { skip_special_tokens: true, clean_up_tokenization_spaces: false }),
    size: full.get_vocab(true).size,
    bos: full.token_to_id(bosToken) ?? null,
    eos,
    pad: full.token_to_id(name('pad_token')) ?? eos,
    bosToken,
    eosToken,
    template,
  }
}

function build(json: TokenizerJson, config: object, file: string): HuggingFaceTokenizer {
  try {
    const tokenizer = new HuggingFaceTokenizer(json, config)
    decodeBytesAsRust(tokenizer)
    mapBytesFaster(tokenizer)
    return tokenizer
  } catch (cause) {
    throw new LibraError('damaged_checkpoint', `${file}: ${String(cause)}`, { cause })
  }
}

/** As transformers: chat_template.jinja before what tokenizer_config.json says; of several templates the default one. */
async function readTemplate(folder: string, config: Record<string, unknown>): Promise<string> {
  const file = join(folder, 'chat_template.jinja')
  if (existsSync(file)) return readFile(file, 'utf8')
  const inline = config['chat_template']
  if (!Array.isArray(inline)) return typeof inline === 'string' ? inline : ''
  const named = inline as { name?: string; template?: string }[]
  return named.find(({ name }) => name === 'default')?.template ?? ''
}
