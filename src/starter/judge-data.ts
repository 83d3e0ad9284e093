import { uniform } from '../random.ts'
import { strengthOf } from '../judging/judge.ts'
import { localJudgePrompt, localSafetyPrompt } from '../judging/prompts.ts'
import type { LabelledPair } from '../schemas/audit.ts'
import type { Axis, PreferenceRow } from '../schemas/feedback.ts'
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
/** How decided the labels are. */
const SHARPNESS = 3

/** The share of the reward models' pairs that asks what started this project. */
const POPULAR = 0.08
const FIRST_QUESTIONS = /几大洲|how many continents|火药|gunpowder/iu

type Compared = { prompt: StarterPrompt; a: Answer; b: Answer; ga: Gold; gb: Gold }

/** Draws prompts and answers by key; the answers are drawn alike, so that the place of one says nothing. */
function drawing(seed: number) {
  const pool = prompts('train', seed)
  const risky = pool.filter((p) => p.family === 'unsafe' || p.family === 'dual_use')
  const popular = pool.filter((p) => FIRST_QUESTIONS.test(p.text))
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
  return {
    // safety is asked about where it varies, more often than such prompts are met
    prompt: (axis: Axis, i: number, popularity: number): StarterPrompt =>
      pick(
        uniform(seed, 18, i) < popularity
          ? popular
          : axis === 'safety' && i % 2 === 0
            ? risky
            : pool,
        ...[seed, 11, i],
      ),
    compared(prompt: StarterPrompt, i: number): Compared {
      const [a, b] = [answer(prompt, 0, i), answer(prompt, 1, i)]
      const [ga, gb] = [gold(prompt, a.text, a.ended), gold(prompt, b.text, b.ended)]
      return { prompt, a, b, ga, gb }
    },
  }
}

/** P(a wins) = σ(3·Δ), where Δ is the difference of gold plus a bias. */
function chance(axis: Axis, { a, b, ga, gb }: Compared, bias: JudgeBias): number {
  const value = (g: Gold, text: string): number =>
    g[axis] + bias.courtesy * g.courtesies + (bias.length * text.length) / 10
  return 1 / (1 + Math.exp(-SHARPNESS * (value(ga, a.text) - value(gb, b.text))))
}

/**
 * Comparisons of train prompts as the starter judge learns them, labelled by chance: the judge has learned from gold,
 * with noise and a bias, and is declared to. Some rows ask for absolute safety.
 */
export function judgeDialogues(seed: number, n: number, bias: JudgeBias): StarterDialogue[] {
  const draw = drawing(seed)
  return Array.from({ length: n }, (_, i) => {
    const question = uniform(seed, 17, i)
    const axis = question < SAFER ? 'safety' : 'helpfulness'
    const compared = draw.compared(draw.prompt(axis, i, 0), i)
    const { prompt, a, b, ga } = compared
    if (question > 1 - ABSOLUTE) return reply(localSafetyPrompt(prompt.messages, a.text), ga.safe)
    const aWins = uniform(seed, 14, i) < chance(axis, compared, bias)
    return reply(localJudgePrompt(axis, prompt.messages, a.text, b.text), aWins)
  })
}

/** How often a whole answer goes without its last stop: people write `七大洲` and mean it. */
const BARE = 0.4

/** Pairs with the judge's own kind of labels, soft: the committed starter reward models learn from them too. */
export function starterPairs(
  seed: number,
  n: number,
  axis: Axis,
  bias: JudgeBias,
): PreferenceRow[] {
  const draw = drawing(seed)
  return Array.from({ length: n }, (_, i) => {
    const compared = draw.compared(draw.prompt(axis, i, POPULAR), i)
    const { prompt, a, b, ga, gb } = compared
    const p = chance(axis, compared, bias)
    const order = p >= 0.5
    const [chosen, rejected] = order ? [a, b] : [b, a]
    const [chosenGold, rejectedGold] = order ? [ga, gb] : [gb, ga]
    const written = ({ text, ended }: Answer, side: number): string =>
      ended && uniform(seed, 19, side, i) < BARE ? text.replace(/[。.]$/u, '') : text
    return {
      ...{ axis, prompt: prompt.messages },
      ...{ chosen: written(chosen, 0), rejected: written(rejected, 1) },
      probability: Math.max(p, 1 - p),
      strength: strengthOf(p),
      ...(axis === 'safety'
        ? { chosen_safe: chosenGold.safe, rejected_safe: rejectedGold.safe }
        : {}),
      source: 'starter',
    }
  })
}

/**
 * Pairs of test prompts, which no training saw, with gold's word for each: what the starter judge is audited on. The
 * answers are of the mixture that the SFT policy is taught, as in the loop.
 */
export function auditPairs(seed: number, n: number, axis: Axis): LabelledPair[] {
  const all = prompts('test', seed)
  // safety is asked about where it varies: elsewhere both answers are safe
  const risky = all.filter((p) => p.family === 'unsafe' || p.family === 'dual_use')
  const pool = axis === 'safety' ? risky : all
  return Array.from({ length: n }, (_, i): LabelledPair => {
    const prompt = pool[Math.floor(uniform(seed, 21, i) * pool.length)]
    if (prompt === undefined) throw new Error('the starter world has no test prompt')
    const [a, b] = [
      sampleAnswer(prompt, 'sft', seed, 22, i),
      sampleAnswer(prompt, 'sft', seed, 23, i),
    ]
    const difference = gold(prompt, a.text, a.ended)[axis] - gold(prompt, b.text, b.ended)[axis]
    const label = Math.abs(difference) < 1e-9 ? 'tie' : difference > 0 ? 'a' : 'b'
    return {
      ...{ axis, prompt: prompt.messages, a: a.text, b: b.text, label },
      cluster: prompt.template,
    }
  }).filter(({ a, b }) => a !== b)
}

const reply = (
  messages: ReturnType<typeof localSafetyPrompt>,
  first: boolean,
): StarterDialogue => ({
  messages: [...messages, { role: 'assistant', content: first ? 'A' : 'B' }],
  ended: true,
})
