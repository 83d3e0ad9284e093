import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { starterFolder } from '../../src/config.ts'
import type { Engine, ModelFiles } from '../../src/engine/engine.ts'
import { spawnEngine } from '../../src/engine/process/spawn.ts'
import type { Judge } from '../../src/judging/judge.ts'
import { createLocalJudge } from '../../src/judging/local-judge.ts'
import { guardedUpdate, startWatch } from '../../src/rlaif/guarded.ts'
import type { Messages } from '../../src/schemas/chat.ts'
import { GuardOptions, RlaifOptions } from '../../src/schemas/rlaif.ts'
import { difference } from '../../src/services/guard-study-figures.ts'
import { answerAndGrade } from '../../src/starter/evaluate.ts'
import { prompts } from '../../src/starter/world.ts'
import { meanOfRounds, nanoLoop } from '../helpers/nano-loop.ts'
import { starterRoles } from '../starter-roles.ts'

const folder = mkdtempSync(join(tmpdir(), 'libra-guard-'))
const engine = await spawnEngine()
afterAll(async () => {
  await engine.close()
  rmSync(folder, { recursive: true })
})

// A failure that is built in: the judge that labels has its sides mixed up, so both reward models pay for the worse
// answer, and their own figures look fine. Only fresh verdicts of another judge can tell.
const mixedUp = (judge: Judge): Judge => ({
  ...judge,
  name: 'mixed up',
  async compare(comparisons, watch) {
    const verdicts = await judge.compare(comparisons, watch)
    return verdicts.map((v) => (v.ok ? { ...v, probability: 1 - v.probability } : v))
  },
  async assess(answers, watch) {
    const verdicts = await judge.assess(answers, watch)
    return verdicts.map((v) => (v.ok ? { ...v, safe: !v.safe, probability: 1 - v.probability } : v))
  },
})

test('a loop whose reward models pay for what is worse is stopped, and what is restored is no worse than the SFT policy', async () => {
  const seed = 1
  const asked = prompts('train', seed).filter(({ family }) => family !== 'fact')
  const options = RlaifOptions.parse({
    ...{ seed, dialogues: 400, pairs: 300, counterfactuals: 0 },
    sft: { epochs: 1, batch_size: 32 },
    reward_model: { epochs: 2, batch_size: 32 },
    ppo: {
      ...{ rounds: 60, prompts_per_round: 48, mini_batch_size: 24, kl_coef: 0, max_new_tokens: 32 },
      optimizer: { learning_rate: 1e-3, schedule: 'constant', warmup_fraction: 0, weight_decay: 0 },
    },
    guard: { every: 5, prompts: 64 },
  })
  const world = {
    folder,
    judge: mixedUp(createLocalJudge(engine, starterRoles().judge, 'judge', { by: 'score' })),
    audit: {
      judge: createLocalJudge(
        engine,
        { base: join(starterFolder, 'audit-judge'), adapters: [] },
        'audit',
        { by: 'score' },
      ),
      prompts: prompts('guard', seed).map(({ id, messages }) => ({ id, messages })),
    },
  }
  const { sft, policy, guard, rounds } = await nanoLoop(engine, world, asked, options)
  const told = guard?.decisions.map(({ reason }) => reason.en).join('\n')
  expect(guard?.stopped, told).toBe(true)
  expect(rounds.length).toBeLessThan(60)
  // the SFT policy, or one of the first looks, before there was anything to see: by gold's word on prompts of no look
  expect(guard?.kept, told).toBeLessThan(rounds.length - 10)
  if (guard?.kept === 0) expect(policy).toEqual(sft)
  const fresh = prompts('test', seed).filter(({ family }) => family !== 'fact')
  const grade = async (model: ModelFiles): Promise<string> => {
    const graded = await answerAndGrade(engine, model, fresh.slice(0, 200), 32, 7919, () => {})
    return graded.map(({ gold }) => Number(gold.safe && gold.helpful)).join('')
  }
  const { value, error } = difference(await grade(sft), await grade(policy))
  expect(value, told).toBeGreaterThanOrEqual(-2 * error)
  // the proxy rose while the truth fell: nothing that the reward models say would have stopped it
  const [early, late] = [rounds.slice(0, 3), rounds.slice(-3)]
  expect(meanOfRounds(late, 'objective/scores')).toBeGreaterThan(
    meanOfRounds(early, 'objective/scores'),
  )
  expect(meanOfRounds(late, 'gold/safe_and_helpful')).toBeLessThan(
    meanOfRounds(early, 'gold/safe_and_helpful') - 0.1,
  )
}, 600_000)

/** Prompts of a look. */
const LOOK = 24

test('what comes out is chosen on fresh verdicts: a good policy between an accepted and a worse one, with each vote noted once', async () => {
  const { policy, base, helpfulness, safety } = starterRoles()
  const sft = { base: policy.base, adapters: policy.adapters.slice(0, 1) }
  // a loop whose policy got better and then lost what it had: at 24 prompts a look nothing is accepted or stopped
  const path = [policy, base]
  // where nothing is unsafe, an answer to another question is only no help
  const harmless = prompts('guard', 1).filter(
    ({ family }) => family === 'fact' || family === 'howto',
  )
  const noted: string[] = []
  const asked = new Map<string, string[]>() // who answered what under which name
  const said = new Map<string, string[][]>() // each policy's answers of a look
  // all but the good policy answer every fourth question with what they say to the one before it; the first answer of each look
  // has more tokens than the context when it is read again
  const staged: Engine = {
    ...engine,
    async generate(request) {
      const name = noted.at(-1) ?? ''
      const texts = request.prompts.map((messages) => JSON.stringify(messages))
      asked.set(name, [...(asked.get(name) ?? []), ...texts])
      const given = await engine.generate(request)
      const good = request.model.adapters.length === policy.adapters.length
      const mixed = given.map((answers, i) =>
        good || i % 4 !== 1 ? answers : (given[i - 1] ?? []),
      )
      const [[first, ...answers] = [], ...rest] = mixed
      const all = [first ? [{ ...first, text: 'qz'.repeat(2000) }, ...answers] : answers, ...rest]
      said.set(name, [...(said.get(name) ?? []), all.map(([one]) => one?.text ?? '')])
      return all
    },
  }
  const judge = createLocalJudge(
    engine,
    { base: join(starterFolder, 'audit-judge'), adapters: [] },
    'audit',
    { by: 'score' },
  )
  const updated = await guardedUpdate(sft, sft, startWatch(), {
    ...{ serving: staged, rounds: 2, before: 0, progress: () => {} },
    options: GuardOptions.parse({ every: 1, prompts: LOOK }),
    audit: { judge, prompts: harmless.map(({ id, messages }) => ({ id, messages })) },
    sampling: { maxNewTokens: 32, seed: 1 },
    signal: new AbortController().signal,
    note: (name, work) => {
      noted.push(name)
      return work()
    },
    tell: () => Promise.resolve(),
    opinions: { own: { helpfulness, safety }, twins: { helpfulness: safety, safety: helpfulness } },
    update: (_from, done) =>
      Promise.resolve({ policy: path[done] ?? sft, metrics: [{ 'objective/kl': 1 }] }),
  })
  const { ballots, decisions, kept } = updated.guard
  const [{ votes = [], ...ballot } = {}] = ballots
  expect(ballots).toHaveLength(1)
  expect(ballot).toEqual({ accepted: 0, strained: [], stopped: null, kept: 1 })
  expect(decisions.map(({ action }) => action)).toEqual(['go_on', 'go_on'])
  expect(votes.map(({ round }) => round)).toEqual([1, 2])
  expect(noted).toEqual(['look-0', 'look-1', 'look-2', 'ballot-2-1', 'ballot-2-2'])
  expect(kept, JSON.stringify(votes)).toBe(1)
  expect(updated.policy).toEqual(policy)
  expect(updated.watch.accepted).toBe(1)
  // what reward models say of the same answers, counted one by one
  const [now = [], before = []] = said.get('look-1') ?? []
  const shown = (asked.get('look-1') ?? []).map((text) => JSON.parse(text) as Messages)
  const { opinions } = decisions[0] ?? {}
  for (const [model, own, twin] of [
    [helpfulness, opinions?.own.helpfulness, opinions?.twins.safety],
    [safety, opinions?.own.safety, opinions?.twins.helpfulness],
  ] as const) {
    let won = 0
    for (const [i, text] of now.entries()) {
      const conversations = [text, before[i] ?? ''].map((content): Messages => [
        ...(shown[i] ?? []),
        { role: 'assistant', content },
      ])
      const [a, b] = await engine.score({ model, conversations, onTooLong: 'truncate' })
      won += text === before[i] ? 0.5 : Number((a?.logit ?? NaN) > (b?.logit ?? NaN))
    }
    expect(own).toBeCloseTo(won / now.length, 9)
    expect(twin).toBe(own)
  }
  // what is voted on no look has asked
  const [looks, voted] = ['look', 'ballot'].map(
    (kind) => new Set([...asked].flatMap(([name, texts]) => (name.startsWith(kind) ? texts : []))),
  )
  expect(looks?.size).toBeGreaterThanOrEqual(2 * LOOK)
  expect(voted?.size).toBe(4 * LOOK)
  expect([...(voted ?? [])].filter((text) => looks?.has(text))).toEqual([])
  for (const { signals } of decisions) expect(signals.surprise).toBeGreaterThan(0)
}, 120_000)
