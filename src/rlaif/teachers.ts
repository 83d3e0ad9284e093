import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { withCheckpoint } from '../engine/engine.ts'
import type { ModelFiles } from '../engine/engine.ts'
import { LibraError } from '../errors.ts'
import { usageSince } from '../judging/respondent.ts'
import { permutation, uniform } from '../random.ts'
import type { AuditFigure } from '../schemas/audit.ts'
import { Messages } from '../schemas/chat.ts'
import type { Message } from '../schemas/chat.ts'
import { AXES, PreferenceRow } from '../schemas/feedback.ts'
import type { Axis, PromptRow } from '../schemas/feedback.ts'
import type { RlaifOptions } from '../schemas/rlaif.ts'
import type { TrainSpec } from '../schemas/training.ts'
import { conversationKey } from '../text/conversation.ts'
import { comparedIn } from '../text/preference-formats.ts'
import { readRows } from '../text/rows.ts'
import { counterfactualPairs } from './counterfactuals.ts'
import { answerTwice, figureMetrics, judgePairs } from './label.ts'
import type { AnsweredTwice, LabelFigures } from './label.ts'
import { dataFigures, mixPairs, ownPairs, sharesOf } from './mix.ts'
import type { LoopData } from './mix.ts'
import { trainPart } from './parts.ts'
import { awayFrom, calibrateReward, splitForCalibration } from './reward.ts'
import { writeRows } from './rows.ts'
import type { LoopInput, LoopWorld, RewardModel, RewardModels } from './world.ts'

/** What an iteration teaches the policy with: labels on its own answers, and the reward models that learn from them. */

/** The prompts of an iteration: those that come next after so many, from the first again after the last. */
export const promptsOfIteration = (
  prompts: readonly PromptRow[],
  before: number,
  count: number,
): PromptRow[] =>
  Array.from({ length: Math.min(count, prompts.length) }, (_, i) => {
    return prompts[(before + i) % prompts.length]
  }).flatMap((prompt) => prompt ?? [])

/** Where an iteration stands in a loop: its number, and the prompts that earlier ones asked for labels. */
export type Turn = { iteration: number; asked: number }

/** Seeds of two iterations are further apart than the prompts that one seed is counted on over. */
const STRIDE = 10_000_019

const Texts = z.object({ prompt: Messages, a: z.string(), b: z.string() })

/** Two answers of the policy as it is to each prompt of the iteration, as a file. */
async function answersOf(
  world: LoopWorld,
  folder: string,
  { iteration, asked }: Turn,
  policy: ModelFiles,
  prompts: readonly PromptRow[],
  options: RlaifOptions,
): Promise<{ texts: AnsweredTwice[]; same: number }> {
  const { file, same } = await world.parts.note(`${iteration}/answers`, async () => {
    const answered = await answerTwice(
      ...([world.serving, policy, promptsOfIteration(prompts, asked, options.pairs)] as const),
      {
        ...{ maxNewTokens: options.ppo.max_new_tokens, temperature: 1 },
        seed: (options.seed * 1000 + (iteration - 1) * STRIDE) % 2 ** 31,
      },
      ...([world.progress, world.signal] as const),
    )
    const { path } = await writeRows(join(folder, 'answers.jsonl'), answered.texts)
    return { file: path, same: answered.same }
  })
  return { texts: await readRows(file, Texts), same }
}

export type Labels = {
  pairs: Record<Axis, PreferenceRow[]>
  figures: LabelFigures
  agreement: AuditFigure[]
}

/**
 * Labels on two answers of the policy as it is to each prompt: the judge's, and people's in its place on a share that
 * the seed draws. Pairs that people labelled before join those of the first iteration.
 */
export async function labelAnswers(
  world: LoopWorld,
  folder: string,
  turn: Turn,
  policy: ModelFiles,
  input: LoopInput,
  options: RlaifOptions,
): Promise<Labels> {
  const { iteration } = turn
  const { texts, same } = await answersOf(
    ...([world, folder, turn, policy, input.prompts, options] as const),
  )
  const judge = world.judge(iteration)
  const { seed, people: share } = options
  const config = {
    ...{ judge: judge.name, prompt_version: judge.promptVersion, pairs: options.pairs },
    ...{ people: share },
  }
  const path = join(folder, 'labels.jsonl')
  const parentCheckpoint = policy.adapters.at(-1) ?? policy.base
  const { labels, agreement, ...figures } = await world.parts.run(
    `${iteration}/label`,
    { kind: 'label', config, output: path, parentCheckpoint },
    async ({ emit }) => {
      const before = judge.usage() // other iterations ask the same judge
      const drawn = texts.filter((_, i) => uniform(seed, 72, iteration, i) < share)
      const people = drawn.length === 0 ? [] : await askPeople(world, iteration, drawn)
      const { pairs: judged, figures } = await judgePairs(
        ...([judge, share === 1 ? [] : texts, AXES, seed, world.progress, world.signal] as const),
      )
      const all = AXES.flatMap((axis) => judged[axis])
      const given = iteration === 1 ? AXES.flatMap((axis) => input.pairs?.[axis] ?? []) : []
      const byPeople = new Set(people.map(nameOf))
      const kept = all.filter((row) => !byPeople.has(nameOf(row)))
      await writeRows(path, [...kept, ...people, ...given])
      await emit({
        ...{ type: 'metrics', step: 1 },
        metrics: { ...figureMetrics({ ...figures, same }), people: people.length },
      })
      const agreed = world.agreement?.(people, all) ?? []
      const usage = usageSince(before, judge.usage())
      return { ...figures, same, agreement: agreed, usage, labels: path }
    },
  )
  const rows = await readRows(labels, PreferenceRow)
  const of = (axis: Axis): PreferenceRow[] => rows.filter((row) => row.axis === axis)
  return { pairs: { helpfulness: of('helpfulness'), safety: of('safety') }, figures, agreement }
}

function askPeople(
  world: LoopWorld,
  iteration: number,
  texts: readonly AnsweredTwice[],
): Promise<PreferenceRow[]> {
  if (world.people === undefined)
    throw new LibraError('conflicting_options', 'options.people: there is nobody to ask here', {
      details: { field: 'options.people' },
    })
  return world.people(iteration, texts)
}

/** What a label is about, whichever answer it prefers. */
const nameOf = (row: PreferenceRow): string => `${row.axis} ${comparedIn(row)}`

/** What one reward model learns from, in figures too, and what calibrates it. */
export type TeachingData = {
  training: PreferenceRow[]
  held: PreferenceRow[]
  figures?: LoopData
}

/**
 * The pairs of an axis, oldest iteration first, as data of its newest reward model: the new ones, cut for calibration;
 * `replay` times as many of what earlier iterations trained on, drawn from the seed; of both as many as there can be in
 * the shares of `mix`; and counterfactual pairs. What calibrated an earlier model trains none, nor does any pair of a
 * conversation that calibrates this one, nor, on helpfulness, one of the reference answers that it is held against; of
 * the held pairs those count that the mix names, where it names any. Throws `empty_data` naming a source of the mix
 * without pairs, `too_little_data` where the reference answers are of all conversations.
 */
export function trainingPairs(
  labelled: readonly (readonly PreferenceRow[])[],
  axis: Axis,
  iteration: number,
  { seed, replay, counterfactuals, mix }: RlaifOptions,
  references: readonly (readonly Message[])[] | null = null,
): Required<TeachingData> {
  const { training, held, shared } = splitForCalibration(labelled.at(-1) ?? [], seed)
  // where conversations are too few to be cut nothing can be kept apart
  const yardstick = axis === 'helpfulness' && !shared ? (references ?? []) : []
  const fresh = awayFrom(training, yardstick)
  if (fresh.length === 0 && training.length > 0)
    throw new LibraError(
      'too_little_data',
      `${axis}: every new pair is of a conversation that the reference answers are of: ask about others`,
    )
  const unseen = new Set(shared ? [] : held.map(conversationKey))
  const before = labelled
    .slice(0, -1)
    .flatMap((pairs) => splitForCalibration(pairs, seed).training)
    .filter((pair) => !unseen.has(conversationKey(pair)))
  const old = awayFrom(before, yardstick)
  const drawn = permutation(old.length, seed, 46, iteration).slice(
    0,
    Math.round(replay * fresh.length),
  )
  const known = [...fresh, ...Array.from(drawn).flatMap((i) => old[i] ?? [])]
  const shares = sharesOf(mix, axis)
  const { rows, left_out } = mixPairs(known, axis, shares, seed, `options.mix.${axis}`)
  // on safety nothing idle pays anyway: docs/decisions.md
  const share = axis === 'helpfulness' ? counterfactuals : 0
  const idle = counterfactualPairs(rows, share, seed)
  return {
    training: [...rows, ...idle],
    held: ownPairs(held, axis, shares),
    figures: {
      ...dataFigures(rows, left_out),
      counterfactuals: idle.length,
      of_references: training.length - fresh.length,
    },
  }
}

/**
 * A reward model of one axis from a model on, the SFT policy or a twin's base, calibrated on pairs that nothing trained
 * on.
 */
export async function trainReward(
  world: LoopWorld,
  folder: string,
  iteration: number,
  start: ModelFiles,
  { axis, twin }: { axis: Axis; twin: boolean },
  data: TeachingData & { references: readonly (readonly Message[])[] | null },
  options: RlaifOptions,
): Promise<RewardModel> {
  const { path, dataHash } = await writeRows(join(folder, `pairs-${axis}.jsonl`), data.training)
  const name = twin ? `twin-${axis}` : axis
  const raw = join(folder, `${name}-raw`)
  const output = join(folder, name)
  const { seed } = options
  const spec: TrainSpec = {
    kind: 'reward_model',
    output: raw,
    model: { base: start.base, adapters: [...start.adapters] },
    data: path,
    options: { ...options.reward_model, axis, seed },
  }
  const details = { dataHash, output, parentCheckpoint: start.adapters.at(-1) ?? start.base }
  return world.parts.run(
    `${iteration}/reward-${name}`,
    { kind: 'reward_model', config: spec.options, ...details },
    async (part) => {
      await trainPart(world, part, `reward ${name}`, spec)
      const { lora } = options.reward_model
      // of a loop that ended while it calibrated
      if (existsSync(output)) await rm(output, { recursive: true })
      const fitted = await calibrateReward(
        world.serving,
        withCheckpoint(start, raw, lora),
        output,
        {
          axis,
          held: data.held,
          dataHash,
          seed,
          references: data.references,
        },
      )
      await part.emit({ type: 'metrics', step: 0, metrics: { held_out_accuracy: fitted.accuracy } })
      const { figures } = data
      return {
        ...{ files: withCheckpoint(start, output, lora), ...fitted },
        ...(figures === undefined ? {} : { data: figures }),
      }
    },
  )
}

type Teach = (axis: Axis, world: LoopWorld) => Promise<RewardModel>

/**
 * The reward models of both axes, which know nothing of each other: one after the other, or side by side where the
 * world allows it, under one line of progress. Where one fails the other is still trained to its end, so that it is
 * there when the loop goes on. The second begins when the first stands in the record, so that it has an order.
 */
export async function teachBoth(
  world: LoopWorld,
  stage: string,
  teach: Teach,
): Promise<RewardModels> {
  if (world.sideBySide !== true)
    return {
      helpfulness: await teach('helpfulness', world),
      safety: await teach('safety', world),
    }
  const shared = { ...world, progress: joined(world.progress, stage) }
  let stands = (): void => {}
  const standing = new Promise<void>((resolve) => (stands = resolve))
  const parts: LoopWorld['parts'] = {
    ...world.parts,
    run: (name, about, work) =>
      world.parts.run(name, about, (part) => {
        stands()
        return work(part)
      }),
  }
  const [helpfulness, safety] = await Promise.allSettled([
    teach('helpfulness', { ...shared, parts }).finally(stands),
    standing.then(() => teach('safety', shared)),
  ])
  if (helpfulness.status === 'rejected') throw helpfulness.reason
  if (safety.status === 'rejected') throw safety.reason
  return { helpfulness: helpfulness.value, safety: safety.value }
}

/** Several stages as one: steps done and planned are those of all that have begun. */
function joined(progress: LoopWorld['progress'], stage: string): LoopWorld['progress'] {
  const begun = new Map<string, { done: number; total: number }>()
  return (part, done, total, note) => {
    begun.set(part, { done, total })
    const all = [...begun.values()]
    const sum = (of: 'done' | 'total'): number => all.reduce((total, each) => total + each[of], 0)
    progress(stage, sum('done'), sum('total'), note && `${part}: ${note}`)
  }
}
