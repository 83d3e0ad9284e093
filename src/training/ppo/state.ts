import { join } from 'node:path'
import { z } from 'zod'
import { LibraError } from '../../errors.ts'
import { readJson } from '../../weights/json.ts'
import { openSafetensors } from '../../weights/safetensors.ts'
import type { OptimizerState } from '../optimizer.ts'

const scale = z.object({ mean: z.number(), std: z.number().positive() })
const TrainerState = z.object({
  round: z.int().min(0),
  step: z.int().min(0),
  scales: z.object({ helpfulness: scale, safety: scale }).nullable(),
  /** checkpoints of before have none: they go on with what the options say */
  control: z
    .object({
      kl_coef: z.number().min(0),
      multiplier: z.number().min(0),
      rewards: z.object({ n: z.int().min(0), mean: z.number(), m2: z.number() }),
    })
    .optional(),
})

/** What a policy checkpoint carries from one round to the next. Throws `damaged_checkpoint` naming the file. */
export async function loadState(
  folder: string,
): Promise<z.infer<typeof TrainerState> & { optimizer: OptimizerState }> {
  const file = join(folder, 'trainer_state.json')
  const state = TrainerState.safeParse(await readJson(file))
  if (!state.success)
    throw new LibraError(
      'damaged_checkpoint',
      `${file}: ${state.error.issues[0]?.message ?? 'invalid'}`,
    )
  const moments = openSafetensors(join(folder, 'optimizer.safetensors'))
  try {
    const tensors = Object.fromEntries(moments.names.map((name) => [name, moments.read(name)]))
    return { ...state.data, optimizer: { step: state.data.step, tensors } }
  } finally {
    moments.close()
  }
}
