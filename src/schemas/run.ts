import { z } from 'zod'
import { PROBES } from './checks.ts'
import { EvaluationOptions } from './evaluation.ts'
import { AXES, Axis } from './feedback.ts'
import { asking, Budget, override, OVERRIDES } from './judging.ts'
import { file, ModelRef } from './refs.ts'
import { RlaifOptions } from './rlaif.ts'
import {
  DpoOptions,
  mixOf,
  PretrainOptions,
  RewardModelOptions,
  SftOptions,
} from './training-options.ts'
import { PpoOptions } from './policy-options.ts'

export const RUN_KINDS = [
  'pretrain',
  'sft',
  'reward_model',
  'dpo',
  'policy_update',
  'label',
  'revision',
  'evaluation',
  'rlaif',
] as const
export const RUN_STATES = [
  'queued',
  'running',
  'paused',
  'waiting_for_labels',
  'succeeded',
  'failed',
  'cancelled',
] as const
export type RunState = (typeof RUN_STATES)[number]

const suffix = z
  .string()
  .regex(/^[\w.-]{1,40}$/)
  .optional()
  .describe('a part of the name of the model that comes out')

export const LabelOptions = z.strictObject({
  axes: z
    .array(Axis)
    .min(1)
    .default([...AXES]),
  max_new_tokens: z.int().min(1).max(4096).default(32),
  temperature: z.number().positive().max(2).default(1),
  seed: z.int().min(0).default(0),
  ...asking,
})
export type LabelOptions = z.infer<typeof LabelOptions>

/** What a reward model may fail, or never have met, and teach a policy all the same. */
export const REWARD_OVERRIDES = ['staleness', ...PROBES] as const
const overrides = z
  .array(z.enum([...OVERRIDES, ...REWARD_OVERRIDES]))
  .describe(
    'what is missing or speaks against it, by name: `judge_audit`; `staleness`, which is then not measured; probes of the reward models',
  )
const updateOverride = overrides.default([])
/**
 * With accuracy a of the reward model on the judge's decided verdicts, 2a − 1 is how much more often it is right than
 * wrong: at 0.55 once in ten comparisons, below that PPO climbs noise.
 */
export const FRESHNESS_FLOOR = 0.55
const floor = z
  .number()
  .min(0)
  .max(1)
  .describe(
    'least accuracy of each reward model on judge-labelled answers of the policy as it is now; at 0.55 one comparison in ten is more right than wrong',
  )
const freshness_floor = floor.default(FRESHNESS_FLOOR)

/** Critique and revision (Constitutional AI): the answers that come of it are SFT data. */
export const RevisionOptions = z.strictObject({
  revisions: z.int().min(1).max(16).default(4).describe('critiques and revisions of each answer'),
  max_new_tokens: z.int().min(1).max(4096).default(256),
  temperature: z.number().positive().max(2).default(1),
  seed: z.int().min(0).default(0),
  fresh: z.boolean().default(false),
  budget: Budget.prefault({}),
})

/** What may be otherwise from an iteration of a loop on. */
export const LoopChange = z.strictObject({
  iteration: z
    .int()
    .min(1)
    .max(1000)
    .describe('the first iteration that it holds for; it must not have begun'),
  options: z
    .record(z.string(), z.unknown())
    .optional()
    .describe(
      'those of the loop’s `options` that change, nested alike: iterations, pairs, replay, mix, reward_model, counterfactuals, ppo, guard',
    ),
  judge: z.string().optional(),
  override: overrides.optional(),
  freshness_floor: floor.optional(),
})
export type LoopChange = z.infer<typeof LoopChange>

const pauseAfter = z.union([z.literal('each'), z.int().min(1).max(1000)])
export const LoopPause = z.strictObject({
  after: pauseAfter
    .nullable()
    .default('each')
    .describe('the iteration after which it waits, or each but the last; null: none'),
})

export const LoopRequest = z.strictObject({
  kind: z.literal('rlaif'),
  base: ModelRef.default('starter-base').describe('a model without adapters: SFT starts from it'),
  judge: z.string().default('default'),
  audit_judge: z
    .string()
    .optional()
    .describe(
      'whose verdicts the guard goes by: another judge than the one that labels. Default: on the starter world’s prompts its audit judge, elsewhere none, and then the guard does not look',
    ),
  twin_base: ModelRef.optional().describe(
    'a base of another size and pre-training seed, from which twins of both reward models learn the same pairs: a second opinion beside the guard, which decides nothing. Default: on the starter world’s prompts `starter-twin`, elsewhere none',
  ),
  override: updateOverride,
  freshness_floor,
  dialogues_file: file.optional().describe('default: the starter world’s'),
  prompts_file: z
    .union([
      file,
      z
        .array(
          z.strictObject({
            file,
            share: z.number().positive().max(1e6).describe('of all prompts, beside the others’'),
          }),
        )
        .min(1)
        .max(16),
    ])
    .optional()
    .describe(
      'a file of prompts, or several with their shares: as many prompts as there can be so, drawn from the seed; default: the starter world’s',
    ),
  options: RlaifOptions.prefault({}),
  changes: z
    .array(LoopChange)
    .max(1000)
    .default([])
    .describe('what is otherwise from an iteration on, in the order in which it was asked for'),
  pause_after: pauseAfter
    .optional()
    .describe('the iteration after which the loop waits to be resumed, or each but the last'),
  branch: z
    .strictObject({ run: z.string().min(1).max(200), iteration: z.int().min(0).max(1000) })
    .optional()
    .describe(
      'goes on from another loop’s end of an iteration; 0: from its SFT policy. Up to there all must be asked for alike: POST /v1/rlaif/loops/{id}/branch does that',
    ),
})

/** What can be started, and with what. `POST /v1/runs` takes it; the other routes that start runs build it. */
export const RunRequest = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('pretrain'),
    tokenizer: ModelRef.default('starter-base').describe('the model whose tokenizer is used'),
    training_file: file,
    suffix,
    options: PretrainOptions,
  }),
  z.strictObject({
    kind: z.literal('sft'),
    model: ModelRef.default('starter-base'),
    training_file: file,
    suffix,
    options: SftOptions.prefault({}),
  }),
  z.strictObject({
    kind: z.literal('reward_model'),
    model: ModelRef.default('reference').describe('where it starts: the policy’s own start'),
    training_file: file.optional().describe('preference pairs; default: those stored for the axis'),
    mix: mixOf(z.number().positive())
      .optional()
      .describe(
        'wanted shares of pairs by their source, of the axis where the source has such pairs, otherwise of the other, e.g. {"mine": 0.9, "helpful": 0.1} (Llama 2: safety 90/10, helpfulness half and half); default: all pairs of the axis',
      ),
    references: ModelRef.optional().describe(
      'helpfulness: the reward model whose reference answers this one is held against; default: the one that plays the role',
    ),
    suffix,
    options: RewardModelOptions,
  }),
  z.strictObject({
    kind: z.literal('dpo'),
    model: ModelRef.default('reference').describe('where the policy starts, and its reference'),
    training_file: file
      .optional()
      .describe('preference pairs; default: those stored, of `options.axis` or of both axes'),
    suffix,
    options: DpoOptions.prefault({}),
  }),
  z.strictObject({
    kind: z.literal('policy_update'),
    policy: ModelRef.default('reference').describe('the reference, or a policy to go on from'),
    helpfulness: ModelRef.default('helpfulness'),
    safety: ModelRef.default('safety'),
    training_file: file.describe('prompts'),
    suffix,
    judge: z
      .string()
      .default('default')
      .describe('labels answers of the policy, to see whether the reward models still know them'),
    override: updateOverride,
    freshness_floor,
    options: PpoOptions.prefault({}),
  }),
  z.strictObject({
    kind: z.literal('label'),
    model: ModelRef.default('policy').describe('writes two answers to each prompt'),
    judge: z.string().default('default'),
    training_file: file.describe('prompts'),
    override,
    options: LabelOptions.prefault({}),
  }),
  z.strictObject({
    kind: z.literal('revision'),
    model: ModelRef.default('policy').describe('answers the prompts'),
    critic: z.string().default('default').describe('judge profile: criticises and revises'),
    training_file: file.describe('prompts'),
    constitution: file.describe('an uploaded file of principles with critique and revision'),
    options: RevisionOptions.prefault({}),
  }),
  z.strictObject({ kind: z.literal('evaluation'), options: EvaluationOptions }),
  LoopRequest,
])
export type RunRequest = z.infer<typeof RunRequest>

/** The body of a route that starts one kind of run: the request without its kind. */
export function bodyOf(kind: RunRequest['kind']): z.ZodObject {
  const option = RunRequest.options.find(({ shape }) => shape.kind.value === kind)
  if (option === undefined) throw new Error(`no run of kind ${kind}`)
  return (option as z.ZodObject).omit({ kind: true })
}
