import { tf } from '../../tensor/backend.ts'
import { PromptRow } from '../../schemas/feedback.ts'
import { checkPolicyOptions } from '../../schemas/policy-options.ts'
import type { TrainEvent, TrainSpec } from '../../schemas/training.ts'
import { loadTokenizer } from '../../text/tokenizer.ts'
import { readRows } from '../../text/rows.ts'
import { keepCheckpoint, writeOptimizer, writeState } from '../checkpoints.ts'
import { createAdamW, learningRateAt } from '../optimizer.ts'
import { resumable } from '../steps.ts'
import { loadTrainee } from '../trainee.ts'
import { measureAgain, writeKept, yardstickOf } from './best.ts'
import type { Kept } from './best.ts'
import { nextKlCoef, nextMultiplier, startControl } from './control.ts'
import { learn } from './methods.ts'
import { rolloutMetrics, rolloutRows } from './measures.ts'
import { encodePrompts, pickPrompts, samplingOf } from './prompts.ts'
import { measure, sample, VALUE_HEAD } from './rollout.ts'
import { scoreRollouts } from './scored.ts'
import { loadScorers, referenceScales, scorersOf } from './scorers.ts'
import { loadState } from './state.ts'

type Spec = Extract<TrainSpec, { kind: 'policy_update' }>

/**
 * Rounds of reinforcement learning against two reward models. Reference = the SFT model, that is the policy's trunk
 * with its adapter off; PPO's critic = a value head on the policy's trunk. Everything a later round needs (adapter,
 * head, optimiser, scales, control, round number) is in the checkpoint, so rounds called one by one equal one long run.
 */
export async function* policyUpdate(spec: Spec, signal?: AbortSignal): AsyncGenerator<TrainEvent> {
  const { options } = spec
  checkPolicyOptions(options)
  const tokenizer = await loadTokenizer(spec.reference.base)
  const heads = options.method === 'ppo' ? [VALUE_HEAD] : []
  const { plan, last, warnings } = await resumable(spec.checkpoints)
  const trainee = await loadTrainee(
    ...([spec.reference, options.lora, heads, options.seed] as const),
    last?.folder ?? spec.parent,
  )
  const scorers = await loadScorers(spec)
  const optimizer = createAdamW(trainee.parameters, options.optimizer)
  try {
    const prompts = encodePrompts(
      await readRows(spec.data, PromptRow),
      tokenizer,
      trainee.model.config.context,
      options,
      spec.data,
    )
    const parent = spec.parent === null ? null : await loadState(spec.parent)
    const before = last === null ? parent : await loadState(last.folder)
    const moved = before?.method !== undefined && before.method !== options.method
    if (before !== null && !moved) optimizer.load(before.optimizer)
    const scoredBy = scorersOf(spec)
    const same = before?.scorers === scoredBy
    const scales =
      options.reward_normalization === 'reference'
        ? ((same ? before.scales : null) ??
          (await referenceScales(trainee.reference, scorers, prompts, tokenizer, options)))
        : null
    let kl = 0
    const control = startControl(options, before?.control, same)
    const kept: Kept = before?.kept ?? new Map()
    const choosing = options.method === 'rejection_sampling'
    // what rejection sampling has kept goes through rounds of other methods as it is
    const yardstick = choosing ? yardstickOf(spec) : (before?.yardstick ?? null)
    if (choosing && before?.yardstick !== yardstick)
      measureAgain(kept, scorers, options, scales, control)
    const first = spec.rounds_before ?? parent?.round ?? 0
    const start = last === null ? first : (before?.round ?? first)
    const end = first + options.rounds
    const total = options.total_rounds ?? end
    const bad = { count: before?.bad_steps ?? 0 }
    // rounds that a guard took back have asked theirs, too
    let askedBefore =
      (before?.asked ?? (before?.round ?? 0) * options.prompts_per_round) +
      (start - (before?.round ?? 0)) * options.prompts_per_round
    // a critic is as old as the rounds of PPO that it comes from; another method leaves none behind
    const sameCritic = before?.method === 'ppo' || (before !== null && before.method === undefined)
    let criticRounds = sameCritic ? (before?.critic_rounds ?? start) : 0
    const steps = options.rounds
    if (last === null) yield { type: 'started', steps, tokens: null }
    else yield { type: 'resumed', step: start, done: start - first, steps }
    for (const message of warnings) yield { type: 'warning', message }
    if (moved)
      yield {
        type: 'warning',
        message: `the policy was begun with ${before.method}: ${options.method} starts with an optimiser of its own`,
      }
    if (end > total)
      yield {
        type: 'warning',
        message: `rounds ${first + 1} to ${end} go past total_rounds ${total}: the schedule has ended`,
      }
    /** Everything that a later round needs, after `round` of them. */
    const save = (output: string, round: number): Promise<void> => {
      const state = optimizer.state()
      const extra = async (folder: string): Promise<void> => {
        await writeOptimizer(folder, state)
        if (yardstick !== null) await writeKept(folder, kept)
        await writeState(folder, {
          ...{ round, step: state.step, method: options.method, bad_steps: bad.count, yardstick },
          ...{ asked: askedBefore, critic_rounds: criticRounds },
          ...{ scorers: scoredBy, scales, control, reference: spec.reference },
        })
      }
      return trainee.save(output, { role: 'policy' }, { extra })
    }

    for (let round = start; round < end; round++) {
      signal?.throwIfAborted()
      const lap = stopwatch()
      // 1. prompts of this round, then their responses from the current policy
      const asked = pickPrompts(prompts, options, askedBefore).map((at) => ({
        prompt: at,
        promptIds: prompts[at]?.ids ?? [],
        promptClass: prompts[at]?.row.prompt_class ?? null,
      }))
      const sampling = samplingOf(options, tokenizer, [options.seed, 1, round])
      const sampler = trainee.merged()
      const rollouts = await sample(sampler, asked, sampling)
      tf.dispose(sampler.owned)
      lap('sample')
      // 2. their log-probabilities under policy and reference, and the critic's values
      measure(rollouts, trainee.model, trainee.reference, sampling)
      lap('measure')
      // 3. both reward models score the same answers; the combiner makes one number of two
      const scored = scoreRollouts(rollouts, prompts, scorers, options, scales, control)
      lap('score')
      // 4. what the method makes of them, and several epochs of updates
      const lr = learningRateAt(round, total, options.optimizer)
      const { rows, update } = learn(...([trainee, optimizer, { rollouts, prompts }] as const), {
        ...{ rewards: scored.rewards, kept, round, criticRounds, options, lr },
        ...{ klCoef: control.kl_coef, bad },
      })
      lap('learn')
      // 5. tell, and set β and λ of the next round
      const metrics: Record<string, number> = {
        ...rolloutMetrics(rollouts, scored, rows, options, control),
        ...update,
        lr,
        episode: askedBefore * options.samples_per_prompt + asked.length,
        ...lap.times(),
      }
      kl = metrics['objective/kl'] ?? 0
      control.kl_coef = nextKlCoef(control.kl_coef, kl, asked.length, options)
      control.multiplier = nextMultiplier(control.multiplier, scored.safetyMean, options)
      yield { type: 'rollouts', step: round + 1, rows: rolloutRows(rollouts, scored) }
      yield { type: 'metrics', step: round + 1, metrics }
      askedBefore += options.prompts_per_round
      if (options.method === 'ppo') criticRounds++
      // 6. what an interrupted run goes on from
      const done = round + 1
      if (plan !== null && (done - first) % plan.every === 0 && done < end)
        await keepCheckpoint(plan, done, (folder) => save(folder, done))
      await new Promise(setImmediate)
    }
    await save(spec.output, end)
    yield { type: 'done', output: spec.output, summary: { 'objective/kl': kl } }
  } finally {
    optimizer.dispose()
    trainee.dispose()
    for (const scorer of new Set(Object.values(scorers))) scorer.dispose()
  }
}

/** Notes how long each phase of a round took, in seconds; with the whole round they are its `time/…` metrics. */
function stopwatch() {
  const started = performance.now()
  let last = started
  const phases: Record<string, number> = {}
  const lap = (phase: string): void => {
    const now = performance.now()
    phases[`time/${phase}_s`] = (now - last) / 1000
    last = now
  }
  return Object.assign(lap, {
    times: () => ({ ...phases, 'time/round_s': (performance.now() - started) / 1000 }),
  })
}
