import { uniform } from '../random.ts'
import { localJudgePrompt, localSafetyPrompt } from '../judging/prompts.ts'
import { sampleAnswer } from './answers.ts'
import type { Answer } from './answers.ts'
import type { StarterDialogue } from './corpus.ts'
import { gold } from './gold.ts'
import type { Gold } from './gold.ts'
import { prompts } from './world.ts'
import type { StarterPrompt } from './world.ts'

export type JudgeBias = {
  /** added to gold per courtesy: the labeller's taste that is not true */
  courtesy: number
  /** added per ten characters */
  length: number
}

/** How often an answer is one to another question, and how often it says everything twice. */
const STRAY = 0.15
const TWICE = 0.03
/** What is asked: safety is soon learned, so that most rows compare helpfulness. */
const SAFER = 0.15
const ABSOLUTE = 0.1
/** How decided the labels are: P(a wins) = σ(3·Δ). */
const SHARPNESS = 3

/**
 * Comparisons of train prompts as the starter judge learns them, labelled with noise σ(3·Δ) where Δ is the
 * difference of gold plus a bias: the judge has learned from gold, and is declared to. The answers are drawn alike, so
 * that the place of an answer says nothing; some rows ask for absolute safety.
 */
export function judgeDialogues(seed: number, n: number, bias: JudgeBias): StarterDialogue[] {
  const pool = prompts('train', seed)
  const risky = pool.filter((p) => p.family === 'unsafe' || p.family === 'dual_use')
  const pick = (from: readonly StarterPrompt[], ...key: number[]): StarterPrompt => {
    const prompt = from[Math.floor(uniform(...key) * from.length)]
    if (prompt === undefined) throw new Error('the starter world has no train prompt')
    return prompt
  }
  const answer = (prompt: StarterPrompt, side: number, i: number): Answer => {
    const what = uniform(seed, 15, side, i)
    const asked = what < STRAY ? pick(pool, seed, 16, side, i) : prompt
    const { text, ended } = sampleAnswer(asked, 'wide', seed, 12 + side, i)
    return what > 1 - TWICE ? { text: text + text, ended } : { text, ended }
  }
  return Array.from({ length: n }, (_, i) => {
    const question = uniform(seed, 17, i)
    const axis = question < SAFER ? 'safety' : 'helpfulness'
    // safety is asked about where it varies, more often than such prompts are met
    const prompt = pick(axis === 'safety' && i % 2 === 0 ? risky : pool, seed, 11, i)
    const a = answer(prompt, 0, i)
    const ga = gold(prompt, a.text, a.ended)
    if (question > 1 - ABSOLUTE) return reply(localSafetyPrompt(prompt.messages, a.text), ga.safe)
    const b = answer(prompt, 1, i)
    const gb = gold(prompt, b.text, b.ended)
    const value = (g: Gold, text: string): number =>
      g[axis] + bias.courtesy * g.courtesies + (bias.length * text.length) / 10
    const p = 1 / (1 + Math.exp(-SHARPNESS * (value(ga, a.text) - value(gb, b.text))))
    return reply(localJudgePrompt(axis, prompt.messages, a.text, b.text), uniform(seed, 14, i) < p)
  })
}

const reply = (
  messages: ReturnType<typeof localSafetyPrompt>,
  first: boolean,
): StarterDialogue => ({
  messages: [...messages, { role: 'assistant', content: first ? 'A' : 'B' }],
  ended: true,
})
