import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { onePack } from '../helpers/one-pack.ts'
import { generate } from '../../src/model/generate.ts'
import { logits, scalarHead, scalarHeadBackward } from '../../src/model/heads.ts'
import { backward, disposeTape, forward, hiddenStates } from '../../src/model/llama.ts'
import type { Gradients } from '../../src/model/llama.ts'
import { accumulate, disposeGradients } from '../../src/model/heads.ts'
import { disposeBase, loadBase } from '../../src/model/resident.ts'
import { cachedMasks } from '../../src/model/masks.ts'
import type { Tensor } from '../../src/tensor/backend.ts'
import { cachedConstants, dispose, tf } from '../../src/tensor/backend.ts'
import { read } from '../../src/tensor/ops.ts'
import { tokenLoss } from '../../src/training/tokens.ts'

// Expected numbers are transformers': fixtures/parity/architectures/make.py
type Measured = {
  logits?: number[][]
  greedy?: number[][]
  scores?: number[]
  loss?: number
  /** by weight name: sum, L2 norm, four entries */
  gradients: Record<string, number[]>
}
const folder = (name: string): string =>
  fileURLToPath(new URL(`../../fixtures/parity/architectures/${name}`, import.meta.url))
const { prompts, checkpoints } = JSON.parse(readFileSync(folder('expected.json'), 'utf8')) as {
  prompts: number[][]
  checkpoints: Record<string, Measured>
}
const live = (): number => tf.memory().numTensors - cachedConstants() - cachedMasks()

function near(actual: ArrayLike<number>, wanted: readonly number[], tolerance: number): void {
  expect(actual.length).toBe(wanted.length)
  wanted.forEach((value, i) =>
    expect(Math.abs((actual[i] ?? NaN) - value), `at ${i}`).toBeLessThanOrEqual(tolerance),
  )
}

function checkGradients(gradients: Gradients, wanted: Measured['gradients']): void {
  expect([...gradients.keys()].sort()).toEqual(Object.keys(wanted).sort())
  for (const [name, [sum = NaN, norm = NaN, ...entries]] of Object.entries(wanted)) {
    const g = Array.from(read(gradients.get(name) as Tensor))
    const size = Math.max(norm, 1e-3)
    const at = entries.map((_, i) => g[Math.floor((i * (g.length - 1)) / 3)] ?? NaN)
    const length = Math.hypot(...g)
    for (const [have, want] of [
      [g.reduce((a, b) => a + b, 0), sum],
      [length, norm],
      ...at.map((x, i) => [x, entries[i] ?? NaN]),
    ] as [number, number][])
      expect(Math.abs(have - want) / size, name).toBeLessThan(2e-4)
  }
}

const named = Object.entries(checkpoints)
const rows = prompts.map((_, i) => i)

test.each(named.filter(([, { logits }]) => logits !== undefined))(
  '%s: logits, 64 greedy tokens, gradients of every weight',
  async (
    name,
    { logits: wanted = [], greedy = [], loss: wantedLoss, gradients: wantedGradients },
  ) => {
    const before = live()
    const model = await loadBase(folder(name))
    const pack = onePack(prompts)
    const hidden = hiddenStates(model, pack, { last: true })
    const z = logits(model, hidden, pack.ends)
    near(
      read(z),
      pack.rows.flatMap((row) => wanted[row] ?? []),
      1e-4,
    )
    dispose([hidden, z])

    const sampling = { maxTokens: 64, temperature: 0, topP: 1, topK: 0 }
    const hooks = { key: (row: number) => [row], stopIds: new Set<number>() }
    const together = await generate(model, prompts, sampling, hooks)
    expect(together.map(({ ids }) => ids)).toEqual(greedy)
    const [alone] = await generate(model, prompts.slice(1, 2), sampling, hooks)
    expect(alone?.ids).toEqual(greedy[1])

    const sequences = prompts.map((ids) => ({ ids, counts: ids.map(() => 1) }))
    const { loss, gradients } = tokenLoss(model, sequences, rows, 'all', 8192)
    expect(Math.abs(loss - (wantedLoss ?? NaN))).toBeLessThan(1e-5)
    checkGradients(gradients, wantedGradients)
    disposeGradients(gradients)
    disposeBase(model)
    expect(live()).toBe(before)
  },
)

test.each(named.filter(([, { scores }]) => scores !== undefined))(
  '%s: scores of a sequence classifier, and gradients of every weight',
  async (name, { scores: wanted = [], gradients: wantedGradients }) => {
    const model = await loadBase(folder(name))
    const pack = onePack(prompts)
    const tape = forward(model, pack, { last: true })
    const head = scalarHead(model, 'score.weight', tape.hidden, pack.ends)
    const scores = read(head).slice()
    near(
      scores,
      pack.rows.map((row) => wanted[row] ?? NaN),
      1e-4,
    )
    // L = Σ score²
    const gradients: Gradients = new Map()
    const dHidden = scalarHeadBackward(
      ...([model, 'score.weight', tape.hidden, pack.ends] as const),
      ...([scores.map((r) => 2 * r), gradients] as const),
    )
    accumulate(gradients, backward(model, tape, dHidden, 'all'))
    checkGradients(gradients, wantedGradients)
    disposeGradients(gradients)
    disposeTape(tape)
    dispose([head, dHidden])
    disposeBase(model)
  },
)
