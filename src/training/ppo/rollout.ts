import { generate } from '../../model/generate.ts'
import { packRows } from '../../model/batch.ts'
import type { Pack } from '../../model/batch.ts'
import { scalarHead, tokenLogprobs } from '../../model/heads.ts'
import { hiddenStates } from '../../model/llama.ts'
import type { Llama } from '../../model/llama.ts'
import { dispose } from '../../tensor/backend.ts'
import { read } from '../../tensor/ops.ts'
import type { PromptClass } from '../../schemas/feedback.ts'

export const VALUE_HEAD = 'value.weight'

/** One sampled answer: the response's tokens with their log-probabilities under policy and reference, and values. */
export type Rollout = {
  prompt: number
  promptIds: readonly number[]
  promptClass: PromptClass | null
  responseIds: number[]
  /** whether the response ended by itself */
  ended: boolean
  text: string
  /** each [R] */
  logprobs: Float64Array
  referenceLogprobs: Float64Array
  values: Float64Array
  entropy: number
}

export type Asked = {
  prompt: number
  promptIds: readonly number[]
  promptClass: PromptClass | null
}

export type RolloutOptions = {
  maxTokens: number
  temperature: number
  stopId: number
  microTokens: number
  key: readonly number[]
  decode: (ids: number[]) => string
}

/** One response per entry, not yet measured. `key` names the round; each row's randomness comes from (key, row). */
export async function sample(
  model: Llama,
  asked: readonly Asked[],
  options: RolloutOptions,
): Promise<Rollout[]> {
  const samples = await generate(
    model,
    asked.map(({ promptIds }) => promptIds),
    { maxTokens: options.maxTokens, temperature: options.temperature, topP: 1, topK: 0 },
    { key: (row) => [...options.key, row], stopIds: new Set([options.stopId]) },
  )
  return samples.map(({ ids, finish }, i): Rollout => ({
    ...(asked[i] ?? { prompt: -1, promptIds: [], promptClass: null }),
    responseIds: ids,
    ended: finish === 'stop',
    text: options.decode(ids),
    logprobs: new Float64Array(ids.length),
    referenceLogprobs: new Float64Array(ids.length),
    values: new Float64Array(ids.length),
    entropy: 0,
  }))
}

/**
 * Measures samples under policy, reference and, where there is a value head, critic: fills in what `sample` left.
 */
export function measure(
  rollouts: readonly Rollout[],
  policy: Llama,
  reference: Llama,
  options: Pick<RolloutOptions, 'temperature' | 'microTokens'>,
): void {
  const sequences = rollouts.map(({ promptIds, responseIds }) => [...promptIds, ...responseIds])
  for (const pass of packRows(sequences, options.microTokens, { shared: true })) {
    const index = responseIndex(rollouts, pass)
    for (const model of [policy, reference]) {
      const own = model === policy
      const hidden = hiddenStates(model, pass)
      const head = tokenLogprobs(model, hidden, index.positions, index.targets, {
        temperature: options.temperature,
        entropy: own,
      })
      const values =
        own && policy.weights.has(VALUE_HEAD)
          ? scalarHead(model, VALUE_HEAD, hidden, index.positions)
          : null
      const logprobs = read(head.logprobs)
      const valueData = values === null ? null : read(values)
      const entropy = head.entropy === null ? null : read(head.entropy)
      let at = 0
      for (const row of pass.rows) {
        const rollout = rollouts[row]
        if (rollout === undefined) continue
        for (let t = 0; t < rollout.responseIds.length; t++, at++) {
          ;(own ? rollout.logprobs : rollout.referenceLogprobs)[t] = logprobs[at] ?? 0
          if (valueData) rollout.values[t] = valueData[at] ?? 0
          if (entropy) rollout.entropy += (entropy[at] ?? 0) / rollout.responseIds.length
        }
      }
      dispose([hidden, head, values])
    }
  }
}

/** Where each response token of a pass is predicted in its hidden states, and what it is. */
export function responseIndex(
  rows: readonly { promptIds: readonly number[]; responseIds: readonly number[] }[],
  pass: Pack,
): { positions: Int32Array; targets: Int32Array } {
  const positions: number[] = []
  const targets: number[] = []
  pass.rows.forEach((source, i) => {
    const row = rows[source]
    row?.responseIds.forEach((id, t) => {
      positions.push(pass.at(i, row.promptIds.length - 1 + t))
      targets.push(id)
    })
  })
  return { positions: Int32Array.from(positions), targets: Int32Array.from(targets) }
}
