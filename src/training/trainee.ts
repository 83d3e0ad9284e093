import { LibraError } from '../errors.ts'
import { tf } from '../tensor/backend.ts'
import { floats } from '../tensor/ops.ts'
import { normal } from '../random.ts'
import type { Llama, LoraPair } from '../model/llama.ts'
import {
  disposeBase,
  disposePairs,
  loadAdapter,
  loadBase,
  mergeAdapter,
  newAdapter,
  stackAdapters,
} from '../model/resident.ts'
import type { ModelCard } from '../schemas/model.ts'
import type { LoraOptions } from '../schemas/training.ts'
import { commitFolder } from '../weights/atomic.ts'
import { writeAdapter } from '../weights/folder.ts'
import { adapterParameters, toArray } from './parameters.ts'
import type { Parameters } from './optimizer.ts'

/** A frozen trunk (base and lower adapters, merged) under a new adapter that trains, with its scalar heads. */
export type Trainee = {
  model: Llama
  /** the same trunk with the new adapter off: PPO's reference policy, at no extra memory */
  reference: Llama
  adapter: Map<string, LoraPair>
  heads: readonly string[]
  parameters: Parameters
  dispose(): void
}

/** Base ⊕ frozen adapters merged once; heads named in `heads` start at zero ('value.weight') or small. */
export async function loadTrainee(
  files: { base: string; adapters: readonly string[] },
  lora: LoraOptions | null,
  heads: readonly string[],
  seed: number,
  resume: string | null = null,
): Promise<Trainee> {
  if (lora === null)
    throw new LibraError(
      'unsupported_option',
      'lora: null (training all weights) is supported for pretrain only',
    )
  const base = await loadBase(files.base)
  const frozen = []
  for (const folder of files.adapters) frozen.push(await loadAdapter(base, folder))
  const stack = stackAdapters(frozen.map(({ pairs }) => pairs))
  const trunk = mergeAdapter(base, stack)
  disposePairs(stack)
  for (const { pairs, heads: extra } of frozen) {
    disposePairs(pairs)
    tf.dispose([...extra.values()])
  }
  const resumed = resume === null ? null : await loadAdapter(base, resume)
  const adapter =
    resumed?.pairs ?? newAdapter(trunk, lora.target_modules, lora.rank, lora.alpha, seed)
  const weights = new Map(trunk.weights)
  heads.forEach((name, i) => {
    const D = trunk.config.hiddenSize
    const start =
      name === 'value.weight'
        ? new Float32Array(D)
        : Float32Array.from({ length: D }, (_, j) => 0.02 * normal(seed, 77, i, j))
    weights.set(name, resumed?.heads.get(name) ?? tf.keep(floats(start, [1, D])))
  })
  const model: Llama = { ...trunk, weights, adapter }
  return {
    model,
    reference: { ...trunk, adapter: null },
    adapter,
    heads,
    parameters: adapterParameters(model, adapter, heads),
    dispose() {
      disposePairs(adapter)
      for (const name of heads) weights.get(name)?.dispose()
      tf.dispose(trunk.owned)
      disposeBase(base)
    },
  }
}

export async function saveAdapter(
  trainee: Trainee,
  output: string,
  lora: LoraOptions | null,
  card: ModelCard,
  base: string,
  extra?: (folder: string) => Promise<void>,
): Promise<void> {
  const options = lora ?? { rank: 1, alpha: 1, target_modules: [] }
  const pairs = new Map(
    [...trainee.adapter].map(([module, { a, b }]) => [module, { a: toArray(a), b: toArray(b) }]),
  )
  const heads = new Map(trainee.heads.map((name) => [name, toArray(trainee.parameters.get(name))]))
  await commitFolder(output, async (folder) => {
    await writeAdapter(folder, {
      rank: options.rank,
      alpha: options.alpha,
      targets: options.target_modules,
      pairs,
      heads,
      card,
      base,
    })
    await extra?.(folder)
  })
}
