import { expect, test } from 'vitest'
import type { Engine, GenerateRequest } from '../../src/engine/engine.ts'
import type { Judge } from '../../src/judging/judge.ts'
import { guardedUpdate, startWatch } from '../../src/rlaif/guarded.ts'
import type { GuardReport, Watch } from '../../src/rlaif/guarded.ts'
import { GuardOptions } from '../../src/schemas/rlaif.ts'

const sft = { base: 'sft', adapters: [] }
const only = <T extends object>(given: Partial<T>): T =>
  new Proxy({} as T, {
    get: (_, name) => {
      if (name in given) return given[name as keyof T]
      throw new Error(`nobody should ask for ${String(name)}`)
    },
  })

/**
 * Iterations of some rounds each, by a judge that says the same of all pairs: what was asked under each note. `each`:
 * the prompts of a look, by iteration.
 */
async function watched(
  iterations: readonly number[],
  prompts: number,
  probability = 0.5,
  each: readonly number[] = [],
): Promise<{ asked: Map<string, string[]>; guards: GuardReport[] }> {
  const guards: GuardReport[] = []
  const asked = new Map<string, string[]>()
  let note = ''
  const serving = only<Engine>({
    generate({ model, prompts: given }: GenerateRequest) {
      const texts = given.map((messages) => messages[0]?.content ?? '')
      asked.set(note, [...new Set([...(asked.get(note) ?? []), ...texts])])
      const text = `${model.base} has an answer to this one`
      const one = { tokenIds: [], tokens: [], logprobs: [], promptTokens: 1 }
      return Promise.resolve(given.map(() => [{ ...one, text, finish: 'stop' as const }]))
    },
    // a policy of some rounds finds its own answers likelier than the SFT policy does
    likelihoods: ({ model, texts }) =>
      Promise.resolve(texts.map(() => ({ logprob: model.base === 'sft' ? -7 : -4, tokens: 1 }))),
  })
  const judge = only<Judge>({
    compare: (pairs) =>
      Promise.resolve(
        pairs.map(() => ({
          ...{ ok: true, probability, orders: [probability, probability], consistent: true },
          ...{ strength: 'negligibly_better', soft: true, cached: false },
        })),
      ),
  })
  let watch: Watch = startWatch()
  let before = 0
  for (const [i, rounds] of iterations.entries()) {
    const updated = await guardedUpdate(sft, sft, watch, {
      ...{ serving, rounds, before, progress: () => {}, tell: () => Promise.resolve() },
      options: GuardOptions.parse({ every: 10, prompts: each[i] ?? 64 }),
      audit: {
        judge,
        prompts: Array.from({ length: prompts }, (_, i) => ({
          messages: [{ role: 'user' as const, content: `${i}` }],
        })),
      },
      sampling: { maxNewTokens: 8, seed: 1 },
      signal: new AbortController().signal,
      note: (name, work) => {
        note = name
        return work()
      },
      update: (_from, done) =>
        Promise.resolve({
          policy: { base: `round ${before + done}`, adapters: [] },
          metrics: Array.from({ length: Math.min(10, rounds - done) }, () => ({
            'objective/kl': 1,
          })),
        }),
    })
    watch = updated.watch
    guards.push(updated.guard)
    before += rounds
  }
  return { asked, guards }
}
const askedBy = async (iterations: readonly number[], prompts: number) =>
  (await watched(iterations, prompts)).asked
const shared = (lists: readonly (readonly string[])[]): string[] =>
  lists.flat().filter((text, i, all) => all.indexOf(text) !== i)

test('a vote at the end of the main job asks what no look has asked', async () => {
  const asked = await askedBy([60], 808)
  const of = (kind: string) =>
    [...asked].flatMap(([name, texts]) => (name.startsWith(kind) ? [texts] : []))
  const [looks, votes] = [of('look'), of('ballot')]
  expect(looks.map(({ length }) => length)).toEqual(new Array(7).fill(64))
  expect(shared(looks)).toEqual([])
  // all candidates are asked the same
  const ballot = [...new Set(votes.flat())]
  expect(ballot).toHaveLength(256)
  expect(shared([...looks, ballot])).toEqual([])
})

test('no prompt comes twice where iterations end between two looks', async () => {
  const asked = await askedBy([15, 5, 15], 1200)
  const looks = ['look-0', 'look-10', 'look-15', 'look-20', 'look-30', 'look-35']
  expect([...asked.keys()].filter((name) => name.startsWith('look'))).toEqual(looks)
  // the candidates of one vote share its prompts
  const votes = [15, 20, 35].map((round) => [
    ...new Set(
      [...asked].flatMap(([name, texts]) => (name.startsWith(`ballot-${round}-`) ? texts : [])),
    ),
  ])
  expect(votes.map(({ length }) => length)).toEqual([256, 256, 256])
  expect(shared([...looks.map((name) => asked.get(name) ?? []), ...votes])).toEqual([])
})

test('no prompt comes twice where an iteration changes how many a look asks', async () => {
  const { asked } = await watched([20, 20], 1200, 0.5, [64, 32])
  const looks = ['look-0', 'look-10', 'look-20', 'look-30', 'look-40'].map(
    (n) => asked.get(n) ?? [],
  )
  expect(looks.map(({ length }) => length)).toEqual([64, 64, 64, 32, 32])
  const votes = [20, 40].map((round) => [
    ...new Set(
      [...asked].flatMap(([name, texts]) => (name.startsWith(`ballot-${round}-`) ? texts : [])),
    ),
  ])
  expect(votes.map(({ length }) => length)).toEqual([256, 128])
  expect(shared([...looks, ...votes])).toEqual([])
})

test('the KL of a look is of its own answers, not of those before the last update', async () => {
  const { guards } = await watched([10], 808)
  expect(guards[0]?.decisions.map(({ signals }) => signals.kl)).toEqual([3])
})

test.each([
  [0.401, 0.5],
  [0.599, 0.5],
  [0.601, 1],
  [0.399, 0],
])('a verdict of %f counts %f: negligibly better is a tie', async (probability, outcome) => {
  const { guards } = await watched([10], 808, probability)
  const [{ decisions = [] } = {}] = guards
  expect(decisions.map(({ winRate }) => winRate)).toEqual([
    { helpfulness: outcome, safety: outcome },
  ])
})
