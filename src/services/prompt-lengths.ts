import { LibraError } from '../errors.ts'
import type { Message } from '../schemas/chat.ts'
import { encodeChat } from '../text/template.ts'
import { loadTokenizer } from '../text/tokenizer.ts'
import { PART } from './policy-answers.ts'
import type { AskedPrompt } from './policy-answers.ts'
import type { NamedPolicy } from './policy-line.ts'
import type { Services } from './services.ts'

type Asked = Pick<AskedPrompt, 'id' | 'number' | 'later'> & { messages: readonly Message[] }

/**
 * Whether every policy can read every prompt, with all its turns where it has several and the answers to them as long
 * as they may be, and still has `max_new_tokens` tokens left to answer in. Throws `context_length_exceeded` naming the
 * first prompt that is too long, by its number and id, before anything is sampled.
 */
export async function checkLengths(
  { serving }: Pick<Services, 'serving'>,
  policies: readonly NamedPolicy[],
  prompts: readonly Asked[],
  { max_new_tokens: answer }: { max_new_tokens: number },
): Promise<void> {
  // those on one base read with the same tokenizer and have the same context
  const bases = new Map(policies.map((policy) => [policy.files.base, policy]))
  for (const { name, files } of bases.values()) {
    const tokenizer = await loadTokenizer(files.base)
    const { contextLength: context } = await serving.describe(files)
    // as the engine does: where an answer may be as long as the context, one token of it is left to the prompt
    const limit = context - Math.min(answer, context - 1)
    for (const [i, { id, messages, later = [], number = i + 1 }] of prompts.entries()) {
      if (i % PART === 0) await new Promise(setImmediate)
      const turns = later.flatMap((content) => [
        { role: 'assistant' as const, content: '' },
        { role: 'user' as const, content },
      ])
      const own = encodeChat(tokenizer, [...messages, ...turns], true).ids.length
      const tokens = own + later.length * answer
      if (tokens <= limit) continue
      const which = `prompt ${number}${id === undefined ? '' : ` (id ${id})`}`
      throw new LibraError(
        'context_length_exceeded',
        `${which} has ${tokens} tokens${later.length === 0 ? '' : ` with its ${later.length + 1} turns and the answers between them`}; ${name} takes at most ${limit}, its context of ${context} less max_new_tokens ${answer}: shorten it or leave it out`,
        { details: { field: 'options.file', prompt: number, id: id ?? null, tokens, limit } },
      )
    }
  }
}
