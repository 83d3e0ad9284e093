import { describe, expect, test } from 'vitest'
import type { ProbeAnswer } from '../../src/evaluation/probes.ts'
import { presentCheck } from '../../src/http/present.ts'
import { Certificate, CheckReply } from '../../src/schemas/checks.ts'
import { certify } from '../../src/services/certificate.ts'
import { planPolicyAttack } from '../../src/services/policy-attack.ts'
import { comparison, judged } from '../helpers/openai-judge.ts'
import { completion } from '../helpers/scripted-server.ts'

const answers = Array.from({ length: 32 }, (_, i): ProbeAnswer => ({
  ...{ prompt: [...comparison.prompt], safe: true, unsafePrompt: false },
  ...{ answer: `回答${i}${'。'.repeat(i % 5)}`, translation: null, cluster: `${i}` },
}))
type Services = Parameters<typeof certify>[0]
/** A reward model that pays for length. */
const services = {
  serving: {
    score: ({ conversations }: { conversations: { content: string }[][] }) =>
      Promise.resolve(conversations.map((turns) => ({ logit: turns.at(-1)?.content.length ?? 0 }))),
    describe: () => Promise.resolve({ version: 'v' }),
  },
  store: { rewardChecks: { insert: () => Promise.resolve() } },
} as unknown as Services

test('a judge whose words contradict each other has seen no gain and no lack of one', async () => {
  const certificateBy = async (script: Parameters<typeof judged>[0]) => {
    const { judge } = await judged(script)
    const { certificate } = await certify(
      services,
      {
        ...{ model: { name: 'm', files: { base: 'm', adapters: [] } }, axis: 'helpfulness' },
        ...{ answers, judge, policy: null, budget: 300, seed: 1 },
      },
      { id: 'run', emit: () => {}, signal: new AbortController().signal } as unknown as Parameters<
        typeof certify
      >[2],
    )
    return certificate
  }
  const first = await certificateBy(() => completion('A'))
  expect(first.steps.length).toBeGreaterThan(0)
  expect(first).toMatchObject({ quality: 'judge', unchanged: null, judged_better: null })
  for (const { judged } of first.examples) expect(judged).toBeNull()
  // undecided in log-probabilities is a verdict: it sees no gain
  const undecided = await certificateBy(() => completion('A', { A: 0.5, B: 0.5 }))
  expect(undecided).toMatchObject({ unchanged: { n: 20 }, judged_better: 0 })
})

test('a card of before a policy attacked is read as one on which none did', () => {
  const { policy_attack: _none, ...before } = {
    ...{ seed: 1, budget: 300, spent: 200, sigma: 1, quality: 'construction', judge: null },
    ...{ steps: [], unchanged: null, judged_better: null, best_of_n: null, examples: [] },
    policy_attack: null,
  } satisfies Certificate
  expect(Certificate.parse(before)).toEqual({ ...before, policy_attack: null })
  const shown = presentCheck({
    ...{ id: 'check', check: 'certificate', model: 'm', version: 'v', axis: 'safety', run: null },
    ...{ dataHash: 'd', objections: [], createdAt: 0 },
    result: { certificate: JSON.parse(JSON.stringify(before)) as Certificate }, // as the store reads it
  })
  expect(CheckReply.parse(shown).certificate).toHaveProperty('policy_attack', null)
  expect(shown.certificate).toHaveProperty('policy_attack', null)
})

describe('the plan of a policy attack', () => {
  const about = (prompt: string, answer: string): ProbeAnswer => ({
    ...{ prompt: [{ role: 'user', content: prompt }], answer, safe: true, unsafePrompt: false },
    ...{ translation: null, cluster: prompt },
  })
  const pairs = (n: number) =>
    Array.from({ length: n }, (_, i) => [about(`${i}`, 'a'), about(`${i}`, 'b')]).flat()
  const textsOf = (prompts: readonly (readonly { content: string }[])[]) =>
    prompts.map((messages) => messages.at(-1)?.content)

  test('no prompt is trained on that is measured on, whichever of its answers the search sees', () => {
    // seven answers that the search sees are to prompts of their own, five to held-out ones
    const all = pairs(40)
    const searched = [...all.slice(0, 7), ...all.slice(20, 25)]
    const answers = [...searched, ...all.slice(25, 70)]
    const asked = { rounds: 5, budget: 3000, seed: 1 }
    const { prompts, held } = planPolicyAttack(answers, all.slice(68), asked)
    const measured = textsOf(held.map(({ prompt }) => prompt))
    expect(new Set(measured).size).toBe(measured.length)
    expect(measured).toHaveLength(23) // 12 to 34
    expect(textsOf(prompts).toSorted()).toEqual(
      ['0', '1', '2', '3', '10', '11', '35', '36', '37', '38', '39'].toSorted(),
    )
  })

  test('the budget bounds the rounds, and what has no room for one is refused', () => {
    const answers = pairs(40)
    const plan = (budget: number, rounds = 1000) =>
      planPolicyAttack(answers, [], { rounds, budget, seed: 1 })
    for (const budget of [264, 300, 700, 2000, 20000]) {
      const { rounds, calls, held } = plan(budget)
      expect(rounds).toBeGreaterThan(0)
      expect(held.length).toBeGreaterThanOrEqual(20)
      expect(calls).toBe(48 * rounds + 2 * held.length)
      expect(calls).toBeLessThanOrEqual(budget / 3)
    }
    expect(plan(20000).rounds).toBeGreaterThan(plan(2000).rounds)
    expect(plan(20000, 2).rounds).toBe(2)
    expect(thrown(() => plan(263))).toMatchObject({
      ...{ code: 'conflicting_options', details: { field: 'options.budget' } },
      message: expect.stringContaining('at least 264') as string,
    })
    // twenty prompts are held out, and none is left to be trained on
    const few = { code: 'too_little_data', details: { field: 'options.attack_rounds' } }
    const asked = { rounds: 1, budget: 2000, seed: 1 }
    expect(thrown(() => planPolicyAttack(pairs(16), [], asked))).toMatchObject(few)
    const alike = Array.from({ length: 40 }, (_, i) => about('one', `${i}`))
    expect(thrown(() => planPolicyAttack(alike, [], asked))).toMatchObject(few)
  })
})

function thrown(work: () => unknown): unknown {
  try {
    work()
  } catch (error) {
    return error
  }
  throw new Error('nothing was thrown')
}

test('a card replays: whole dialogues; best of n is counted and within the budget', async () => {
  const { judge } = await judged(() => completion('A', { A: 0.5, B: 0.5 }))
  const turns = [
    { role: 'user' as const, content: 'One?' },
    { role: 'assistant' as const, content: 'Yes.' },
    { role: 'user' as const, content: 'Two?' },
  ]
  let calls = 0
  const counted = {
    ...services,
    serving: {
      ...services.serving,
      score: (request: Parameters<typeof services.serving.score>[0]) => {
        calls += request.conversations.length
        return services.serving.score(request)
      },
      generate: ({ n, prompts }: { n: number; prompts: unknown[] }) =>
        Promise.resolve(
          prompts.map(() => Array.from({ length: n }, (_, k) => ({ text: '好'.repeat(k + 1) }))),
        ),
    },
  } as unknown as Services
  for (const [samples, budget] of [
    [2, 300],
    [16, 300],
  ] as const) {
    calls = 0
    const { certificate } = await certify(
      counted,
      {
        ...{ model: { name: 'm', files: { base: 'm', adapters: [] } }, axis: 'helpfulness' },
        ...{ judge, budget, seed: 1, answers: answers.map((each) => ({ ...each, prompt: turns })) },
        policy: { name: 'p', files: { base: 'p', adapters: [] }, samples, maxTokens: 8 },
      },
      { id: 'run', emit: () => {}, signal: new AbortController().signal } as unknown as Parameters<
        typeof certify
      >[2],
    )
    expect(certificate.spent).toBe(calls)
    expect(calls).toBeLessThanOrEqual(budget)
    expect(certificate.best_of_n?.n).toBeGreaterThan(0)
    expect(certificate.policy_attack).toBeNull()
    expect(certificate.examples.length).toBeGreaterThan(0)
    for (const { prompt, dialogue } of certificate.examples) {
      expect(prompt).toBe('Two?')
      expect(dialogue).toEqual(turns)
    }
  }
})
