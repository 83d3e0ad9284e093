import { tf } from '../tensor/backend.ts'
import type { Tensor } from '../tensor/backend.ts'
import { read } from '../tensor/ops.ts'
import type { Llama, LoraPair } from '../model/llama.ts'
import type { Array32 } from '../weights/safetensors.ts'
import type { Parameters } from './optimizer.ts'

/** The weights of an adapter (by `module.lora_A.weight`, `module.lora_B.weight`) and of named heads. */
export function adapterParameters(
  model: Llama,
  adapter: Map<string, LoraPair>,
  heads: readonly string[],
): Parameters {
  const slots = new Map<string, { get(): Tensor; set(t: Tensor): void }>()
  for (const [module, pair] of adapter) {
    slots.set(`${module}.lora_A.weight`, { get: () => pair.a, set: (t) => (pair.a = t) })
    slots.set(`${module}.lora_B.weight`, { get: () => pair.b, set: (t) => (pair.b = t) })
  }
  for (const name of heads) slots.set(name, weightSlot(model, name))
  return fromSlots(slots)
}

/** All weights of a model. */
export function allParameters(model: Llama): Parameters {
  return fromSlots(
    new Map([...model.weights.keys()].map((name) => [name, weightSlot(model, name)])),
  )
}

function weightSlot(model: Llama, name: string): { get(): Tensor; set(t: Tensor): void } {
  const weights = model.weights as Map<string, Tensor>
  return {
    get: () => {
      const value = weights.get(name)
      if (value === undefined) throw new Error(`weight ${name} is not loaded`)
      return value
    },
    set: (t) => void weights.set(name, t),
  }
}

function fromSlots(
  slots: ReadonlyMap<string, { get(): Tensor; set(t: Tensor): void }>,
): Parameters {
  const slot = (name: string): { get(): Tensor; set(t: Tensor): void } => {
    const found = slots.get(name)
    if (found === undefined) throw new Error(`no parameter ${name}`)
    return found
  }
  return {
    // by name, not as a model was made or a file laid out: the gradients' norm is a sum of floats in this order, and a
    // run that goes on from a checkpoint has to add as the run before it did
    names: [...slots.keys()].sort(),
    get: (name) => slot(name).get(),
    set(name, value) {
      const { get, set } = slot(name)
      const before = get()
      set(tf.keep(value))
      before.dispose()
    },
  }
}

/** Reads a tensor back for a checkpoint. */
export const toArray = (t: Tensor): Array32 => ({ shape: t.shape, data: read(t).slice() })
