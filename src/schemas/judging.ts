import { z } from 'zod'

/** Which of two answers is shown first: both orders are asked, or one, drawn per pair from the seed. */
export const POSITIONS = ['both', 'drawn'] as const
export const INCONSISTENT = ['average', 'exclude'] as const

const count = z.int().min(1).max(1e9)
const money = z.number().positive().max(1e9)

/** How a judge is asked; shared by all who use its profile in this process. */
export const JudgeSettings = z.strictObject({
  max_concurrency: z.int().min(1).max(1024).default(8).describe('requests under way at once'),
  requests_per_minute: count.optional().describe('retries count'),
  tokens_per_minute: count.optional().describe('in and out, as the server reports them'),
  timeout_ms: z.int().min(1).max(3_600_000).default(60_000),
  max_retries: z.int().min(0).max(20).default(3),
  max_tokens: z
    .int()
    .min(1)
    .max(1e6)
    .default(16)
    .describe('of a verdict; a reasoning model needs thousands'),
  price: z
    .strictObject({ prompt: z.number().min(0), completion: z.number().min(0) })
    .optional()
    .describe('of a million tokens; what costs are counted in is yours'),
  clip: z
    .strictObject({ prompt: z.int().min(1).max(1e6), answer: z.int().min(1).max(1e6) })
    .optional()
    .describe('characters of the dialogue (its end) and of each answer that a local judge reads'),
})
export type JudgeSettings = z.infer<typeof JudgeSettings>

/** What one run or request may use up; of a local judge requests alone. What is left of it fails as `over_budget`. */
export const Budget = z.strictObject({
  requests: count.optional(),
  tokens: count.optional().describe('in and out, as the server reports them'),
  cost: money.optional().describe('by the prices of the judge’s profile'),
})
export type Budget = z.infer<typeof Budget>

/** What a judge's answers have cost. */
export const JudgeUsage = z.object({
  requests: z.int().describe('that reached the judge; retries are not counted'),
  cached: z.int().describe('questions answered from the cache, at no cost'),
  prompt_tokens: z.int().describe('as the server reports them; a local model reports none'),
  completion_tokens: z.int(),
  cost: z
    .number()
    .nullable()
    .describe('null where the profile names no prices, or the server did not tell its usage'),
})

/** What may be done all the same, by name; it stays recorded in the run. */
export const OVERRIDES = ['judge_audit'] as const
export const override = z
  .array(z.enum(OVERRIDES))
  .default([])
  .describe('`judge_audit`: label with a judge whose audit is missing or speaks against it')

/** A comparison in writing before the verdict. */
export const Rationale = z.strictObject({
  max_tokens: z.int().min(1).max(8192).default(512),
  clamp: z
    .number()
    .gt(0)
    .max(0.5)
    .optional()
    .describe(
      'how far from ½ a label may be; 0.1 is the 40 to 60 % of Constitutional AI (Bai et al. 2022, 4.3). Strength is not clamped',
    ),
})

/** A named thing to score an answer by. */
export const Criterion = z.strictObject({
  name: z.string().min(1).max(200),
  description: z.string().max(4000).default(''),
  weight: z.number().positive().max(1e6).default(1),
})

/** Both answers in one question that a letter answers, or each scored by itself. */
export const COMPARE_BY = ['letter', 'score'] as const
export const CompareBy = z.enum(COMPARE_BY)
export type CompareBy = z.infer<typeof CompareBy>

const constitution = z
  .string()
  .min(1)
  .max(200)
  .optional()
  .describe(
    'id of an uploaded file of principles: each comparison is judged by one of its axis, drawn from the seed',
  )

/** How the judge of a run words its questions. */
export const ways = {
  rationale: Rationale.optional().describe(
    'the judge first compares the answers in writing, greedily, then says its letter',
  ),
  constitution,
  compare_by: CompareBy.optional().describe(
    '`letter`: both answers in one question; `score`: each from 1 to 10 by itself, P(a is better) = P(a’s is higher) + ½·P(the same), so that no place can be preferred. Default: what a local judge’s `libra.json` says, else `letter`; not together with a rationale or a constitution',
  ),
}

/** How pairs are asked about and what becomes of verdicts that depend on the order. */
export const asking = {
  positions: z
    .enum(POSITIONS)
    .default('both')
    .describe('both orders, averaged; or one order, drawn per pair from the seed'),
  inconsistent: z
    .enum(INCONSISTENT)
    .default('average')
    .describe(
      'when the two orders prefer different answers: their mean is the label, or there is none (failure `inconsistent`)',
    ),
  ...ways,
  fresh: z.boolean().default(false).describe('ask again what is known from before'),
  budget: Budget.prefault({}),
}
