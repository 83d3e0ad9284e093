import { LibraError } from '../errors.ts'
import type { PpoOptions } from './training.ts'

/** What a method can't use would be written down and not be true. Throws `conflicting_options` naming the field. */
export function checkPolicyOptions(options: PpoOptions): void {
  const { method, samples_per_prompt: samples } = options
  const refuse = (field: string, why: string): never => {
    throw new LibraError('conflicting_options', `${field}: ${why}`, { details: { field } })
  }
  if (method === 'ppo') return
  if (samples < 2)
    refuse(
      'samples_per_prompt',
      `${method} holds the answers to a prompt against each other; give 2 or more, not ${samples}`,
    )
  if (method === 'rloo') return
  const unused: Partial<Record<keyof PpoOptions, boolean>> = {
    kl_in: options.kl_in === 'loss',
    target_kl: options.target_kl != null,
    entropy_coef: options.entropy_coef > 0,
    kl_target: method === 'rejection_sampling' && options.kl_target != null,
  }
  for (const [field, given] of Object.entries(unused))
    if (given) refuse(field, `${method} has no use for it`)
  if (method === 'dpo') return
  if (['batch', 'running'].includes(options.reward_normalization))
    refuse(
      'reward_normalization',
      'rejection_sampling compares rewards of different rounds; give reference or none',
    )
  if (options.safety_limit != null && options.combiner === 'lagrangian')
    refuse(
      'safety_limit',
      'rejection_sampling compares rewards of different rounds, which a moving λ forbids',
    )
}
