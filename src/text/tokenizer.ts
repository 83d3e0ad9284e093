import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { LibraError } from '../errors.ts'
import { readJson } from '../weights/json.ts'

export type Tokenizer = {
  /** Text of a message: what looks like a control token in it becomes ordinary tokens. */
  encode(text: string): number[]
  /** Text of the template: control tokens become their ids. */
  encodeTemplate(text: string): number[]
  decode(ids: readonly number[]): string
  size: number
  bos: number | null
  eos: number
  pad: number
  bosToken: string
  eosToken: string
  template: string
}

type Json = { added_tokens?: { id: number; content: string; special: boolean }[] } & Record<
  string,
  unknown
>

/**
 * Loads tokenizer.json and tokenizer_config.json with its chat template.
 * Throws `damaged_checkpoint` naming the file and the field.
 */
export async function loadTokenizer(folder: string): Promise<Tokenizer> {
  const json = (await readJson(join(folder, 'tokenizer.json'))) as Json
  const configFile = join(folder, 'tokenizer_config.json')
  const config = await readJson(configFile)
  const name = (key: string): string => {
    const value = config[key] as string | { content: string } | null | undefined
    return typeof value === 'string' ? value : (value?.content ?? '')
  }
  const template = await readTemplate(folder, config)
  const eosToken = name('eos_token')
  const full = build(json, config, folder)
  // The same tokenizer without control tokens: message text can't reach their ids.
  const plain = build(
    { ...json, added_tokens: (json.added_tokens ?? []).filter((t) => !t.special) },
    config,
    folder,
  )
  const eos = full.token_to_id(eosToken)
  if (eos === undefined)
    throw new LibraError(
      'damaged_checkpoint',
      `${configFile}: eos_token ${JSON.stringify(eosToken)} is not in the vocabulary`,
    )
  const bosToken = name('bos_token')
  return {
    encode: (text) => (text === '' ? [] : plain.encode(text, { add_special_tokens: false }).ids),
    encodeTemplate: (text) =>
      text === '' ? [] : full.encode(text, { add_special_tokens: false }).ids,
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

function build(json: Json, config: Record<string, unknown>, folder: string): HuggingFaceTokenizer {
  try {
    return new HuggingFaceTokenizer(json, config)
  } catch (cause) {
    throw new LibraError(
      'damaged_checkpoint',
      `${join(folder, 'tokenizer.json')}: ${String(cause)}`,
      { cause },
    )
  }
}

async function readTemplate(folder: string, config: Record<string, unknown>): Promise<string> {
  const inline = config['chat_template']
  if (typeof inline === 'string') return inline
  try {
    return await readFile(join(folder, 'chat_template.jinja'), 'utf8')
  } catch {
    throw new LibraError(
      'damaged_checkpoint',
      `${join(folder, 'tokenizer_config.json')}: chat_template is missing, and there is no chat_template.jinja`,
    )
  }
}
