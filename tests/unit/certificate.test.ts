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
