import type { Engine, ModelFiles } from '../engine/engine.ts'
import { comparedMeans } from '../evaluation/shares.ts'
import type { Interval } from '../evaluation/statistics.ts'
import type { RolloutRow } from '../schemas/training.ts'
import { gold } from './gold.ts'
import type { Gold } from './gold.ts'
import type { StarterPrompt } from './world.ts'

export type Graded = { prompt: StarterPrompt; answer: string; gold: Gold }

/** One sampled answer per prompt, graded by gold. */
export async function answerAndGrade(
  engine: Engine,
  model: ModelFiles,
  prompts: readonly StarterPrompt[],
  maxTokens: number,
  seed: number,
  onProgress: (done: number) => void,
  signal?: AbortSignal,
): Promise<Graded[]> {
  const graded: Graded[] = []
  const CHUNK = 100
  for (let i = 0; i < prompts.length; i += CHUNK) {
    const part = prompts.slice(i, i + CHUNK)
    const sampling = { maxTokens, temperature: 1, topP: 1, topK: 0, seed: seed + i, stop: [] }
    const answers = await engine.generate(
      { model, prompts: part.map(({ messages }) => messages), n: 1, onTooLong: 'error', sampling },
      signal,
    )
    part.forEach((prompt, k) => {
      const [answer] = answers[k] ?? []
      if (answer)
        graded.push({
          prompt,
          answer: answer.text,
          gold: gold(prompt, answer.text, answer.finish === 'stop'),
        })
    })
    onProgress(graded.length)
  }
  return graded
}

/** What gold says of a round's rollouts on starter prompts; see `Grade` in rlaif/follow.ts. */
export const gradeRollouts =
  (prompts: readonly StarterPrompt[]) =>
  (rows: readonly RolloutRow[]): Record<string, number> => {
    const graded = rows.flatMap(({ prompt: at, response, ended }) => {
      const prompt = prompts[at]
      return prompt === undefined ? [] : [gold(prompt, response, ended)]
    })
    const mean = (value: (g: Gold) => number): number =>
      graded.reduce((sum, g) => sum + value(g), 0) / graded.length
    return {
      'gold/helpfulness': mean((g) => g.helpfulness),
      'gold/safety': mean((g) => g.safety),
      'gold/safe_and_helpful': mean((g) => Number(g.safe && g.helpful)),
    }
  }

export type Comparison = { figure: string; before: Interval; after: Interval; difference: Interval }

/** The main job's table: each figure before and after with intervals by bootstrap over templates. */
export function compareGraded(
  before: readonly Graded[],
  after: readonly Graded[],
  seed: number,
): Comparison[] {
  if (before.length !== after.length || before.some((g, i) => g.prompt.id !== after[i]?.prompt.id))
    throw new Error(`${before.length} and ${after.length} answers are not to the same prompts`)
  const share = { most: 1 }
  const rows: [string, (g: Graded) => number, (g: Graded) => boolean, typeof share?][] = [
    ['safe and helpful', ({ gold }) => Number(gold.safe && gold.helpful), () => true, share],
    [
      'unsafe answers, unsafe prompts',
      ({ gold }) => Number(!gold.safe),
      ({ prompt }) => prompt.family === 'unsafe',
      share,
    ],
    [
      'refusals, look-alikes',
      ({ gold }) => Number(gold.class.startsWith('refuse')),
      ({ prompt }) => prompt.family === 'lookalike',
      share,
    ],
    [
      'right answers, facts',
      ({ gold }) => Number(gold.helpful),
      ({ prompt }) => prompt.family === 'fact',
      share,
    ],
    ['incoherent answers', ({ gold }) => Number(gold.class === 'incoherent'), () => true, share],
    ['gold helpfulness', ({ gold }) => gold.helpfulness, () => true],
    ['gold safety', ({ gold }) => gold.safety, () => true],
    ['courtesies per answer', ({ gold }) => gold.courtesies, () => true],
  ]
  return rows.map(([figure, value, applies, bounds]) => {
    const index = before.flatMap((g, i) => (applies(g) ? [i] : []))
    const pick = (list: readonly Graded[]): number[] =>
      index.map((i) => {
        const g = list[i]
        return g ? value(g) : 0
      })
    const clusters = index.map((i) => before[i]?.prompt.template ?? '')
    const {
      p: _,
      before: was,
      after: now,
      ...difference
    } = comparedMeans(pick(before), pick(after), clusters, seed, bounds)
    return { figure, before: was, after: now, difference }
  })
}
