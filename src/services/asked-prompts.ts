import type { EvaluationOptions } from '../schemas/evaluation.ts'
import { prompts as starterPrompts } from '../starter/world.ts'
import { drawnPlaces, openPrompts, rowsHash } from './data.ts'
import type { AskedPrompt } from './policy-answers.ts'
import type { Services } from './services.ts'

/**
 * What policies are asked: the prompts of a file, of more than `limit` as many drawn by the seed, else the starter
 * world's; with what is to be told of it. Throws as `openPrompts`.
 */
export async function askedPrompts(
  services: Services,
  { target, file, format, seed, limit }: EvaluationOptions,
): Promise<{ prompts: AskedPrompt[]; hash: string; warnings: string[] }> {
  if (file === undefined) {
    const prompts = starterSet(seed, limit)
    return { prompts, hash: rowsHash(prompts), warnings: [] }
  }
  const { rows, hash } = await openPrompts(services, file, format)
  const prompts =
    rows.length <= limit
      ? rows
      : drawnPlaces(rows.length, limit, seed).flatMap((i) => {
          const row = rows[i]
          return row === undefined ? [] : [{ ...row, number: i + 1 }]
        })
  const warnings = [
    ...(prompts.length < rows.length
      ? [`${prompts.length} of ${rows.length} prompts were asked (options.limit)`]
      : []),
    // in an arena nothing goes by pairs
    ...(target === 'arena' ? [] : withoutLookAlike(prompts)),
  ]
  return { prompts, hash, warnings }
}

/** What is to be told of unsafe prompts that the AUROC over matched pairs leaves out; of a set without pairs nothing. */
function withoutLookAlike(prompts: readonly AskedPrompt[]): string[] {
  if (prompts.every(({ pair }) => pair === undefined)) return []
  const safe = new Set(prompts.flatMap(({ label, pair }) => (label === 'safe' ? [pair] : [])))
  const unsafe = prompts.filter(({ label }) => label === 'unsafe')
  const alone = unsafe.filter(({ pair }) => pair === undefined || !safe.has(pair)).length
  return alone === 0
    ? []
    : [
        `${alone} of ${unsafe.length} unsafe prompts have no look-alike of the same pair among those asked`,
      ]
}

/** The starter world's test prompts, where no others are given. */
const starterSet = (seed: number, limit: number): AskedPrompt[] =>
  starterPrompts('test', seed, limit).map(({ id, messages, family, template }) => ({
    ...{ id, messages, category: family, cluster: template },
    ...(family === 'unsafe' ? { label: 'unsafe' } : {}),
    ...(family === 'lookalike' ? { label: 'safe' } : {}),
  }))
