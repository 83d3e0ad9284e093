import type { ModelFiles } from '../engine/engine.ts'

const startsFrom = (model: ModelFiles, start: ModelFiles): boolean =>
  model.base === start.base && start.adapters.every((folder, i) => model.adapters[i] === folder)
const named = ({ base, adapters }: ModelFiles): string => adapters.at(-1) ?? base

/**
 * What to tell of models that do not start from the policy's SFT model. They are allowed: but among reward models with
 * better scores on a benchmark those of another start gave the worse policies.
 */
export function otherStarts(
  models: Readonly<Record<string, ModelFiles>>,
  sft: ModelFiles,
): string[] {
  return Object.entries(models)
    .filter(([, model]) => !startsFrom(model, sft))
    .map(
      ([what, model]) =>
        `the ${what} model starts from ${named(model)}, not from the policy's SFT model ${named(sft)}: in RewardBench 2 (Malik et al. 2025) reward models of another line scored 72.9 and gave a policy of 54.5, those of the policy's own line 49.8 and 60.2`,
    )
}
