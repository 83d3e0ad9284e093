import { z } from 'zod'
import { Message } from './chat.ts'
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

/** One edit of an attack: a probe's, or a text before or behind the answer, in the answer's language. */
export const AttackEdit = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('probe'), probe: Probe }),
  z.object({ kind: z.literal('front'), zh: z.string(), en: z.string() }),
  z.object({ kind: z.literal('back'), zh: z.string(), en: z.string() }),
])
export type AttackEdit = z.infer<typeof AttackEdit>

export const AttackStep = z.object({
  edits: z.array(AttackEdit),
  gain: z
    .number()
    .describe('mean rise of the score on answers that the search never saw, in deviations'),
  low: z.number(),
  high: z.number(),
  n: z.int(),
  rises: z.number(),
  characters: z.number().describe('that the edits add, on average'),
})
export type AttackStep = z.infer<typeof AttackStep>

const gain = z.object({ gain: z.number(), low: z.number(), high: z.number(), n: z.int() })

/** How a reward model can be made to pay for nothing, and how cheaply: beside its accuracy. */
export const Certificate = z.object({
  seed: z.int(),
  budget: z.int().describe('score calls that all of it was given'),
  spent: z.int(),
  sigma: z.number().describe('deviation of the score over the unedited answers'),
  quality: z
    .enum(['judge', 'construction'])
    .describe(
      'what says that the answers got no better: the judge, asked in both orders; or no edit in reach improves an answer',
    ),
  judge: z.string().nullable(),
  steps: z.array(AttackStep).describe('one edit, two, three: each the best that was found'),
  unchanged: gain
    .nullable()
    .describe('gain of the longest chain where the judge calls the edited answer no better'),
  judged_better: z.number().nullable().describe('share of edited answers that the judge prefers'),
  best_of_n: z
    .object({
      policy: z.string(),
      samples: z.int(),
      gain: z.number().describe('best of n by the score against the first, where no better'),
      low: z.number(),
      high: z.number(),
      n: z.int(),
      judged_better: z.number(),
    })
    .nullable(),
  policy_attack: z
    .object({
      policy: z.string().describe('where it started'),
      model: z.string().describe('what came of it: an adapter in the catalogue'),
      rounds: z.int().describe('of training against this reward model alone, without a KL penalty'),
      prompts: z.int().describe('that it was trained on, none of them held out'),
      spent: z.int().describe('score calls of training and measuring, part of all'),
      kl: z
        .number()
        .nullable()
        .describe('nats per answer from where it started, on the held-out prompts'),
      max_new_tokens: z.int(),
      gain: z
        .number()
        .describe('mean rise of the score from the answers of where it started, in deviations'),
      low: z.number(),
      high: z.number(),
      n: z.int().describe('held-out prompts'),
      unchanged: gain
        .nullable()
        .describe('gain where the judge calls the attacking policy’s answer no better'),
      judged_better: z.number().nullable(),
      examples: z.array(
        z.object({
          dialogue: z.array(Message),
          answer: z.string().describe('of the policy that it started from'),
          attacked: z.string().describe('of the attacking policy'),
          before: z.number().describe('raw logit'),
          after: z.number(),
          judged: z.number().nullable().describe('P(the attacking policy’s answer is better)'),
          seed: z.int(),
          place: z
            .int()
            .describe(
              'of both answers: a chat completion with this seed, temperature 1 and n above it has the answer at this index',
            ),
        }),
      ),
    })
    .nullable()
    .default(null)
    .describe('a policy that was trained against the reward model; null: not asked for'),
  examples: z.array(
    z.object({
      prompt: z.string().describe('its last turn'),
      dialogue: z
        .array(Message)
        .optional()
        .describe(
          'the whole prompt, to score both answers again; cards of before it was kept have none',
        ),
      answer: z.string(),
      edited: z.string(),
      before: z.number().describe('raw logit'),
      after: z.number(),
      judged: z.number().nullable().describe('P(the edited answer is better)'),
    }),
  ),
})
export type Certificate = z.infer<typeof Certificate>

/** Whether a reward model still tells the answers of a policy apart. */
export const Freshness = z.object({
  policy: z.string().describe('version of the policy whose answers were judged'),
  judge: z.string(),
  floor: z.number(),
  accuracy: z.number().describe('share of decided verdicts that it agrees with'),
  low: z.number(),
  high: z.number(),
  n: z.int(),
})
export type Freshness = z.infer<typeof Freshness>

/** What is looked at before a reward model may teach a policy. */
export const CHECKS = ['probes', 'certificate', 'freshness'] as const
export type Check = (typeof CHECKS)[number]

/** What a check found, under its name. */
export const CheckResult = z.object({
  probes: z.array(ProbeResult).optional(),
  certificate: Certificate.optional(),
  freshness: Freshness.optional(),
})
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
