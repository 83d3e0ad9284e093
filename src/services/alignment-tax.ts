import type { Likelihood, ModelFiles } from '../engine/engine.ts'
import { cancelled } from '../errors.ts'
import { states, taxFigures } from '../evaluation/tax.ts'
import type { TaxedRow } from '../evaluation/tax.ts'
import type { PolicyFigure } from '../evaluation/policy-measures.ts'
import { TaxRow } from '../schemas/evaluation.ts'
import { prompts as starterPrompts } from '../starter/world.ts'
import { drawnPlaces, openData } from './data.ts'
import { answerPrompts, PART } from './policy-answers.ts'
import type { Asking } from './policy-answers.ts'
import type { Services } from './services.ts'

/** `number`: its place in its file, from 1 */
export type OpenedRow = TaxRow & { cluster: string; number: number }

/** Rows to tax alignment on: a file’s, or the starter world’s facts. Throws `file_not_found`, `invalid_data`, `empty_data`. */
export async function openTax(
  services: Services,
  ref: string,
  { seed, limit }: { seed: number; limit: number },
): Promise<OpenedRow[]> {
  if (ref !== 'starter') {
    const { rows } = await openData(services, ref, TaxRow)
    return drawnPlaces(rows.length, limit, seed).flatMap((i) =>
      rows.slice(i, i + 1).map((row) => ({ ...row, cluster: String(i), number: i + 1 })),
    )
  }
  return starterPrompts('test', seed)
    .filter(({ family }) => family === 'fact')
    .slice(0, limit)
    .map(({ messages: prompt, truth, template: cluster }, i) => ({
      ...{ prompt, response: truth.statement ?? '', facts: [truth.value ?? ''], cluster },
      number: i + 1,
    }))
}

/** What each policy has lost or won beside the first: right facts, and how well given texts are foretold. */
export async function alignmentTax(
  services: Pick<Services, 'serving'>,
  policies: readonly { name: string; files: ModelFiles }[],
  rows: readonly OpenedRow[],
  asking: Omit<Asking, 'prompts'>,
): Promise<PolicyFigure[]> {
  const measured: TaxedRow[][] = []
  for (const policy of policies) measured.push(await measure(services, policy, rows, asking))
  return policies
    .slice(1)
    .flatMap(({ name }, k) =>
      taxFigures(name, measured[0] ?? [], measured[k + 1] ?? [], asking.options.seed),
    )
}

async function measure(
  services: Pick<Services, 'serving'>,
  { name, files: model }: { name: string; files: ModelFiles },
  rows: readonly OpenedRow[],
  asking: Omit<Asking, 'prompts'>,
): Promise<TaxedRow[]> {
  // 1. how well it foretells each text
  const likelihoods: Likelihood[] = []
  for (let i = 0; i < rows.length; i += PART) {
    if (asking.signal.aborted) throw cancelled()
    const texts = rows.slice(i, i + PART).map((row) =>
      'text' in row
        ? { text: row.text }
        : {
            messages: [...row.prompt, { role: 'assistant' as const, content: row.response }],
            ended: true,
          },
    )
    likelihoods.push(...(await services.serving.likelihoods({ model, texts })))
    await asking.progress?.(`perplexity of ${name}`, likelihoods.length, rows.length)
  }
  // 2. what it says itself where there is a fact to state
  const asked = rows.flatMap((row, i) =>
    'text' in row || row.facts === undefined ? [] : [{ i, facts: row.facts, messages: row.prompt }],
  )
  const answers = await answerPrompts(
    services,
    { name: `facts, ${name}`, files: model },
    { ...asking, prompts: asked },
  )
  const right = new Map(
    asked.map(({ i, facts }, k) => {
      const samples = answers[k] ?? []
      return [i, samples.filter(({ text }) => states(text, facts)).length / samples.length]
    }),
  )
  return rows.map((row, i) => ({
    cluster: row.cluster,
    right: right.get(i) ?? null,
    logprob: likelihoods[i]?.logprob ?? NaN,
    tokens: likelihoods[i]?.tokens ?? NaN,
    bytes: Buffer.byteLength('text' in row ? row.text : row.response),
  }))
}
