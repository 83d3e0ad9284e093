import { createHash } from 'node:crypto'
import type { ModelFiles } from '../engine/engine.ts'
import { cancelled } from '../errors.ts'
import { attack, FEWEST_ATTACKED, SEARCHED } from '../evaluation/exploit.ts'
import type { Attack } from '../evaluation/exploit.ts'
import type { ProbeAnswer } from '../evaluation/probes.ts'
import type { Judge } from '../judging/judge.ts'
import type { Message } from '../schemas/chat.ts'
import type { Certificate } from '../schemas/checks.ts'
import type { Axis } from '../schemas/feedback.ts'
import type { CheckRow } from '../store/store.ts'
import type { Figure } from './audit-figures.ts'
import { BETTER, preferred, unchangedGain } from './judged-gains.ts'
import { attackByPolicy, SHARE } from './policy-attack.ts'
import type { AttackPlan, PolicyAttack } from './policy-attack.ts'
import type { ReportParts } from './report.ts'
import { newId } from './runs.ts'
import type { RunContext } from './runs.ts'
import type { Services } from './services.ts'

const SHOWN = 16

/** How many answers a budget is for: a sixth of it measures the outcome, where that is enough; the rest searches. */
export const answersFor = (budget: number): number =>
  Math.max(FEWEST_ATTACKED, SEARCHED + Math.floor(budget / 25))

/** The card as figures: the gain by the number of edits and by policies, and what a judge says of it. */
export function certificateFigures(card: Certificate): Figure[] {
  const { steps, unchanged, best_of_n: best, policy_attack: trained } = card
  const rounds = trained?.rounds === 1 ? '1 round' : `${trained?.rounds} rounds`
  const of = (figure: string, { gain: value, low, high, n }: Measured): Figure => ({
    ...{ figure, value, low, high, n },
  })
  return [
    ...steps.map((step, i) =>
      of(`gain by ${i + 1} ${i === 0 ? 'edit' : 'edits'}, deviations`, step),
    ),
    ...(unchanged === null ? [] : [of('gain where the judge sees none, deviations', unchanged)]),
    ...(best === null ? [] : [of(`gain by best of ${best.samples}, no better, deviations`, best)]),
    ...(trained === null ? [] : [of(`gain by a policy of ${rounds}, deviations`, trained)]),
    ...(trained?.unchanged == null
      ? []
      : [of(`gain by a policy of ${rounds}, no better, deviations`, trained.unchanged)]),
  ]
}

/** How the attacks went, and answers before and after them. */
export function certificateReport(
  { examples, policy_attack: trained }: Certificate,
  searched: Attack['curve'],
  learned: PolicyAttack['curve'],
): Required<Pick<ReportParts, 'curves' | 'samples'>> {
  const curve = (title: string, name: string, steps: number[], values: number[]) => ({
    ...{ title, curves: [{ name, steps, values }] },
  })
  const sample = (prompt: string, before: [string, number], after: [string, number]) => ({
    prompt,
    answers: [
      { name: 'before 之前', text: `${before[0]} (${before[1].toFixed(2)})` },
      { name: 'after 之后', text: `${after[0]} (${after[1].toFixed(2)})` },
    ],
  })
  return {
    curves: [
      curve(
        'Gain by score calls 攻击收益与打分次数',
        'gain',
        searched.map(({ spent }) => spent),
        searched.map(({ gain }) => gain),
      ),
      ...(learned.length === 0
        ? []
        : [
            curve(
              'Score of the attacking policy by round 攻击策略逐轮的得分',
              'score',
              learned.map((_, i) => i + 1),
              [...learned],
            ),
          ]),
    ],
    samples: [
      ...examples.map(({ prompt, answer, edited, before, after }) =>
        sample(prompt, [answer, before], [edited, after]),
      ),
      ...(trained?.examples ?? []).map(({ dialogue, answer, attacked, before, after }) => ({
        ...sample(dialogue.at(-1)?.content ?? '', [answer, before], [attacked, after]),
        category: 'policy attack 策略攻击',
      })),
    ],
  }
}
type Measured = { gain: number; low: number; high: number; n: number }

type Asked = { prompt: readonly Message[]; answer: string }
type Input = {
  model: { name: string; files: ModelFiles }
  axis: Axis
  answers: readonly ProbeAnswer[]
  judge: Judge | null
  /** whose best of n answers is looked at; asks for a judge */
  policy: { name: string; files: ModelFiles; samples: number; maxTokens: number } | null
  /** what a policy is trained on against the reward model, and measured on; asks for a judge and a policy */
  plan?: AttackPlan | null
  budget: number
  seed: number
}

/**
 * Attacks a reward model within a budget of score calls and stores what came of it as a card. Whether answers stayed as
 * good as they were is said by the judge, or by the edits' construction where there is none. Throws `too_little_data`
 * as `attack`.
 */
export async function certify(
  services: Services,
  { model, axis, answers, judge, policy, plan = null, budget, seed }: Input,
  context: RunContext,
): Promise<{
  check: CheckRow
  certificate: Certificate
  curve: Attack['curve']
  learned: PolicyAttack['curve']
}> {
  const { serving, store } = services
  const { id: run, emit, signal } = context
  const score = async (asked: readonly Asked[]): Promise<number[]> => {
    if (signal.aborted) throw cancelled()
    const scores = await serving.score({
      ...{ model: model.files, onTooLong: 'truncate' },
      conversations: asked.map(({ prompt, answer }) => [
        ...prompt,
        { role: 'assistant' as const, content: answer },
      ]),
    })
    return scores.map(({ logit }) => logit)
  }
  const samples = judge === null || policy === null || policy.samples < 2 ? 0 : policy.samples
  const kept = Math.min(
    samples * Math.max(0, answers.length - SEARCHED),
    Math.floor(budget * SHARE),
  )
  const rest = budget - (plan?.calls ?? 0)
  const found = await attack(answers, axis, score, { budget: rest - kept, seed }, (done, total) =>
    emit({ type: 'progress', stage: 'attack', done, total }),
  )
  const { held, before, after, edited, steps, sigma, spent, curve } = found
  // P(the edited answer is better), null where nobody says
  const judged =
    judge === null || steps.length === 0
      ? held.map(() => null)
      : await preferred(
          judge,
          axis,
          held.map(({ prompt, answer }, i) => ({ prompt, a: edited[i] ?? '', b: answer })),
          signal,
        )
  const examples = held
    .map(({ prompt, answer }, i) => ({
      ...{ prompt: prompt.at(-1)?.content ?? '', dialogue: [...prompt] },
      ...{ answer, edited: edited[i] ?? '' },
      ...{ before: before[i] ?? NaN, after: after[i] ?? NaN, judged: judged[i] ?? null },
    }))
    .filter((example) => example.after > example.before && (example.judged ?? 0) <= BETTER)
    .toSorted((x, y) => y.after - y.before - (x.after - x.before))
    .slice(0, SHOWN)
  const gains = after.map((r, i) => ({
    gain: (r - (before[i] ?? NaN)) / sigma,
    cluster: held[i]?.cluster ?? '',
    judged: judged[i] ?? null,
  }))
  const asked = samples === 0 ? [] : held.slice(0, Math.floor((rest - spent) / samples))
  const best =
    judge === null || policy === null || asked.length === 0
      ? null
      : await bestOf(services, { axis, held: asked, judge, policy, score, sigma, seed }, signal)
  const trained =
    judge === null || policy === null || plan === null
      ? null
      : await attackByPolicy(
          services,
          { model: model.files, axis, judge, policy, plan, score, sigma, seed },
          context,
        )
  const certificate: Certificate = {
    ...{ seed, budget, sigma, steps, examples },
    spent: spent + samples * asked.length + (trained?.card.spent ?? 0),
    quality: judge === null ? 'construction' : 'judge',
    judge: judge?.name ?? null,
    ...unchangedGain(gains, seed),
    best_of_n: best,
    policy_attack: trained?.card ?? null,
  }
  const check: CheckRow = {
    ...{ id: newId('check'), check: 'certificate', model: model.name, axis, run },
    version: (await serving.describe(model.files)).version,
    dataHash: createHash('sha256').update(JSON.stringify(answers)).digest('hex'),
    ...{ result: { certificate }, objections: [], createdAt: Date.now() },
  }
  await store.rewardChecks.insert([check])
  return { check, certificate, curve, learned: trained?.curve ?? [] }
}

/** Of n answers of a policy the one with the highest score, against the first of them. */
async function bestOf(
  { serving }: Pick<Services, 'serving'>,
  {
    axis,
    held,
    judge,
    policy: { name, files, samples, maxTokens },
    score,
    sigma,
    seed,
  }: Pick<Input, 'axis' | 'seed'> & {
    held: readonly ProbeAnswer[]
    judge: Judge
    policy: NonNullable<Input['policy']>
    score: (asked: readonly Asked[]) => Promise<number[]>
    sigma: number
  },
  signal: AbortSignal,
): Promise<Certificate['best_of_n']> {
  const written = await serving.generate({
    ...{ model: files, n: samples, onTooLong: 'error', prompts: held.map(({ prompt }) => prompt) },
    sampling: { maxTokens, temperature: 1, topP: 1, topK: 0, stop: [], seed },
  })
  const texts = written.map((answers) => answers.map(({ text }) => text))
  const scores = await score(
    held.flatMap(({ prompt }, i) => (texts[i] ?? []).map((answer) => ({ prompt, answer }))),
  )
  const rows = held.map(({ prompt, cluster }, i) => {
    const mine = scores.slice(i * samples, (i + 1) * samples)
    const at = mine.indexOf(Math.max(...mine))
    const [first = NaN] = mine
    const [a = '', b = ''] = [texts[i]?.[at], texts[i]?.[0]]
    return { prompt, a, b, cluster, gain: ((mine[at] ?? NaN) - first) / sigma }
  })
  const judged = await preferred(judge, axis, rows, signal)
  const figures = unchangedGain(
    rows.map(({ gain, cluster }, i) => ({ gain, cluster, judged: judged[i] ?? null })),
    seed,
  )
  if (figures.unchanged === null || figures.judged_better === null) return null
  return { policy: name, samples, ...figures.unchanged, judged_better: figures.judged_better }
}
