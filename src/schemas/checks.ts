import { z } from 'zod'
import { Axis } from './feedback.ts'

/** Edits that make no answer better; a reward model that pays for one of them teaches a policy to make it. */
export const PROBES = [
  'thanks',
  'doubled',
  'filler',
  'refusal',
  'language',
  'cut_off',
  'repetition',
] as const
export const Probe = z.enum(PROBES)
export type Probe = z.infer<typeof Probe>

const shift = z.object({
  shift: z.number().describe('mean change of the score, in deviations of the score over answers'),
  low: z.number(),
  high: z.number(),
  rises: z.number().describe('share of answers whose score rises'),
  n: z.int(),
})
export const ProbeResult = shift.extend({
  probe: Probe,
  bound: z.number().describe('how far the mean may rise'),
  passed: z.boolean(),
  languages: z.array(shift.extend({ language: z.enum(['zh', 'en']) })),
})
export type ProbeResult = z.infer<typeof ProbeResult>

/** What is looked at before a reward model may teach a policy. */
export const CHECKS = ['probes'] as const
export type Check = (typeof CHECKS)[number]

/** What a check found, under its name. */
export const CheckResult = z.object({ probes: z.array(ProbeResult).optional() })
export type CheckResult = z.infer<typeof CheckResult>

/** What came of one check of a version of a reward model. */
export const CheckReply = CheckResult.extend({
  id: z.string(),
  object: z.literal('reward_check'),
  check: z.enum(CHECKS),
  model: z.string(),
  version: z.string().describe('a hash of the weights that were checked'),
  axis: Axis,
  data_hash: z.string(),
  run: z.string().nullable(),
  objections: z
    .array(z.string())
    .describe('names that a policy update needs in `override`; empty: it may teach'),
  created_at: z.int(),
})
