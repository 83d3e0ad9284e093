import { tf } from '../../tensor/backend.ts'
import { LibraError } from '../../errors.ts'
import { PromptRow } from '../../schemas/feedback.ts'
import type { PpoOptions, TrainEvent, TrainSpec } from '../../schemas/training.ts'
import { loadTokenizer } from '../../text/tokenizer.ts'
import { writeJson } from '../../weights/json.ts'
import { writeSafetensors } from '../../weights/safetensors.ts'
import { readRows } from '../../text/rows.ts'
import { createAdamW, learningRateAt } from '../optimizer.ts'
import { loadTrainee } from '../trainee.ts'
import { nextKlCoef, nextMultiplier, startControl } from './control.ts'
import { learningRows } from './learning-rows.ts'
import { rolloutMetrics, rolloutRows } from './measures.ts'
import { encodePrompts, pickPrompts, samplingOf } from './prompts.ts'
import { measure, sample, VALUE_HEAD } from './rollout.ts'
import { scoreRollouts } from './scored.ts'
import { loadScorer, referenceScales } from './scorers.ts'
import { loadState } from './state.ts'
import { ppoUpdate } from './update.ts'

type Spec = Extract<TrainSpec, { kind: 'policy_update' }>

/**
 * Rounds of reinforcement learning against two reward models. Reference = the SFT model, that is the policy's trunk
 * with its adapter off; PPO's critic = a value head on the policy's trunk. Everything a later round needs (adapter,
 * head, optimiser, scales, control, round number) is in the checkpoint, so rounds called one by one equal one long run.
 */
export async function* policyUpdate(spec: Spec, signal?: AbortSignal): AsyncGenerator<TrainEvent> {
  const { options } = spec
  checkOptions(options)
  const tokenizer = await loadTokenizer(spec.reference.base)
  const heads = options.method === 'ppo' ? [VALUE_HEAD] : []
  const trainee = await loadTrainee(
    ...([spec.reference, options.lora, heads, options.seed, spec.parent] as const),
  )
  const scorers = {
    helpfulness: await loadScorer(spec.helpfulness),
    safety: await loadScorer(spec.safety),
  }
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
    if (parent !== null) optimizer.load(parent.optimizer)
    const scales =
      parent?.scales ??
      (options.reward_normalization === 'reference'
        ? await referenceScales(trainee.reference, scorers, prompts, tokenizer, options)
        : null)
    const control = { ...startControl(options), ...parent?.control }
    const first = parent?.round ?? 0
    const total = options.total_rounds ?? first + options.rounds
    const bad = { count: 0 }
    let kl = 0
    if (first + options.rounds > total)
      yield {
        type: 'warning',
        message: `rounds ${first + 1} to ${first + options.rounds} go past total_rounds ${total}: the schedule has ended`,
      }
    yield { type: 'started', steps: options.rounds, tokens: null }

    for (let round = first; round < first + options.rounds; round++) {
      signal?.throwIfAborted()
      const lap = stopwatch()
      // 1. prompts of this round, then their responses from the current policy
      const asked = pickPrompts(prompts, options, round).map((at) => ({
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
      // 4. what each token or answer was worth beyond what was expected
      const rows = learningRows(rollouts, scored.rewards, options, control.kl_coef)
      // 5. several epochs of clipped updates
      const lr = learningRateAt(round, total, options.optimizer)
      const update = ppoUpdate(trainee.model, trainee.trainable, optimizer, rows, options, lr, {
        key: [options.seed, 2, round],
        warmup: options.method === 'ppo' && round < options.critic_warmup_rounds,
        klCoef: control.kl_coef,
        bad,
      })
      lap('learn')
      // 6. tell, and set β and λ of the next round
      const metrics: Record<string, number> = {
        ...rolloutMetrics(rollouts, scored, rows, options, control),
        ...update,
        lr,
        episode: (round + 1) * asked.length,
        ...lap.times(),
      }
      kl = metrics['objective/kl'] ?? 0
      control.kl_coef = nextKlCoef(control.kl_coef, kl, asked.length, options)
      control.multiplier = nextMultiplier(control.multiplier, scored.safetyMean, options)
      yield { type: 'rollouts', step: round + 1, rows: rolloutRows(rollouts, scored) }
      yield { type: 'metrics', step: round + 1, metrics }
      await new Promise(setImmediate)
    }

    const state = optimizer.state()
    const extra = async (folder: string): Promise<void> => {
      await writeSafetensors(`${folder}/optimizer.safetensors`, state.tensors)
      await writeJson(`${folder}/trainer_state.json`, {
        ...{ round: first + options.rounds, step: state.step, method: options.method },
        ...{ scales, control, reference: spec.reference },
      })
    }
    await trainee.save(spec.output, { role: 'policy' }, { extra })
    yield { type: 'done', output: spec.output, summary: { 'objective/kl': kl } }
  } finally {
    optimizer.dispose()
    trainee.dispose()
    scorers.helpfulness.dispose()
    scorers.safety.dispose()
  }
}

/** Throws `conflicting_options` naming the field. */
function checkOptions({ method, samples_per_prompt: samples }: PpoOptions): void {
  if (method === 'rloo' && samples < 2)
    throw new LibraError(
      'conflicting_options',
      `samples_per_prompt: rloo holds each answer against the others to its prompt; give 2 or more, not ${samples}`,
      { details: { field: 'samples_per_prompt' } },
    )
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
