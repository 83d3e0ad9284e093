import { LibraError } from '../errors.ts'
import { permutation } from '../random.ts'
import type { PromptRow } from '../schemas/feedback.ts'

/** The share of given prompts that is kept for the evaluation, and for the guard's looks. */
const HELD_OUT = 0.2
const GUARDED = 0.1
/** Of two pairs one trains a reward model and one calibrates it. */
const LEAST_TRAINED = 2

/** Who uses which of the prompts that a loop was given: none is in two of them. */
export type SplitPrompts = Record<'held' | 'looked' | 'prompts', PromptRow[]>

/**
 * Cuts given prompts, in an order drawn from the seed, into those of the evaluation, of the guard's looks and those that
 * are trained on. Throws `too_little_data` where too few are left to train on.
 */
export function splitPrompts(
  rows: readonly PromptRow[],
  seed: number,
  watched: boolean,
): SplitPrompts {
  const given = Array.from(permutation(rows.length, seed, 53)).flatMap((i) => rows[i] ?? [])
  const share = (of: number): number => Math.max(1, Math.floor(given.length * of))
  const kept = share(HELD_OUT)
  const looked = watched ? share(GUARDED) : 0
  const prompts = given.slice(kept + looked)
  if (prompts.length >= LEAST_TRAINED)
    return { held: given.slice(0, kept), looked: given.slice(kept, kept + looked), prompts }
  const needed = 1 + (watched ? 1 : 0) + LEAST_TRAINED
  throw new LibraError(
    'too_little_data',
    `prompts_file: ${given.length} different prompts are too few: one is held out for the evaluation${watched ? ', one is for the guard' : ''}, one teaches and one calibrates the reward models; give at least ${needed}`,
    { details: { field: 'prompts_file', needed } },
  )
}
