import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { withCheckpoint } from '../engine/engine.ts'
import type { ModelFiles } from '../engine/engine.ts'
import type { Axis, PreferenceRow, PromptRow } from '../schemas/feedback.ts'
import type { RlaifOptions } from '../schemas/rlaif.ts'
import type { TrainSpec } from '../schemas/training.ts'
import { guardedUpdate, startWatch } from './guarded.ts'
import type { GuardReport, Watch } from './guarded.ts'
import { addFigures, noFigures } from './label.ts'
import { trainPart } from './parts.ts'
import { writeRows } from './rows.ts'
import { labelAnswers, teachBoth, trainReward, trainingPairs } from './teachers.ts'
import type { LoopInput, LoopResult, LoopWorld, RewardModels } from './world.ts'

/**
 * SFT, then iterations of: judge labels on both axes on answers of the policy as it is → two reward models, calibrated
 * → policy rounds under guard. `iterations` has the options of each. Ends early where the guard stops one.
 */
export async function alignByAiFeedback(
  world: LoopWorld,
  input: LoopInput,
  iterations: readonly RlaifOptions[],
): Promise<LoopResult> {
  const [first] = iterations
  if (first === undefined) throw new Error('a loop has at least one iteration')
  await mkdir(world.folder, { recursive: true })
  const sft = await fineTune(world, input, first)
  let so: Omit<LoopResult, 'rewardModels'> = {
    ...{ sft, policy: sft, rounds: [], guard: null },
    ...{ judge: noFigures(), agreement: [], approval: { checks: [] } },
  }
  let models: RewardModels | null = null
  let watch: Watch | null = null
  let references = input.references ?? null
  const labelled: Record<Axis, PreferenceRow[]>[] = []
  let asked = 0
  for (const [i, options] of iterations.entries()) {
    const iteration = i + 1
    const folder = join(world.folder, `iteration-${iteration}`)
    await mkdir(folder, { recursive: true })
    // 1. the policy's own answers, compared by the judge in both orders on both axes
    const { pairs, figures, agreement } = await labelAnswers(
      ...([world, folder, { iteration, asked }, so.policy, input, options] as const),
    )
    labelled.push(pairs)
    asked += options.pairs
    // 2. two reward models from the same start, each calibrated on new pairs that it did not train on
    const both = (start: ModelFiles, twin: boolean): Promise<RewardModels> =>
      teachBoth(world, twin ? 'twins' : 'reward models', async (axis, within) => {
        const own = labelled.map((each) => each[axis])
        const taught = trainingPairs(own, axis, iteration, options, references)
        const data = { ...taught, references }
        return trainReward(within, folder, iteration, start, { axis, twin }, data, options)
      })
    models = await both(sft, false)
    const { calibration } = models.helpfulness
    // a score of one iteration means what it means in another
    if (calibration.kind === 'win_rate') references = calibration.references ?? references
    const [taught, { policy }] = [models, so]
    const approval = await world.parts.note(
      `${iteration}/approve`,
      async () => (await world.approve?.(iteration, taught, pairs, policy)) ?? { checks: [] },
    )
    // twins learn the same from another base: where they part from the two, the guard shows it
    const { twinBase = null } = input
    const watched = options.guard !== null && world.audit !== undefined
    const twins =
      twinBase === null || !watched ? null : await both({ base: twinBase, adapters: [] }, true)
    // 3. the policy learns from both, under guard
    const { total } = await world.parts.note(`${iteration}/rounds`, () =>
      // as planned when it begins: what changes for a later one changes no schedule that is under way
      Promise.resolve({ total: iterations.reduce((sum, { ppo }) => sum + ppo.rounds, 0) }),
    )
    const place = { iteration, folder, before: so.rounds.length, total }
    const updated = await updatePolicy(
      world,
      place,
      so,
      { models, twins },
      input.prompts,
      options,
      watch,
    )
    watch = updated.watch
    so = {
      ...{ sft, policy: updated.policy, rounds: [...so.rounds, ...updated.rounds] },
      guard: joinGuards(so.guard, updated.guard),
      ...{ judge: addFigures(so.judge, figures), agreement, approval },
    }
    await world.finished?.(iteration, { ...so, rewardModels: models })
    if (updated.guard?.stopped === true && (world.endsStopped?.(iteration) ?? true)) break
  }
  if (models === null) throw new Error('a loop has at least one iteration')
  return { ...so, rewardModels: models }
}

const filesBy = ({ helpfulness, safety }: RewardModels): Record<Axis, ModelFiles> => ({
  helpfulness: helpfulness.files,
  safety: safety.files,
})

const joinGuards = (before: GuardReport | null, now: GuardReport | null): GuardReport | null =>
  before === null || now === null
    ? (now ?? before)
    : {
        ...now,
        decisions: [...before.decisions, ...now.decisions],
        ballots: [...before.ballots, ...now.ballots],
      }

async function fineTune(
  world: LoopWorld,
  input: LoopInput,
  options: RlaifOptions,
): Promise<ModelFiles> {
  const { path, dataHash } = await writeRows(join(world.folder, 'dialogues.jsonl'), input.dialogues)
  const output = join(world.folder, 'sft')
  const spec: TrainSpec = {
    kind: 'sft',
    output,
    model: { base: input.base, adapters: [] },
    data: path,
    options: { ...options.sft, seed: options.seed },
  }
  const details = { dataHash, output, parentCheckpoint: input.base }
  return world.parts.run('sft', { kind: 'sft', config: spec.options, ...details }, async (part) => {
    const metrics = (await trainPart(world, part, 'sft', spec)).at(-1)
    const files = withCheckpoint({ base: input.base, adapters: [] }, output, options.sft.lora)
    return { base: files.base, adapters: [...files.adapters], ...metrics }
  })
}

/** Where in the loop an update stands: rounds before it, and those of all iterations. */
type Place = { iteration: number; folder: string; before: number; total: number }
type Updated = Pick<LoopResult, 'policy' | 'rounds' | 'guard'> & { watch: Watch | null }

/** All rounds at once, or in pieces between which the guard looks where there is an audit judge. */
async function updatePolicy(
  world: LoopWorld,
  { iteration, folder, before, total }: Place,
  { sft, policy: start }: Pick<LoopResult, 'sft' | 'policy'>,
  { models, twins }: { models: RewardModels; twins: RewardModels | null },
  prompts: readonly PromptRow[],
  options: RlaifOptions,
  watch: Watch | null,
): Promise<Updated> {
  const { path, dataHash } = await writeRows(join(folder, 'prompts.jsonl'), prompts)
  const scorer = ({ files, calibration }: RewardModels[Axis]) => ({
    files: { base: files.base, adapters: [...files.adapters] },
    calibration,
  })
  const { rounds: all } = options.ppo
  const update = async (from: ModelFiles, done: number, rounds: number) => {
    const whole = done === 0 && rounds === all
    const output = join(folder, whole ? 'policy' : `policy-${before + done + rounds}`)
    // the SFT policy has no rounds behind it to go on from
    const last = from === sft ? null : (from.adapters.at(-1) ?? from.base)
    const spec: TrainSpec = {
      kind: 'policy_update',
      output,
      reference: { base: sft.base, adapters: [...sft.adapters] },
      parent: last,
      rounds_before: before + done,
      data: path,
      helpfulness: scorer(models.helpfulness),
      safety: scorer(models.safety),
      options: { ...options.ppo, rounds, total_rounds: total, seed: options.seed },
    }
    return world.parts.run(
      `${iteration}/ppo-${before + done + rounds}`,
      {
        ...{ kind: 'policy_update', config: spec.options, dataHash, output },
        parentCheckpoint: last ?? sft.adapters.at(-1) ?? sft.base,
      },
      async (part) => ({
        policy: withCheckpoint(sft, output, options.ppo.lora),
        metrics: await trainPart(world, part, 'ppo', spec, before + done, total),
      }),
    )
  }
  const { audit } = world
  if (options.guard === null || audit === undefined) {
    const { policy, metrics } = await update(start, 0, all)
    // a guard of a later iteration begins with what comes out here
    const accepted = before + metrics.length
    return { policy, rounds: metrics, guard: null, watch: watch && { ...watch, accepted } }
  }
  return guardedUpdate(sft, start, watch ?? startWatch(before), {
    ...{ serving: world.serving, audit, options: options.guard, rounds: all, before, update },
    ...{ signal: world.signal, progress: world.progress },
    opinions: twins === null ? null : { own: filesBy(models), twins: filesBy(twins) },
    note: (name, work) => world.parts.note(`${iteration}/${name}`, work),
    tell: (decision) => world.tell?.(iteration, decision) ?? Promise.resolve(),
    sampling: { maxNewTokens: options.ppo.max_new_tokens, seed: options.seed },
  })
}
