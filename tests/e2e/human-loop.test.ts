import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, expect, test } from 'vitest'
import { cancelled } from '../../src/errors.ts'
import { spawnEngine } from '../../src/engine/process/spawn.ts'
import { runHumanLoop } from '../../src/services/human-loop.ts'
import { PROBES } from '../../src/schemas/checks.ts'
import { heldOutFigures, heldOutRivals } from '../../src/services/cross-validation.ts'
import { HUMAN_LOOP, pairsOf } from '../../src/services/human-models.ts'
import { ensembleOf, heldOutOf, studyHumanPairs } from '../../src/services/human-study.ts'
import type { LoopProgress } from '../../src/services/loop-evaluation.ts'
import { goOn, recordRun } from '../../src/services/runs.ts'
import type { RunContext } from '../../src/services/runs.ts'
import { createServices } from '../../src/services/services.ts'
import { sampleAnswer } from '../../src/starter/answers.ts'
import { prompts } from '../../src/starter/world.ts'
import { openStore } from '../../src/store/store.ts'
import { readHumanData } from '../../src/text/data-folder.ts'

const folder = mkdtempSync(join(tmpdir(), 'libra-human-'))
afterAll(() => rmSync(folder, { recursive: true }))

const jsonl = (rows: readonly unknown[]): string => rows.map((r) => JSON.stringify(r)).join('\n')
const pairs = (domain: string, tranche: string, n: number, seed: number) =>
  prompts('train', seed, n).map(({ messages, ...prompt }, i) => {
    const answer = (k: number) => sampleAnswer({ messages, ...prompt }, 'wide', seed, k, i).text
    return { id: `${i}`, domain, tranche, messages, chosen: answer(1), rejected: answer(2) }
  })

const data = join(folder, 'data')
mkdirSync(join(data, 'hh-rlhf'), { recursive: true })
mkdirSync(join(data, 'pretrain'))
const write = (name: string, rows: readonly unknown[]): void =>
  writeFileSync(join(data, name), gzipSync(jsonl(rows)))
write('hh-rlhf/a.train.jsonl.gz', pairs('helpful', 'a', 60, 1))
write('hh-rlhf/a.dev.jsonl.gz', pairs('helpful', 'a', 20, 2))
write('hh-rlhf/b.train.jsonl.gz', pairs('harmless', 'b', 60, 3))
write('hh-rlhf/b.dev.jsonl.gz', pairs('harmless', 'b', 20, 4))
write('pretrain/text.jsonl.gz', [{ text: 'The sky is blue. Grass is green. '.repeat(200) }])

const store = await openStore(join(folder, 'store'))
const serving = await spawnEngine()
const startTraining = () => spawnEngine({ training: true })
const services = await createServices({ store, serving, startTraining, dataDir: folder })
const sizes = {
  ...HUMAN_LOOP,
  ...{ vocabulary: 400, tokenizerCharacters: 4000, pretrainCharacters: 4000 },
  architecture: {
    ...{ hidden_size: 16, layers: 1, heads: 2, kv_heads: 1, intermediate_size: 32 },
    context: 256,
  },
}
const overrides = {
  ...{ seed: 1, dialogues: 32, pairs: 8, evaluation_prompts: 8 },
  ppo: { rounds: 1, prompts_per_round: 8, mini_batch_size: 8, max_new_tokens: 8 },
}
const start = { kind: 'rlaif' as const, config: {}, seed: 1 }
afterAll(async () => {
  await serving.close()
  await store.close()
})

test('the loop on a folder of human pairs, small, from a base of its own to cross-validation', async () => {
  const result = await recordRun(store, start, async (context) =>
    runHumanLoop(
      ...([
        services,
        await readHumanData(data),
        { base: null, overrides, sizes, override: PROBES },
      ] as const),
      ...([context, () => {}] as const),
    ),
  )
  for (const axis of ['helpfulness', 'safety']) {
    const of = (figure: string) =>
      result.crossValidation.find((f) => f.figure === `held-out ${axis}: ${figure}`)
    // every pair of the axis is held out exactly once
    for (const figure of [
      'accuracy',
      'accuracy beside: the longer answer wins',
      'accuracy beside: hashed words',
      'accuracy beside: hashed words and length',
      'calibration error of P(better)',
    ])
      expect(of(figure)?.n, figure).toBe(80)
    const other = axis === 'safety' ? 'helpfulness' : 'safety'
    expect(of(`cross-domain accuracy: ${axis} model on ${other} pairs`)?.n).toBe(80)
  }
  const { data: runs } = await store.runs.page({ limit: 100 })
  const kinds = runs.filter(({ parent }) => parent === result.runId).map(({ kind }) => kind)
  const counts = Object.fromEntries(
    [...new Set(kinds)].map((kind) => [kind, kinds.filter((k) => k === kind).length]),
  )
  // sft twice: judge and policy; reward models: two of the loop and two in each of five folds
  expect(counts).toEqual({ pretrain: 1, sft: 2, label: 1, reward_model: 12, policy_update: 1 })
  // both reward models were probed before PPO, on answers that they had not learned from
  expect(result.checks.map(({ axis }) => axis)).toEqual(['helpfulness', 'safety'])
  for (const { probes = [], objections } of result.checks) {
    expect(probes.map(({ probe }) => probe)).toEqual([...PROBES])
    const failed = probes.filter(({ passed }) => !passed).map(({ probe }) => probe)
    expect(objections).toEqual(failed)
  }
  // and asked about the policy's own answers, of which the judge labelled too few to hold against them
  const warnings = result['warnings'] as string[]
  for (const { axis, freshness } of result.checks) {
    const n = freshness?.n ?? 0
    expect(n).toBeLessThan(8)
    expect(warnings.some((text) => text.startsWith(`${axis}: ${n} held-out labels`))).toBe(true)
    const told = result.freshness.filter(({ figure }) => figure.startsWith(axis))
    expect(told.map((figure) => figure.n)).toEqual(n === 0 ? [] : [n])
  }
  // the study: folds and seeds from the base that the loop has left, going on from what is there
  const study = {
    ...{ base: join(folder, 'runs', result.runId, 'base'), seeds: 2, part: 1, parts: 1 },
    reward: { batch_size: 16, lora: null },
    sft: { epochs: 1, batch_size: 16 },
    file: join(folder, 'study', 'held.jsonl'),
  }
  const human = await readHumanData(data)
  const told: string[] = []
  await studyHumanPairs(serving, human, study, (text) => told.push(text))
  expect(told).toHaveLength(5 * (1 + 2 * 2)) // in each fold an SFT, then two axes of two seeds
  await studyHumanPairs(serving, human, study, (text) => told.push(text))
  expect(told).toHaveLength(25) // nothing is trained twice
  const seeds = await heldOutOf(serving, human, study)
  expect(seeds.map(({ seed }) => seed)).toEqual([1, 2])
  const [one, two] = seeds.map(({ heldOut }) => heldOut)
  if (one === undefined || two === undefined) throw new Error('a seed is missing')
  for (const { pair, chosen, rejected } of one.safety)
    expect(Number.isFinite(chosen - rejected), JSON.stringify(pair)).toBe(true)
  expect(one.safety).toHaveLength(160) // both axes' pairs, each once
  expect(two.safety.map(({ chosen }) => chosen)).not.toEqual(one.safety.map(({ chosen }) => chosen))
  const rivals = await heldOutRivals('safety', pairsOf(human))
  const figures = heldOutFigures('safety', ensembleOf([one, two]).safety, rivals, 1)
  expect(figures.find(({ figure }) => figure === 'accuracy')?.n).toBe(80)
}, 180_000)

test('a loop that is ended goes on, does no part twice, and says what one that was left alone says', async () => {
  const human = await readHumanData(data)
  const input = { base: null, overrides, sizes: { ...sizes, crossValidation: false } }
  const loop = (progress: LoopProgress) => (context: RunContext) =>
    runHumanLoop(services, human, { ...input, override: PROBES }, context, progress)
  const whole = await recordRun(
    store,
    start,
    loop(() => {}),
  )
  const parts = async (id: string) =>
    (await store.partsOf(id)).map(({ part, state }) => `${part ?? ''} ${state}`)
  const all = await parts(whole.runId)
  expect(all.slice(0, 2)).toEqual(['base succeeded', 'judge succeeded'])
  const controller = new AbortController()
  const end = (stage: string): void => {
    if (stage === 'reward safety') controller.abort(cancelled())
  }
  const ended = recordRun(store, start, loop(end), controller.signal)
  await expect(ended).rejects.toMatchObject({ code: 'cancelled' })
  const [left] = (await store.pageRuns({ limit: 1 }, { kinds: ['rlaif'] })).data
  expect(left?.state).toBe('cancelled')
  const { id = '' } = left ?? {}
  expect((await parts(id)).length).toBeLessThan(all.length)
  const { signal } = new AbortController()
  const again = await goOn(
    store,
    id,
    loop(() => {}),
    signal,
  )
  expect(await parts(id)).toEqual(all)
  for (const what of ['judge', 'policy', 'rounds'] as const)
    expect(timeless(again[what])).toEqual(timeless(whole[what]))
}, 300_000)
/** Without what the clock says. */
const timeless = (rows: readonly object[]) =>
  rows.map((row) => Object.entries(row).filter(([name]) => !/^(time|memory|speed)/.test(name)))

test('a folder that is not such a folder, and a row that is no pair, are named', async () => {
  await expect(readHumanData(join(folder, 'none'))).rejects.toMatchObject({ code: 'not_found' })
  const bad = join(folder, 'bad', 'hh-rlhf')
  mkdirSync(bad, { recursive: true })
  writeFileSync(join(bad, 'x.train.jsonl'), jsonl([{ domain: 'helpful' }]))
  await expect(readHumanData(join(folder, 'bad'))).rejects.toThrow(/x\.train\.jsonl, line 1/)
})

test('what the policy’s method cannot use, or a mix cannot find, is told before a base is trained', async () => {
  for (const [more, code, field] of [
    [
      { ppo: { ...overrides.ppo, method: 'rloo' } },
      ...(['conflicting_options', 'ppo.samples_per_prompt'] as const),
    ],
    // b is a tranche of the other axis
    [
      { mix: { helpfulness: { a: 1, 'judge on human pairs': 1, b: 1 } } },
      ...(['empty_data', 'mix.helpfulness'] as const),
    ],
  ] as const) {
    let run = ''
    const begun = recordRun(store, start, async (context) => {
      run = context.id
      const input = { base: null, overrides: { ...overrides, ...more }, sizes }
      return runHumanLoop(services, await readHumanData(data), input, context, () => {})
    })
    await expect(begun).rejects.toMatchObject({ code, details: { field } })
    expect(await store.partsOf(run)).toEqual([])
  }
}, 60_000)
