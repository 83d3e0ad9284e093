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
const BETTER = { thanClosing: 0.6, thanRepeating: 0.75 }
/** About how many words are said again at most; a longer end is said once. */
const MOST_WORDS = 8

const SEGMENTERS: Record<Language, Intl.Segmenter> = {
  zh: new Intl.Segmenter('zh', { granularity: 'word' }),
  en: new Intl.Segmenter('en', { granularity: 'word' }),
}

/**
 * Pairs of an answer and an edit of it, `share` times as many as `pairs`, that tell a helpfulness model what no judge
 * was asked: closing words are worth a little less than nothing, saying the end of it again, from the last word to all
 * words, less. After the counterfactual pairs of RRM (Liu et al. 2024, section 3.3), with edits in place of other
 * prompts' answers.
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
    const draw = (what: number): number => uniform(seed, 44, what, i)
    const answer = draw(0) < 0.5 ? pair?.chosen : pair?.rejected
    if (pair === undefined || answer === undefined || answer === '') return []
    const language = /\p{Script=Han}/u.test(answer) ? 'zh' : 'en'
    const closings = CLOSINGS[language]
    // where a pair comes again it is edited the other way
    const closes = ((i % pairs.length) + Math.floor(i / pairs.length)) % 2 === 0
    const added = closes
      ? [closings[Math.floor(draw(1) * closings.length)] ?? '']
      : endAgain(answer, language, [draw(2), draw(3)])
    return [
      {
        ...{ axis: pair.axis, prompt: pair.prompt, chosen: answer, source: 'counterfactual' },
        rejected: [answer, ...added].join(language === 'zh' ? '' : ' '),
        probability: closes ? BETTER.thanClosing : BETTER.thanRepeating,
      },
    ]
  })
}

/** The last words of an answer, as often as two draws in [0, 1) say; few of them more often than many. */
function endAgain(answer: string, language: Language, [few, many]: [number, number]): string[] {
  const words = [...SEGMENTERS[language].segment(answer)].filter(({ isWordLike }) => isWordLike)
  const n = 1 + Math.floor(few ** 2 * words.length)
  const times = words.length === 0 ? 1 : Math.max(1, Math.round((1 + many * (MOST_WORDS - 1)) / n))
  return new Array<string>(times).fill(answer.slice(words.at(-n)?.index ?? 0))
}
