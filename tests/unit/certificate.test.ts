import { expect, test } from 'vitest'
import type { ProbeAnswer } from '../../src/evaluation/probes.ts'
import { certify } from '../../src/services/certificate.ts'
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
    expect(certificate.examples.length).toBeGreaterThan(0)
    for (const { prompt, dialogue } of certificate.examples) {
      expect(prompt).toBe('Two?')
      expect(dialogue).toEqual(turns)
    }
  }
})
