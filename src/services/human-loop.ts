import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { withCheckpoint } from '../engine/engine.ts'
import type { PolicyFigure } from '../evaluation/policy-measures.ts'
import type { Interval } from '../evaluation/statistics.ts'
import type { Judge } from '../judging/judge.ts'
import { createLocalJudge } from '../judging/local-judge.ts'
import { alignByAiFeedback } from '../rlaif/loop.ts'
import { requireSources, sharesOf } from '../rlaif/mix.ts'
import { writeRows } from '../rlaif/rows.ts'
import type { Approval } from '../rlaif/world.ts'
import { LabelledRow } from '../schemas/audit.ts'
import { AXES } from '../schemas/feedback.ts'
import type { Axis, PreferenceRow, PromptRow } from '../schemas/feedback.ts'
import { checkPolicyOptions } from '../schemas/policy-options.ts'
import { RlaifOptions } from '../schemas/rlaif.ts'
import type { TrainSpec } from '../schemas/training.ts'
import type { AuditRow } from '../store/store.ts'
import type { HumanData } from '../text/data-folder.ts'
import { encodeChat } from '../text/template.ts'
import { loadTokenizer } from '../text/tokenizer.ts'
import { readConfig } from '../weights/folder.ts'
import { auditJudge } from './audit.ts'
import type { Figure } from './audit-figures.ts'
import {
  FOLDS,
  heldOutFigures,
  heldOutRivals,
  scoreBoth,
  scoreHeldOut,
} from './cross-validation.ts'
import { approvalFigures, approvalWarnings, approveHuman, freshFigures } from './human-checks.ts'
import {
  HUMAN_LOOP,
  pairsOf,
  pick,
  pretrainBase,
  shuffled,
  train,
  trainJudge,
} from './human-models.ts'
import type { HumanLoopSizes, HumanWorld } from './human-models.ts'
import { guardWarnings, voteRows } from './guard.ts'
import { keepEngines } from './engines.ts'
import { recordedParts } from './loop-parts.ts'
import { merge } from './merge.ts'
import { evaluationPrompts } from './loop-evaluation.ts'
import type { LoopProgress } from './loop-evaluation.ts'
import type { RunContext } from './runs.ts'
import { evaluatePolicies } from './policy-evaluation.ts'
import { plotsOf, writeReport } from './report.ts'
import type { Services } from './services.ts'

/** The source of the pairs that it labels, beside the tranches of people's. */
const JUDGE = 'judge on human pairs'

export type HumanLoopResult = {
  judge: Figure[]
  /** of the reward models, on the judge's labels of the policy's own answers */
  freshness: Figure[]
  crossValidation: PolicyFigure[]
  policy: Figure[]
  rounds: Record<string, number>[]
  checks: Approval['checks']
  report: string
}

/**
 * The loop on human preference pairs: a base (pre-trained here when none is given), a judge that is an adapter
 * trained on the pairs and audited on dev, then SFT on chosen answers, two reward models on human and judge labels,
 * PPO, and the evaluation: policies compared, reward models cross-validated beside counting baselines. Throws what is
 * wrong with its options before anything is trained, and what its parts throw.
 */
export async function runHumanLoop(
  services: Services,
  data: HumanData,
  input: {
    base: string | null
    overrides: Record<string, unknown>
    sizes?: HumanLoopSizes
    /** probes that may fail, and `staleness`, which then only warns */
    override?: readonly string[]
  },
  context: RunContext,
  progress: LoopProgress,
): Promise<HumanLoopResult & Record<string, unknown>> {
  const { sizes = HUMAN_LOOP, override = [] } = input
  const options = RlaifOptions.parse(merge(sizes.loop, input.overrides))
  checkPolicyOptions(options.ppo, { at: 'ppo.' })
  for (const axis of AXES) {
    const sources = new Set([
      ...pick(data.train, axis).flatMap(({ source }) => source ?? []),
      JUDGE,
    ])
    requireSources(Object.keys(sharesOf(options.mix, axis) ?? {}), sources, `mix.${axis}`)
  }
  const folder = join(services.dataDir, 'runs', context.id)
  await mkdir(folder, { recursive: true })
  const engines = keepEngines(services)
  try {
    const parts = await recordedParts(services, context, { seed: options.seed, lend: engines.lend })
    const world = { services, parts, folder, context, options, sizes, progress }
    // 1. a base that has read the text there, but no answer that is judged later
    const base = input.base ?? (await pretrainBase(world, data))
    // 2. a judge from human pairs, audited on pairs that it has not seen
    const judgeModel = await trainJudge(world, base, data.train)
    const judge = createLocalJudge(services.serving, judgeModel, JUDGE, {
      clip: sizes.judgeClip,
      absolute: false,
    })
    const audit: Figure[] = []
    for (const axis of AXES) {
      const { figures } = await parts.note(`audit-${axis}`, async () => ({
        figures: (await auditOn(world, judge, axis, pick(data.dev, axis))).figures,
      }))
      for (const figure of figures)
        audit.push({ ...figure, figure: `judge, ${axis}: ${figure.figure}` })
    }
    // 3. the loop itself
    const prompts = await askable(base, data.train, options)
    const pairs = {
      helpfulness: pick(data.train, 'helpfulness'),
      safety: pick(data.train, 'safety'),
    }
    const dialogues = shuffled(data.train, options.seed)
      .slice(0, options.dialogues)
      .map(({ prompt, chosen }) => ({
        messages: [...prompt, { role: 'assistant' as const, content: chosen }],
        ended: true,
      }))
    const { serving } = services
    const aligned = await alignByAiFeedback(
      {
        ...{ serving, folder, progress, signal: context.signal, judge: () => judge },
        approve: (_iteration, models, pairs, policy) =>
          approveHuman(world, { models, pairs, policy, judge: judge.name, override }, data.dev),
        parts,
      },
      { base, dialogues, prompts, pairs },
      Array.from({ length: options.iterations }, () => options),
    )
    // 4. what came of it
    const compared = await evaluatePolicies(services, {
      policies: [
        { name: 'before 之前', files: aligned.sft },
        { name: 'after 之后', files: aligned.policy },
      ],
      judge,
      rewards: {
        helpfulness: aligned.rewardModels.helpfulness.files,
        safety: aligned.rewardModels.safety.files,
      },
      prompts: (await askable(base, data.dev, options)).slice(
        0,
        evaluationPrompts(options, 'given'),
      ),
      options: {
        ...{ seed: options.seed, max_new_tokens: options.ppo.max_new_tokens },
        ...{ samples: 1, threshold: options.ppo.gate_threshold },
      },
      signal: context.signal,
      progress,
    })
    const crossValidation = sizes.crossValidation
      ? await crossValidateRewards(world, base, data)
      : []
    const { checks } = aligned.approval
    const warnings = [
      ...checks.flatMap(approvalWarnings),
      ...guardWarnings(options, aligned.guard),
      ...compared.warnings,
    ]
    const report = await writeReport(services, context.id, {
      figures: [
        ...audit,
        ...checks.flatMap(approvalFigures),
        ...compared.figures,
        ...crossValidation,
      ],
      plane: compared.plane,
      votes: voteRows(aligned.guard),
      curves: [
        ...plotsOf(aligned.rounds.map((round, i) => ({ ...round, step: i + 1, at: 0 }))),
        ...compared.curves,
      ],
      samples: compared.samples,
      warnings,
    })
    return {
      ...{
        judge: audit,
        freshness: checks.flatMap(freshFigures),
        crossValidation,
        policy: compared.figures,
        rounds: aligned.rounds,
        guard: aligned.guard,
        checks,
      },
      ...{ report, warnings, labels: aligned.judge },
      data: {
        helpfulness: aligned.rewardModels.helpfulness.data,
        safety: aligned.rewardModels.safety.data,
      },
    }
  } finally {
    await engines.close()
  }
}

async function auditOn(
  { services, options, context }: HumanWorld,
  judge: Judge,
  axis: Axis,
  dev: readonly PreferenceRow[],
): Promise<AuditRow> {
  const pairs = dev.map((pair) => LabelledRow.parse(pair))
  const { id: run, signal } = context
  const input = { axis, pairs, seed: options.seed, run, signal }
  return (await auditJudge(services, judge, input)).audit
}

export const show = ({ value, low, high }: Interval): string =>
  `${value.toFixed(3)} [${low.toFixed(3)}, ${high.toFixed(3)}]`

/** Prompts, each once, that leave room for an answer. */
async function askable(
  base: string,
  pairs: readonly PreferenceRow[],
  { seed, ppo }: RlaifOptions,
): Promise<PromptRow[]> {
  const tokenizer = await loadTokenizer(base)
  const { context } = await readConfig(base)
  const room = context - ppo.max_new_tokens - 1
  const seen = new Set<string>()
  return shuffled(pairs, seed).flatMap(({ prompt }) => {
    const key = JSON.stringify(prompt)
    if (seen.has(key) || encodeChat(tokenizer, prompt, true).ids.length > room) return []
    seen.add(key)
    return [{ messages: prompt }]
  })
}

/** Tranches of HH-RLHF that are looked at together: in the third, people preferred the shorter answer. */
export const TOGETHER = [
  {
    name: 'helpful-base and helpful-rejection-sampled',
    sources: ['helpful-base', 'helpful-rejection-sampled'],
  },
]

/** Five folds over conversations, each with two reward models of its own from the base. */
async function crossValidateRewards(
  world: HumanWorld,
  base: string,
  data: HumanData,
): Promise<PolicyFigure[]> {
  const { seed, reward_model: reward } = world.options
  const pairs = pairsOf(data)
  await mkdir(join(world.folder, 'folds'), { recursive: true })
  const heldOut = await scoreHeldOut(
    pairs,
    FOLDS,
    async (axis, fold, training, held) => {
      const output = join(world.folder, 'folds', `${axis}-${fold}`)
      const start = { base, adapters: [] }
      const path = `${output}.jsonl`
      const spec: TrainSpec = {
        ...{ kind: 'reward_model', output, model: start, data: path },
        options: { ...reward, axis, seed },
      }
      await train(world, `fold ${fold + 1} ${axis}`, spec, () => writeRows(path, training))
      const model = withCheckpoint(start, output, reward.lora)
      const [scores] = await scoreBoth(world.services.serving, [model], held)
      return scores ?? { chosen: [], rejected: [] }
    },
    (done, total) => world.progress('cross-validation', done, total),
  )
  const figures: PolicyFigure[] = []
  for (const axis of AXES) {
    const rivals = await heldOutRivals(axis, pairs)
    for (const each of heldOutFigures(axis, heldOut[axis], rivals, seed, TOGETHER))
      figures.push({ ...each, figure: `held-out ${axis}: ${each.figure}` })
  }
  return figures
}
