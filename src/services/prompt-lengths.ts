import { LibraError } from '../errors.ts'
import type { Message } from '../schemas/chat.ts'
import { encodeChat } from '../text/template.ts'
import { loadTokenizer } from '../text/tokenizer.ts'
import type { Tokenizer } from '../text/tokenizer.ts'
import type { OpenedRow } from './alignment-tax.ts'
import { PART } from './policy-answers.ts'
import type { AskedPrompt } from './policy-answers.ts'
import type { NamedPolicy } from './policy-line.ts'
import type { Services } from './services.ts'

type Asked = Pick<AskedPrompt, 'id' | 'number' | 'later'> & { messages: readonly Message[] }
/** What is to be read, and how many tokens must be left behind it. */
type Text = {
  /** as it is told, behind its number in the file */
  number: number
  id?: string | undefined
  tokens(): number
  /** where its tokens are more than those of the text itself */
  with?: string
  room: number
}

/**
 * Whether every policy can read every prompt, with all its turns where it has several and the answers between them as
 * long as they may be, and still has `max_new_tokens` tokens left to answer in; with `given` whether there is room for
 * an answer of so many, which is asked only where it is longer. Throws `context_length_exceeded` naming the first prompt
 * that is too long, by its number and id, before anything is sampled.
 */
export const checkLengths = (
  services: Pick<Services, 'serving'>,
  policies: readonly NamedPolicy[],
  prompts: readonly Asked[],
  { max_new_tokens: sampled }: { max_new_tokens: number },
  given?: (tokenizer: Tokenizer) => number,
): Promise<void> =>
  check(services, policies, { what: 'prompt', field: 'options.file' }, (tokenizer) => {
    const room = given?.(tokenizer) ?? sampled
    if (given !== undefined && room <= sampled) return []
    return prompts.map(({ id, messages, later = [], number }, i) => ({
      ...{ number: number ?? i + 1, id, room },
      ...(later.length === 0
        ? {}
        : { with: ` with its ${later.length + 1} turns and the answers between them` }),
      tokens: () => {
        const turns = later.flatMap((content) => [
          { role: 'assistant' as const, content: '' },
          { role: 'user' as const, content },
        ])
        const own = encodeChat(tokenizer, [...messages, ...turns], true).ids.length
        return own + later.length * room
      },
    }))
  })

/** The same of rows that alignment is taxed on: given texts, and prompts whose facts a policy is asked for. */
export const checkTax = (
  services: Pick<Services, 'serving'>,
  policies: readonly NamedPolicy[],
  rows: readonly OpenedRow[],
  { max_new_tokens: sampled }: { max_new_tokens: number },
): Promise<void> =>
  check(services, policies, { what: 'row', field: 'options.tax' }, (tokenizer) =>
    rows.flatMap((row): Text[] => {
      const { number } = row
      if ('text' in row) {
        const begin = tokenizer.bos === null ? 0 : 1
        return [{ number, room: 0, tokens: () => begin + tokenizer.encode(row.text).length }]
      }
      const given = [...row.prompt, { role: 'assistant' as const, content: row.response }]
      return [
        {
          number,
          room: 0,
          tokens: () => encodeChat(tokenizer, given).assistant.lastIndexOf(1) + 1,
        },
        ...(row.facts === undefined
          ? []
          : [
              {
                ...{ number, room: sampled },
                tokens: () => encodeChat(tokenizer, row.prompt, true).ids.length,
              },
            ]),
      ]
    }),
  )

async function check(
  { serving }: Pick<Services, 'serving'>,
  policies: readonly NamedPolicy[],
  { what, field }: { what: string; field: string },
  textsOf: (tokenizer: Tokenizer) => Text[],
): Promise<void> {
  // those on one base read with the same tokenizer and have the same context
  const bases = new Map(policies.map((policy) => [policy.files.base, policy]))
  for (const { name, files } of bases.values()) {
    const tokenizer = await loadTokenizer(files.base)
    const { contextLength: context } = await serving.describe(files)
    for (const [i, text] of textsOf(tokenizer).entries()) {
      if (i % PART === 0) await new Promise(setImmediate)
      // as the engine does: where an answer may be as long as the context, one token of it is left to the prompt
      const limit = context - Math.min(text.room, context - 1)
      const tokens = text.tokens()
      if (tokens <= limit) continue
      const which = `${what} ${text.number}${text.id === undefined ? '' : ` (id ${text.id})`}`
      const less = text.room === 0 ? '' : ` less ${text.room} for an answer`
      throw new LibraError(
        'context_length_exceeded',
        `${which} has ${tokens} tokens${text.with ?? ''}; ${name} takes at most ${limit}, its context of ${context}${less}: shorten it or leave it out`,
        { details: { field, prompt: text.number, id: text.id ?? null, tokens, limit } },
      )
    }
  }
}
