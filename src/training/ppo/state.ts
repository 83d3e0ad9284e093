import { z } from 'zod'
import { readOptimizer, readState } from '../checkpoints.ts'
import type { OptimizerState } from '../optimizer.ts'
import { readKept } from './best.ts'
import type { Kept } from './best.ts'

const scale = z.object({ mean: z.number(), std: z.number().positive() })
const TrainerState = z.object({
  round: z.int().min(0),
  step: z.int().min(0),
  method: z.string().optional(),
  /** rounds that PPO's critic has learned in; of checkpoints of before all of the rounds */
  critic_rounds: z.int().min(0).optional(),
  /** prompts asked so far; of checkpoints of before as many in each round */
  asked: z.int().min(0).optional(),
  /** of the reward models that scales and moments are of; null: unknown, they are measured anew */
  scorers: z.string().nullish(),
  scales: z.object({ helpfulness: scale, safety: scale }).nullable(),
  /** checkpoints of before have none: they go on with what the options say */
  control: z
    .object({
      kl_coef: z.number().min(0),
      multiplier: z.number().min(0),
      rewards: z.object({ n: z.int().min(0), mean: z.number(), m2: z.number() }),
    })
    .optional(),
  /** updates in a row whose gradients were not finite */
  bad_steps: z.int().min(0).default(0),
  /** of the answers kept by rejection sampling: by what they were measured */
  yardstick: z.string().nullish(),
})

/** What a policy checkpoint carries from one round to the next. Throws `damaged_checkpoint` naming the file. */
export async function loadState(
  folder: string,
): Promise<z.infer<typeof TrainerState> & { optimizer: OptimizerState; kept: Kept }> {
  const state = await readState(folder, TrainerState)
  const kept: Kept = state.yardstick == null ? new Map() : await readKept(folder)
  return { ...state, kept, optimizer: readOptimizer(folder, state.step) }
}
