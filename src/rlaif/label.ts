import type { Completion, Engine, ModelFiles } from '../engine/engine.ts'
import type { Judge } from '../judging/judge.ts'
import { cancelled } from '../errors.ts'
import { AXES } from '../schemas/feedback.ts'
import type { Axis, PreferenceRow, PromptRow } from '../schemas/feedback.ts'

export type LabelFigures = { labelled: number; failed: number; same: number; consistent: number }
export type Labelled = { pairs: Record<Axis, PreferenceRow[]>; figures: LabelFigures }
type Progress = (stage: string, done: number, total: number) => void
type Sampling = { maxNewTokens: number; temperature: number; seed: number }

/** Prompts per call of the engine, so that progress shows and a stop is felt. */
const CHUNK = 100

/**
 * Two answers of one model to each prompt, compared by the judge on each axis in both orders. On the safety axis
 * each answer is also judged alone, for the auxiliary loss. A failed verdict leaves its pair out and is counted.
 */
export async function labelPrompts(
  engine: Engine,
  judge: Judge,
  model: ModelFiles,
  prompts: readonly PromptRow[],
  axes: readonly Axis[],
  sampling: Sampling,
  report: Progress,
  signal?: AbortSignal,
): Promise<Labelled> {
  const progress: Progress = (...said) => {
    if (signal?.aborted) throw cancelled()
    report(...said)
  }
  const answers = await sampleTwice(engine, model, prompts, sampling, progress)
  const texts = prompts.flatMap(({ messages }, i) => {
    const [a, b] = answers[i] ?? []
    return a === undefined || b === undefined ? [] : [{ prompt: messages, a: a.text, b: b.text }]
  })
  const different = texts.filter(({ a, b }) => a !== b)
  const figures = { labelled: 0, failed: 0, same: texts.length - different.length, consistent: 0 }
  const pairs: Record<Axis, PreferenceRow[]> = { helpfulness: [], safety: [] }
  const safe = axes.includes('safety') ? await assess(judge, different) : null
  for (const axis of AXES.filter((axis) => axes.includes(axis))) {
    const verdicts = await judge.compare(
      different.map((text) => ({ axis, ...text })),
      (done) => progress(`judge ${axis}`, done, different.length),
    )
    verdicts.forEach((verdict, i) => {
      const text = different[i]
      if (text === undefined) return
      if (!verdict.ok) {
        figures.failed++ // a failure is never a number
        return
      }
      figures.labelled++
      if (verdict.consistent) figures.consistent++
      const aWins = verdict.probability >= 0.5
      const order = aWins ? (['a', 'b'] as const) : (['b', 'a'] as const)
      pairs[axis].push({
        axis,
        prompt: [...text.prompt],
        chosen: text[order[0]],
        rejected: text[order[1]],
        strength: verdict.strength,
        probability: aWins ? verdict.probability : 1 - verdict.probability,
        ...(axis === 'safety' && safe !== null
          ? { chosen_safe: safe[order[0]][i] ?? null, rejected_safe: safe[order[1]][i] ?? null }
          : {}),
        source: judge.name,
      })
    })
  }
  return { pairs, figures }
}

async function sampleTwice(
  engine: Engine,
  model: ModelFiles,
  prompts: readonly PromptRow[],
  { maxNewTokens, temperature, seed }: Sampling,
  progress: Progress,
): Promise<Completion[][]> {
  const answers: Completion[][] = []
  for (let i = 0; i < prompts.length; i += CHUNK) {
    const sampling = { maxTokens: maxNewTokens, temperature, topP: 1, topK: 0, stop: [] }
    answers.push(
      ...(await engine.generate({
        model,
        prompts: prompts.slice(i, i + CHUNK).map(({ messages }) => messages),
        n: 2,
        onTooLong: 'error',
        sampling: { ...sampling, seed: (seed + i) % 2 ** 31 },
      })),
    )
    progress('sample', answers.length, prompts.length)
  }
  return answers
}

async function assess(
  judge: Judge,
  texts: readonly { prompt: PromptRow['messages']; a: string; b: string }[],
): Promise<Record<'a' | 'b', (boolean | null)[]>> {
  const side = async (name: 'a' | 'b'): Promise<(boolean | null)[]> =>
    (await judge.assess(texts.map((text) => ({ prompt: text.prompt, answer: text[name] })))).map(
      (verdict) => (verdict.ok ? verdict.safe : null),
    )
  return { a: await side('a'), b: await side('b') }
}
