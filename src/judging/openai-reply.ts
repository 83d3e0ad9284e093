import { z } from 'zod'
import type { Failure } from './judge.ts'

/** Below this P(A) + P(B) the model is not answering the question. */
const OPTION_MASS_FLOOR = 0.5

export type Failed = { ok: false; failure: Failure; message: string }
export const failed = (failure: Failure, message: string): Failed => ({
  ok: false,
  failure,
  message,
})

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
            content: z.array(z.object({ top_logprobs: z.array(Candidate).nullish() })).nullish(),
          })
          .nullish()
          .catch(null), // a server's own shape of log-probabilities: the text still counts
      }),
    )
    .min(1),
  usage: z.object({ total_tokens: z.number().nonnegative() }).nullish().catch(null),
})
export type Completion = z.infer<typeof Completion>

/** `A` for `A`, ` a`, `▁A`, `Ġa` and the full-width `Ａ`: the ways a tokenizer spells one letter. */
const letterOf = (token: string): string =>
  token
    .normalize('NFKC')
    .replace(/^[\s▁Ġ]+|\s+$/g, '')
    .toUpperCase()

/** P(A) of P(A) + P(B), summed over every spelling; null where the two have too little mass. */
export function optionProbability(top: readonly z.infer<typeof Candidate>[]): number | null {
  let [a, b] = [0, 0]
  for (const { token, logprob } of top) {
    const letter = letterOf(token)
    if (letter === 'A') a += Math.exp(logprob)
    else if (letter === 'B') b += Math.exp(logprob)
  }
  const mass = a + b
  // above 1 (but for rounding) these are no log-probabilities; NaN fails both comparisons
  return mass >= OPTION_MASS_FLOOR && mass <= 1.01 ? a / mass : null
}

/** The letter alone, or after one plain lead-in, in light punctuation. All else is ambiguous. */
const PUNCTUATION = '[\\s*_"\'`“”‘’「」()\\[\\].:,。,:]*'
const VERDICT = new RegExp(
  `^${PUNCTUATION}(?:(?:(?:final |my |the )?(?:answer|verdict|choice|option)(?: is)?|答案(?:是)?|回答|选择?|选项)${PUNCTUATION})?([AB])${PUNCTUATION}$`,
  'iu',
)
const REFUSAL =
  /^[\s"“]*(?:(?:i'?m|i am)?\s*(?:very |really |so )?sorry\b|apologies|i (?:can'?t|can ?not|won'?t|am unable|am not able|must decline)|i'm (?:unable|not able)|as an ai\b|抱歉|对不起|很抱歉|非常抱歉|我(?:不能|无法|没法|不便|拒绝)|无法(?:回答|协助|提供|判断))/iu

/** P(the first answer is better) from one reply, or why there is none. */
export function readReply({ choices }: Completion): { ok: true; probability: number } | Failed {
  const [choice] = choices
  const text = choice?.message.content?.normalize('NFKC').replaceAll('’', "'").trim() ?? ''
  if (choice?.message.refusal) return failed('refused', 'the judge declined to answer')
  if (choice?.finish_reason === 'content_filter')
    return failed('refused', 'the content filter of the judge cut its answer off')
  if (text === '')
    return failed(
      'unparseable',
      choice?.finish_reason === 'length'
        ? 'the judge used up max_tokens before its verdict (a reasoning model needs more)'
        : 'the judge sent no text',
    )
  const top = choice?.logprobs?.content?.[0]?.top_logprobs
  if (top != null && top.length > 0) {
    const probability = optionProbability(top)
    if (probability !== null) return { ok: true, probability }
    if (REFUSAL.test(text)) return failed('refused', 'the judge declined to answer')
    return failed('unparseable', `P(A) + P(B) is below ${OPTION_MASS_FLOOR}`)
  }
  const letter = VERDICT.exec(text)?.[1]?.toUpperCase()
  if (letter !== undefined) return { ok: true, probability: letter === 'A' ? 1 : 0 }
  if (REFUSAL.test(text)) return failed('refused', 'the judge declined to answer')
  return failed('unparseable', `the judge did not answer with A or B but ${excerpt(text)}`)
}

/** A short piece of a server's words for a message: one line, no control characters. */
export function excerpt(text: string): string {
  const line = text.replace(/[\p{Cc}\s]+/gu, ' ').trim()
  return JSON.stringify(line.length > 200 ? `${line.slice(0, 200).toWellFormed()}…` : line)
}
