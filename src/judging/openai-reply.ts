import { z } from 'zod'
import { failed } from './respondent.ts'
import type { Choice, Failed, Written } from './respondent.ts'

/** Below this the options have so little mass that the model is not answering the question. */
const OPTION_MASS_FLOOR = 0.5
/** So much of a first token that may be the beginning of one option and the whole of another is left out. */
const AMBIGUOUS_MASS = 0.05

const Candidate = z.object({ token: z.string(), logprob: z.number() })

/** The part of a chat completion that a verdict is made of; servers leave out or null what they do not do. */
export const Completion = z.object({
  choices: z
    .array(
      z.object({
        finish_reason: z.string().nullish(),
        message: z.object({ content: z.string().nullish(), refusal: z.string().nullish() }),
        logprobs: z
          .object({
            content: z
              .array(z.object({ token: z.string(), top_logprobs: z.array(Candidate).nullish() }))
              .nullish(),
          })
          .nullish()
          .catch(null), // a server's own shape of log-probabilities: the text still counts
      }),
    )
    .min(1),
  usage: z
    .object({
      total_tokens: z.number().nonnegative(),
      prompt_tokens: z.number().nonnegative().nullish(),
      completion_tokens: z.number().nonnegative().nullish(),
    })
    .nullish()
    .catch(null),
})
export type Completion = z.infer<typeof Completion>

/** `A` for `A`, ` a`, `▁A`, `Ġa` and the full-width `Ａ`: the ways a tokenizer spells one word. */
const wordOf = (token: string): string =>
  token
    .normalize('NFKC')
    .replace(/^[\s▁Ġ]+|\s+$/g, '')
    .toUpperCase()

type Position = { token: string; top_logprobs?: z.infer<typeof Candidate>[] | null | undefined }

/**
 * P(option) over all options, from the alternatives of the first token, summed over every spelling; null where the
 * options have too little mass. Of options that begin alike, such as 1 and 10, a tokenizer may show the same first
 * token: the second token tells them apart where the reply went that way.
 */
export function optionProbabilities(
  [first, second]: readonly Position[],
  options: readonly string[],
): number[] | null {
  const masses = new Map(options.map((option) => [option, 0]))
  const words = massOf(first?.top_logprobs ?? [])
  for (const [word, mass] of words) if (masses.has(word)) masses.set(word, mass)
  for (const long of options) {
    const short = options.find((option) => option !== long && long.startsWith(option))
    const shared = short === undefined ? 0 : (masses.get(short) ?? 0)
    if (short === undefined || shared === 0 || words.has(long)) continue
    const rest = massOf(second?.top_logprobs ?? []).get(long.slice(short.length)) ?? 0
    if (wordOf(first?.token ?? '') === short && second !== undefined) {
      masses.set(short, shared * (1 - rest))
      masses.set(long, shared * rest)
    } else if (shared > AMBIGUOUS_MASS) return null
    else masses.set(short, 0)
  }
  const all = options.map((option) => masses.get(option) ?? 0)
  const mass = all.reduce((sum, p) => sum + p, 0)
  // above 1 (but for rounding) these are no log-probabilities; NaN fails both comparisons
  return mass >= OPTION_MASS_FLOOR && mass <= 1.01 ? all.map((p) => p / mass) : null
}

function massOf(top: readonly z.infer<typeof Candidate>[]): Map<string, number> {
  const masses = new Map<string, number>()
  for (const { token, logprob } of top) {
    const word = wordOf(token)
    masses.set(word, (masses.get(word) ?? 0) + Math.exp(logprob))
  }
  return masses
}

/** An option that a text says; `first`: nothing but punctuation stands before it. */
type Spoken = { option: string; first: boolean }

/** One option alone, or after one plain lead-in, in light punctuation. All else is ambiguous. */
const PUNCTUATION = '[\\s*_"\'`“”‘’「」()\\[\\].:,。,:]*'
function spoken(text: string, options: readonly string[]): Spoken | null {
  const words = options.toSorted((a, b) => b.length - a.length).join('|')
  const verdict = new RegExp(
    `^${PUNCTUATION}((?:(?:final |my |the )?(?:answer|verdict|choice|option|score|rating)(?: is)?|答案(?:是)?|回答|选择?|选项|评分|得分)${PUNCTUATION})?(${words})${PUNCTUATION}$`,
    'iu',
  )
  const [, lead, option] = verdict.exec(text) ?? []
  return option === undefined ? null : { option: option.toUpperCase(), first: lead === undefined }
}

/** `{"choice": "A"}`, as prescribed. */
function structured(text: string, options: readonly string[]): string | null {
  if (!text.startsWith('{')) return null
  try {
    const { choice } = JSON.parse(text) as { choice?: unknown }
    return typeof choice === 'string' && options.includes(choice) ? choice : null
  } catch {
    return null
  }
}

const REFUSAL =
  /^[\s"“]*(?:(?:i'?m|i am)?\s*(?:very |really |so )?sorry\b|apologies|i (?:can'?t|can ?not|won'?t|am unable|am not able|must decline)|i'm (?:unable|not able)|as an ai\b|抱歉|对不起|很抱歉|非常抱歉|我(?:不能|无法|没法|不便|拒绝)|无法(?:回答|协助|提供|判断))/iu

const textOf = ({ choices }: Completion): string =>
  choices[0]?.message.content?.normalize('NFKC').replaceAll('’', "'").trim() ?? ''

/** Why a reply holds nothing that could be read, or null where it does. */
function missing(completion: Completion): Failed | null {
  const [choice] = completion.choices
  if (choice?.message.refusal) return failed('refused', 'the judge declined to answer')
  if (choice?.finish_reason === 'content_filter')
    return failed('refused', 'the content filter of the judge cut its answer off')
  if (textOf(completion) === '')
    return failed(
      'unparseable',
      choice?.finish_reason === 'length'
        ? 'the judge used up max_tokens before its verdict (a reasoning model needs more)'
        : 'the judge sent no text',
    )
  return null
}

/**
 * P(option) from one reply, or why there is none. The reply alone is read, never a word of what was asked. The first
 * token's probabilities count where it is the option that the words say, or its beginning: "A and B are equal" begins with
 * A and chooses nothing, and what a tokenizer makes of "Answer: B" may begin with A, too.
 */
export function readChoice(completion: Completion, options: readonly string[]): Choice {
  const nothing = missing(completion)
  if (nothing !== null) return nothing
  const text = textOf(completion)
  const prescribed = structured(text, options)
  const words = prescribed === null ? spoken(text, options) : null
  const said = prescribed ?? words?.option ?? null
  const positions = completion.choices[0]?.logprobs?.content ?? []
  const [first] = positions
  const token = wordOf(first?.token ?? '')
  const counts =
    words === null
      ? wordOf(text) === token // where no more than one token was let through, it may be any
      : words.first && token !== '' && words.option.startsWith(token)
  const soft = prescribed === null && counts && (first?.top_logprobs?.length ?? 0) > 0
  const probabilities = soft ? optionProbabilities(positions, options) : null
  if (probabilities !== null) return { ok: true, soft: true, probabilities }
  if (said !== null && !soft && isCut(completion, said, options))
    return failed('unparseable', `the judge's answer was cut off after ${excerpt(said)}`)
  if (said !== null && !soft)
    return { ok: true, soft: false, probabilities: options.map((o) => (o === said ? 1 : 0)) }
  if (REFUSAL.test(text)) return failed('refused', 'the judge declined to answer')
  if (soft)
    return failed('unparseable', `the options have a probability below ${OPTION_MASS_FLOOR}`)
  const wanted = options.join(', ')
  return failed(
    'unparseable',
    `the judge did not answer with one of ${wanted} but ${excerpt(text)}`,
  )
}

/** Whether a reply ended for its length behind an option that may have gone on to a longer one, as 1 to 10. */
const isCut = (completion: Completion, said: string, options: readonly string[]): boolean =>
  completion.choices[0]?.finish_reason === 'length' &&
  textOf(completion).toUpperCase().endsWith(said) &&
  options.some((option) => option !== said && option.startsWith(said))

/**
 * The prose of one reply, or why there is none. Words of refusal are prose: a revision that refuses may be what was asked
 * for.
 */
export function readProse(completion: Completion): Written {
  const nothing = missing(completion)
  if (nothing !== null) return nothing
  const [choice] = completion.choices
  const text = choice?.message.content?.trim() ?? ''
  return { ok: true, text, ...(choice?.finish_reason === 'length' && { cut: true }) }
}

/** A short piece of a server's words for a message: one line, no control characters. */
export function excerpt(text: string): string {
  const line = text.replace(/[\p{Cc}\s]+/gu, ' ').trim()
  return JSON.stringify(line.length > 200 ? `${line.slice(0, 200).toWellFormed()}…` : line)
}
