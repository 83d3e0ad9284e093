import { permutation } from '../../random.ts'
import { LibraError } from '../../errors.ts'
import type { PromptRow } from '../../schemas/feedback.ts'
import type { PpoOptions } from '../../schemas/policy-options.ts'
import { encodeChat } from '../../text/template.ts'
import type { Tokenizer } from '../../text/tokenizer.ts'
import type { RolloutOptions } from './rollout.ts'

export type Prompt = { row: PromptRow; ids: number[] }

/** Prompts as tokens. Throws `empty_data`, or `context_length_exceeded` naming the prompt of the file. */
export function encodePrompts(
  rows: PromptRow[],
  tokenizer: Tokenizer,
  context: number,
  options: PpoOptions,
  file: string,
): Prompt[] {
  if (rows.length === 0) throw new LibraError('empty_data', `${file} holds no prompt`)
  return rows.map((row, i) => {
    const { ids } = encodeChat(tokenizer, row.messages, true)
    if (ids.length + options.max_new_tokens > context)
      throw new LibraError(
        'context_length_exceeded',
        `${file}, prompt ${i + 1}: ${ids.length} tokens and max_new_tokens ${options.max_new_tokens} exceed the context of ${context}`,
      )
    return { row, ids }
  })
}

/** The next prompts after so many: a keyed permutation per pass over the data, each asked samples_per_prompt times. */
export function pickPrompts(
  prompts: readonly Prompt[],
  options: PpoOptions,
  before: number,
): number[] {
  return Array.from({ length: options.prompts_per_round }, (_, i) => {
    const at = before + i
    const order = permutation(prompts.length, options.seed, 3, Math.floor(at / prompts.length))
    return order[at % prompts.length] ?? 0
  }).flatMap((at) => new Array<number>(options.samples_per_prompt).fill(at))
}

/** How a round's answers are sampled. */
export const samplingOf = (
  options: PpoOptions,
  tokenizer: Tokenizer,
  key: readonly number[],
): RolloutOptions => ({
  maxTokens: options.max_new_tokens,
  temperature: options.temperature,
  stopId: tokenizer.eos,
  microTokens: options.micro_batch_tokens,
  key,
  decode: (ids: number[]) => tokenizer.decode(ids),
})
