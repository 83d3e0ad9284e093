import { z } from 'zod'
import { CompareBy } from './judging.ts'
import { Calibration } from './model.ts'
import { PpoOptions } from './policy-options.ts'
import {
  count,
  DpoOptions,
  PretrainOptions,
  RewardModelOptions,
  SftOptions,
} from './training-options.ts'

/** What the training engine gets. Paths are absolute; data files are JSON Lines of the rows in feedback.ts. */
const files = z.object({ base: z.string(), adapters: z.array(z.string()) })
/** How a run that ends before its time can go on. */
const CheckpointPlan = z.object({
  folder: z.string(),
  every: count(1e6).describe('steps or rounds'),
  recorded: z.int().min(0).describe('the last step that the run’s log holds'),
})
export type CheckpointPlan = z.infer<typeof CheckpointPlan>
const common = {
  output: z.string().describe('folder to write the checkpoint to; must not exist'),
  checkpoints: CheckpointPlan.nullish().describe('null: an interrupted run begins anew'),
}

export const TrainSpec = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('pretrain'),
    ...common,
    tokenizer: z.string().describe('folder'),
    data: z.string(),
    options: PretrainOptions,
  }),
  z.object({
    kind: z.literal('sft'),
    role: z.string().optional().describe('what the adapter is for: sft, judge, …'),
    compares_by: CompareBy.optional().describe('of a judge: how the data have it compare'),
    ...common,
    model: files,
    data: z.string(),
    options: SftOptions,
  }),
  z.object({
    kind: z.literal('reward_model'),
    ...common,
    model: files,
    data: z.string(),
    options: RewardModelOptions,
  }),
  z.object({
    kind: z.literal('dpo'),
    ...common,
    model: files.describe('where the policy starts, and its reference'),
    data: z.string().describe('preference pairs'),
    options: DpoOptions,
  }),
  z.object({
    kind: z.literal('policy_update'),
    ...common,
    reference: files.describe('the SFT model'),
    parent: z
      .string()
      .nullable()
      .describe('checkpoint of the policy to continue from; null starts at the reference'),
    rounds_before: z
      .int()
      .min(0)
      .nullish()
      .describe('rounds done before these, given-up ones too; default: those of the parent'),
    helpfulness: z.object({ files, calibration: Calibration.nullable() }),
    safety: z.object({ files, calibration: Calibration.nullable() }),
    data: z.string().describe('prompts'),
    options: PpoOptions,
  }),
])
export type TrainSpec = z.infer<typeof TrainSpec>

/** One answer of a round: its prompt by place in the file, the raw logits, the combined reward. */
export type RolloutRow = {
  prompt: number
  response: string
  ended: boolean
  helpfulness: number
  safety: number
  reward: number
}

export type TrainEvent =
  | { type: 'started'; steps: number; tokens: number | null }
  /** instead of `started`: goes on behind the checkpoint of `step`, with `done` of the run's `steps` done */
  | { type: 'resumed'; step: number; done: number; steps: number }
  | { type: 'metrics'; step: number; metrics: Record<string, number> }
  | {
      type: 'rollouts'
      step: number
      rows: RolloutRow[]
    }
  | { type: 'warning'; message: string }
  | { type: 'done'; output: string; summary: Record<string, number> }
