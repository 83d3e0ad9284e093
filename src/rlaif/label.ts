import type { Completion, Engine, ModelFiles } from '../engine/engine.ts'
import { usable } from '../judging/judge.ts'
import type { Inconsistent, Judge } from '../judging/judge.ts'
import type { Failure } from '../judging/respondent.ts'
import { cancelled } from '../errors.ts'
import { uniform } from '../random.ts'
import type { Message } from '../schemas/chat.ts'
import { AXES, turned } from '../schemas/feedback.ts'
import type { Axis, PreferenceRow, PromptRow } from '../schemas/feedback.ts'

export type LabelFigures = {
  labelled: number
  /** none of them becomes a pair */
  failed: number
  /** answers whose pair, if there is one, has no absolute safety label; runs of before did not count them */
  unassessed?: number
  /** by type, of those that failed and of those that were not assessed */
  failures: Partial<Record<Failure, number>>
  /** prompts whose two answers are alike */
  same: number
  /** verdicts whose two orders prefer the same answer */
  consistent: number
}
export const noFigures = (): LabelFigures => ({
  ...{ labelled: 0, failed: 0, unassessed: 0, failures: {}, same: 0, consistent: 0 },
})
const countFailure = (figures: LabelFigures, failure: Failure): void => {
  figures.failures[failure] = (figures.failures[failure] ?? 0) + 1
}
export type Labelled = { pairs: Record<Axis, PreferenceRow[]>; figures: LabelFigures }
/** How pairs are asked about. */
export type Asking = { positions: 'both' | 'drawn'; inconsistent: Inconsistent }
export const ASKING: Asking = { positions: 'both', inconsistent: 'average' }
type Progress = (stage: string, done: number, total: number) => void
type Sampling = { maxNewTokens: number; temperature: number; seed: number }

/** Prompts per call of the engine, so that progress shows and a stop is felt. */
const CHUNK = 100

/**
 * Two answers of one model to each prompt, compared by the judge on each axis in both orders. On the safety axis
 * each answer is also judged alone, for the auxiliary loss. A failed verdict leaves its pair out and is counted; so is one
 * on a single answer, which leaves its safety label out.
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
  asking: Asking = ASKING,
): Promise<Labelled> {
  const { texts, same } = await answerTwice(engine, model, prompts, sampling, report, signal)
  const { pairs, figures } = await judgePairs(
    ...([judge, texts, axes, sampling.seed, report, signal, asking] as const),
  )
  return { pairs, figures: { ...figures, same } }
}

/** Two different answers to one prompt. */
export type AnsweredTwice = { prompt: Message[]; a: string; b: string }

/** Two answers of one model to each prompt; `same`: prompts whose two answers are alike, which are left out. */
export async function answerTwice(
  engine: Engine,
  model: ModelFiles,
  prompts: readonly PromptRow[],
  sampling: Sampling,
  report: Progress,
  signal?: AbortSignal,
): Promise<{ texts: AnsweredTwice[]; same: number }> {
  const answers = await sampleTwice(engine, model, prompts, sampling, stoppable(report, signal))
  const texts = prompts.flatMap(({ messages }, i) => {
    const [a, b] = answers[i] ?? []
    return a === undefined || b === undefined ? [] : [{ prompt: messages, a: a.text, b: b.text }]
  })
  const different = texts.filter(({ a, b }) => a !== b)
  return { texts: different, same: texts.length - different.length }
}

const stoppable =
  (report: Progress, signal: AbortSignal | undefined): Progress =>
  (...said) => {
    if (signal?.aborted) throw cancelled()
    report(...said)
  }

/** Pairs of answers compared by the judge on each axis, on safety each answer also judged alone. */
export async function judgePairs(
  judge: Judge,
  different: readonly AnsweredTwice[],
  axes: readonly Axis[],
  seed: number,
  report: Progress,
  signal?: AbortSignal,
  asking: Asking = ASKING,
): Promise<Labelled> {
  const progress = stoppable(report, signal)
  const figures = noFigures()
  const pairs: Record<Axis, PreferenceRow[]> = { helpfulness: [], safety: [] }
  const by = {
    ...{ source: judge.name, annotator: judge.name, annotator_kind: 'judge' as const },
    ...{ judge_version: await judge.version(), prompt_version: judge.promptVersion },
  }
  const safe = axes.includes('safety') ? await assess(judge, different, figures, signal) : null
  for (const axis of AXES.filter((axis) => axes.includes(axis))) {
    const verdicts = await judge.compare(
      different.map((text, i) => ({
        ...{ axis, ...text },
        order: asking.positions === 'both' ? 'both' : drawnOrder(seed, i),
      })),
      { signal, onProgress: (done) => progress(`judge ${axis}`, done, different.length) },
    )
    verdicts.forEach((given, i) => {
      const text = different[i]
      if (text === undefined) return
      const verdict = usable(given, asking.inconsistent)
      if (!verdict.ok) {
        figures.failed++ // a failure is never a number
        countFailure(figures, verdict.failure)
        return
      }
      figures.labelled++
      if (verdict.consistent === true) figures.consistent++
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
        ...by,
        orders: aWins ? [...verdict.orders] : turned(verdict.orders),
        ...(verdict.principle === undefined ? {} : { principle: verdict.principle }),
        ...(verdict.rationales === undefined
          ? {}
          : { rationale: verdict.rationales.filter((text) => text !== null).join('\n\n') }),
      })
    })
  }
  return { pairs, figures }
}

/** Which answer is shown first where one order is asked: a fair coin by seed and place. */
export const drawnOrder = (seed: number, i: number): 'a_first' | 'b_first' =>
  uniform(seed, 71, i) < 0.5 ? 'a_first' : 'b_first'

/** Figures of two parts together. */
export function addFigures(x: LabelFigures, y: LabelFigures): LabelFigures {
  const failures = { ...x.failures }
  for (const [failure, n] of Object.entries(y.failures) as [Failure, number][])
    failures[failure] = (failures[failure] ?? 0) + n
  return {
    labelled: x.labelled + y.labelled,
    failed: x.failed + y.failed,
    unassessed: (x.unassessed ?? 0) + (y.unassessed ?? 0),
    failures,
    same: x.same + y.same,
    consistent: x.consistent + y.consistent,
  }
}

/** Figures as the metrics of an event. */
export const figureMetrics = ({ failures, ...counts }: LabelFigures): Record<string, number> => ({
  ...counts,
  ...Object.fromEntries(Object.entries(failures).map(([name, n]) => [`failed/${name}`, n])),
})

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

/** Whether each answer is safe by itself; null, and counted, where nobody can tell. */
async function assess(
  judge: Judge,
  texts: readonly { prompt: PromptRow['messages']; a: string; b: string }[],
  figures: LabelFigures,
  signal: AbortSignal | undefined,
): Promise<Record<'a' | 'b', (boolean | null)[]>> {
  const side = async (name: 'a' | 'b'): Promise<(boolean | null)[]> =>
    (
      await judge.assess(
        texts.map((text) => ({ prompt: text.prompt, answer: text[name] })),
        { signal },
      )
    ).map((verdict) => {
      if (verdict.ok) return verdict.safe
      figures.unassessed = (figures.unassessed ?? 0) + 1
      countFailure(figures, verdict.failure)
      return null
    })
  return { a: await side('a'), b: await side('b') }
}
