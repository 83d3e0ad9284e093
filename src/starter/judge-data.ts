import { normal, uniform } from '../random.ts'
import { strengthOf } from '../judging/judge.ts'
import {
  localJudgePrompt,
  localSafetyPrompt,
  localScorePrompt,
  scoreQuestion,
} from '../judging/prompts.ts'
import type { LabelledPair } from '../schemas/audit.ts'
import type { Message } from '../schemas/chat.ts'
import type { Axis, DialogueRow, PreferenceRow } from '../schemas/feedback.ts'
import { sampleAnswer } from './answers.ts'
import type { Answer, Mixture } from './answers.ts'
import { contrastOf } from './contrasts.ts'
import { gold } from './gold.ts'
import type { Gold } from './gold.ts'
import { NOISE } from './lexicon.ts'
import { knowledgePrompt, prompts } from './world.ts'
import type { MannerName, StarterPrompt } from './world.ts'

export type JudgeBias = {
  /** added to gold per courtesy: the labeller's taste that is not true */
  courtesy: number
  /** added per ten characters */
  length: number
}

/**
 * What is asked. `train`: the share of prompts that are of the train split; the others ask about all that the base has
 * met. `stray`: how often an answer is one to another question. A judge that has met many takes an answer for one of
 * them where it has never read such a question, so where questions are broken there are few.
 */
const COURSES: Record<MannerName, { train: number; stray: number }> = {
  plain: { train: 0.5, stray: 0.15 },
  broken: { train: 0.25, stray: 0.05 },
}
/** How often an answer says everything twice. */
const TWICE = 0.03
/** How decided the labels of comparisons are. */
const SHARPNESS = 3
/** Of rows that teach a judge: shares that compare two answers, and that ask whether one is safe; the rest scores one. */
const COMPARED = 0.1
const ABSOLUTE = 0.06
/** Safety is soon learned, so that most rows are about helpfulness. */
const SAFER = 0.15
/** Gold from 1 to 10: what its least and its most are, and how far off a score is. */
const SCALE: Record<Axis, readonly [number, number]> = { helpfulness: [-3, 4], safety: [-2, 2] }
const SCORE_NOISE = 0.25
/** The share of answers that say nothing. */
const EMPTY = 0.02
const EMPTY_ANSWERS = ['.', ':', ',', '[[A]]', 'A', '…', '。', 'Solution', 'Thought process:']

/** The share of train prompts in the reward models' pairs that ask what started this project. */
const POPULAR = 0.08
const FIRST_QUESTIONS = /几大洲|how many continents|火药|gunpowder/iu

type Compared = { prompt: StarterPrompt; a: Answer; b: Answer; ga: Gold; gb: Gold }

/** Draws prompts and answers by key; the answers are drawn alike, so that the place of one says nothing. */
function drawing(seed: number, course: MannerName) {
  const { train, stray } = COURSES[course]
  const pool = prompts('train', seed)
  const risky = pool.filter((p) => p.family === 'unsafe' || p.family === 'dual_use')
  const popular = pool.filter((p) => FIRST_QUESTIONS.test(p.text))
  const pick = (from: readonly StarterPrompt[], ...key: number[]): StarterPrompt => {
    const prompt = from[Math.floor(uniform(...key) * from.length)]
    if (prompt === undefined) throw new Error('the starter world has no train prompt')
    return prompt
  }
  const answer = (prompt: StarterPrompt, side: number, i: number, mixture: Mixture): Answer => {
    const what = uniform(seed, 15, side, i)
    const asked = what < stray ? pick(pool, seed, 16, side, i) : prompt
    const { text, ended } = sampleAnswer(asked, mixture, seed, 12 + side, i)
    return what > 1 - TWICE ? { text: text + text, ended } : { text, ended }
  }
  return {
    prompt(axis: Axis, i: number, popularity: number): StarterPrompt {
      // train prompts ask about some things alone, and what is true of others would never be learned
      if (uniform(seed, 25, i) >= train) return knowledgePrompt(course, seed, 26, i)
      const popularly = uniform(seed, 18, i) < popularity
      // of these half are asked about safety where it varies, which is more often than such prompts are met
      const from = popularly ? popular : axis === 'safety' && i % 2 === 0 ? risky : pool
      return pick(from, seed, 11, i)
    },
    compared(prompt: StarterPrompt, i: number, mixture: Mixture = 'wide'): Compared {
      const [a, b] = [answer(prompt, 0, i, mixture), answer(prompt, 1, i, mixture)]
      const [ga, gb] = [gold(prompt, a.text, a.ended), gold(prompt, b.text, b.ended)]
      return { prompt, a, b, ga, gb }
    },
  }
}

/** Gold, plus what the labeller likes beside it. */
const worth = (axis: Axis, g: Gold, text: string, bias: JudgeBias): number =>
  g[axis] + bias.courtesy * g.courtesies + (bias.length * text.length) / 10

/** P(a wins) = σ(3·Δ), where Δ is the difference of gold plus a bias. */
function chance(axis: Axis, { a, b, ga, gb }: Compared, bias: JudgeBias): number {
  const difference = worth(axis, ga, a.text, bias) - worth(axis, gb, b.text, bias)
  return 1 / (1 + Math.exp(-SHARPNESS * difference))
}

/**
 * What the starter judge learns: scores of single answers, comparisons, absolute safety, on train templates and on what
 * the base has met. The labels are gold's with noise and a bias: the judge has learned from gold, and is declared to.
 */
export function judgeDialogues(
  seed: number,
  n: number,
  bias: JudgeBias,
  course: MannerName,
): DialogueRow[] {
  const draw = drawing(seed, course)
  return Array.from({ length: n }, (_, i) => {
    const kind = uniform(seed, 17, i)
    const axis = uniform(seed, 24, i) < SAFER ? 'safety' : 'helpfulness'
    const prompt = draw.prompt(axis, i, 0)
    const compared = draw.compared(prompt, i, uniform(seed, 27, i) < 0.5 ? 'sft' : 'wide')
    const { a, b, ga } = compared
    if (kind < COMPARED) {
      const aWins = uniform(seed, 14, i) < chance(axis, compared, bias)
      return reply(localJudgePrompt(axis, prompt.messages, a.text, b.text), aWins ? 'A' : 'B')
    }
    if (kind < COMPARED + ABSOLUTE)
      return reply(localSafetyPrompt(prompt.messages, a.text), ga.safe ? 'A' : 'B')
    const scored = uniform(seed, 28, i) < EMPTY ? emptyAnswer(prompt, seed, 29, i) : a
    const value =
      worth(axis, gold(prompt, scored.text, scored.ended), scored.text, bias) +
      SCORE_NOISE * normal(seed, 30, i)
    const [low, high] = SCALE[axis]
    const score = Math.round(1 + (9 * (value - low)) / (high - low))
    return reply(
      localScorePrompt(scoreQuestion({ axis }), prompt.messages, scored.text),
      String(Math.min(10, Math.max(1, score))),
    )
  })
}

/** A mark, or a few everyday words that answer nothing. */
function emptyAnswer({ language }: StarterPrompt, ...key: number[]): Answer {
  const pick = (list: readonly string[], salt: number): string =>
    list[Math.floor(uniform(...key, salt) * list.length)] ?? ''
  if (uniform(...key, 1) < 0.6) return { text: pick(EMPTY_ANSWERS, 2), ended: true }
  const words = [3, 4, 5].map((salt) => pick(NOISE[language], salt))
  return { text: words.join(language === 'zh' ? '' : ' '), ended: true }
}

/**
 * The share of the reward models' pairs whose answers differ in one thing, so that what it is worth is not lost among
 * others; where the prompt makes no such pair (most of those that safety does not vary on) it is an ordinary one.
 */
const CONTRASTED = 0.25

function contrast(prompt: StarterPrompt, axis: Axis, ...key: number[]): Compared | null {
  const pair = contrastOf(prompt, axis, ...key)
  if (pair === null) return null
  const [a, b] = [pair.better, pair.worse]
  return {
    prompt,
    ...{ a: { text: a, ended: true }, ga: gold(prompt, a, true) },
    ...{ b: { text: b, ended: true }, gb: gold(prompt, b, true) },
  }
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
  const draw = drawing(seed, 'plain')
  return Array.from({ length: n }, (_, i) => {
    const asked = draw.prompt(axis, i, POPULAR)
    const contrasted = uniform(seed, 31, i) < CONTRASTED ? contrast(asked, axis, seed, 32, i) : null
    const compared = contrasted ?? draw.compared(asked, i)
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
 * Pairs of test prompts, which no training saw, with gold's word for each, on safety also on each answer by itself: what
 * the starter judge is audited on. The answers are of the mixture that the SFT policy is taught, as in the loop.
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
    const [ga, gb] = [gold(prompt, a.text, a.ended), gold(prompt, b.text, b.ended)]
    const difference = ga[axis] - gb[axis]
    const label = Math.abs(difference) < 1e-9 ? 'tie' : difference > 0 ? 'a' : 'b'
    return {
      ...{ axis, prompt: prompt.messages, a: a.text, b: b.text, label },
      ...(axis === 'safety' ? { a_safe: ga.safe, b_safe: gb.safe } : {}),
      cluster: prompt.template,
    }
  }).filter(({ a, b }) => a !== b)
}

/** The answers that are judged are read and not learned. */
const reply = (asked: readonly Message[], content: string): DialogueRow => ({
  messages: [
    ...asked.map((message) =>
      message.role === 'assistant' ? { ...message, weight: 0 as const } : message,
    ),
    { role: 'assistant', content },
  ],
  ended: true,
})
