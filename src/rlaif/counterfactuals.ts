import { permutation, uniform } from '../random.ts'
import type { PreferenceRow } from '../schemas/feedback.ts'

type Language = 'zh' | 'en'
/** Words that close an answer and say nothing. Judges like some of them: pairs of their own tell the model otherwise. */
const CLOSINGS: Record<Language, readonly string[]> = {
  zh: ['谢谢您。', '感谢提问。', '祝您愉快。', '希望对您有用。', '祝您一切顺利。', '很高兴帮您。'],
  en: ['Thank you.', 'Thanks for asking.', 'Have a nice day.', 'I hope this helps.', 'All the best.', 'Glad to help.'], // prettier-ignore
}
/**
 * P(the answer as it was is better). A hard label makes the reward model look for nothing else: it then takes 3 to 5
 * deviations off for anything behind the first full stop, and agrees less with gold (docs/decisions.md).
 */
const PLAINLY = 0.6
const MOST_REPEATS = 3

const joined = (language: Language, parts: readonly string[]): string =>
  parts.join(language === 'zh' ? '' : ' ')
const sentences = (text: string): string[] => text.split(/(?<=[。.，,!?！？])\s*/u).filter(Boolean)

/**
 * Pairs of an answer and an edit of it, `share` times as many as `pairs`, that tell a helpfulness model what no judge
 * was asked: closing words, and saying all or the last of it again, are worth a little less than nothing. After the
 * counterfactual pairs of RRM (Liu et al. 2024, section 3.3), with edits in place of other prompts' answers.
 */
export function counterfactualPairs(
  pairs: readonly PreferenceRow[],
  share: number,
  seed: number,
): PreferenceRow[] {
  const order = permutation(pairs.length, seed, 43)
  const n = Math.round(share * pairs.length)
  return Array.from({ length: n }, (_, i) => i).flatMap((i): PreferenceRow[] => {
    const pair = pairs[order[i % pairs.length] ?? 0]
    const draw = (what: number, n: number): number => Math.floor(uniform(seed, 44, what, i) * n)
    const answer = draw(0, 2) === 0 ? pair?.chosen : pair?.rejected
    if (pair === undefined || answer === undefined || answer === '') return []
    const language = /\p{Script=Han}/u.test(answer) ? 'zh' : 'en'
    const closing = CLOSINGS[language][draw(1, CLOSINGS[language].length)] ?? ''
    const last = sentences(answer).at(-1) ?? answer
    const again = i % 4 === 1 ? [answer] : new Array<string>(1 + draw(2, MOST_REPEATS)).fill(last)
    return [
      {
        ...{ axis: pair.axis, prompt: pair.prompt, chosen: answer, source: 'counterfactual' },
        rejected: joined(language, [answer, ...(i % 2 === 0 ? [closing] : again)]),
        probability: PLAINLY,
      },
    ]
  })
}
