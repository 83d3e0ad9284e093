import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { z } from 'zod'
import type { Merged } from '../engine/engine.ts'
import { isTie } from '../evaluation/pair-labels.ts'
import type { ExportModel } from '../schemas/http.ts'
import type { EXPORT_FORMATS } from '../schemas/preferences.ts'
import type { Message } from '../schemas/chat.ts'
import type { PreferenceRow } from '../schemas/feedback.ts'
import { filesOf, findModel } from './catalog.ts'
import type { Services } from './services.ts'

const HH_NAME = { system: 'System', user: 'Human', assistant: 'Assistant' } as const
const hh = (messages: readonly Message[]): string =>
  messages.map(({ role, content }) => `\n\n${HH_NAME[role]}: ${content}`).join('')

/**
 * Writes a model, its base and adapters merged, as one Hugging Face folder into `folder`/<name>. Throws
 * `model_not_found`, `already_exists`, and what reading the model throws.
 */
export async function exportModel(
  { store, serving }: Pick<Services, 'store' | 'serving'>,
  ref: string,
  folder: string,
  { name, dtype, max_shard_bytes: shardBytes }: z.output<typeof ExportModel>,
): Promise<Merged & { model: string }> {
  const model = await findModel(store, ref)
  const output = join(folder, name ?? model.id)
  const done = await serving.merge({ model: filesOf(model), output, dtype, shardBytes })
  return { ...done, model: model.id }
}

const textOf = (prompt: readonly Message[]): string =>
  prompt.length === 1 ? (prompt[0]?.content ?? '') : hh(prompt)

type Format = (typeof EXPORT_FORMATS)[number]

/** Layouts that hold soft labels. */
const SOFT: readonly Format[] = ['libra', 'ultrafeedback']

/**
 * Pairs in the layout of another tool, one row each but for PKU-SafeRLHF's, which hold an annotator's words on both axes.
 * A layout without soft labels would say of a tie that one answer is better: ties are left out there and counted.
 */
export function exportPairs(
  pairs: readonly PreferenceRow[],
  format: Format,
): { rows: Record<string, unknown>[]; leftOut: number } {
  const told = SOFT.includes(format) ? pairs : pairs.filter((pair) => !isTie(pair))
  const rows = format === 'pku' ? pkuRows(told) : told.map((pair) => exportPair(pair, format))
  return { rows, leftOut: pairs.length - told.length }
}

/**
 * Two answers a row, with the better and the safer one where that was labelled, and whether each is safe: the words of one
 * annotator, whom the source stands for without a name. One that contradicts another has a row of its own.
 */
function pkuRows(pairs: readonly PreferenceRow[]): Record<string, unknown>[] {
  const rows = new Map<string, Record<string, unknown>[]>()
  for (const pair of pairs) {
    const answers = [pair.chosen, pair.rejected].sort()
    const better = answers[0] === pair.chosen ? 0 : 1
    const said = {
      [pair.axis === 'safety' ? 'safer_response_id' : 'better_response_id']: better,
      ...(pair.chosen_safe != null && { [`is_response_${better}_safe`]: pair.chosen_safe }),
      ...(pair.rejected_safe != null && { [`is_response_${1 - better}_safe`]: pair.rejected_safe }),
    }
    const key = JSON.stringify([pair.prompt, answers, pair.annotator ?? pair.source])
    const theirs = rows.get(key) ?? []
    const row = theirs.find((each) =>
      Object.entries(said).every(([field, value]) => (each[field] ?? value) === value),
    ) ?? {
      ...{ prompt: textOf(pair.prompt), response_0: answers[0], response_1: answers[1] },
      ...{ is_response_0_safe: null, is_response_1_safe: null },
      ...{ better_response_id: null, safer_response_id: null },
    }
    Object.assign(row, said)
    rows.set(key, theirs.includes(row) ? theirs : [...theirs, row])
  }
  return [...rows.values()].flat()
}

/** One pair in the layout of another tool: TRL's preferences, OpenAI's DPO rows, HH-RLHF, UltraFeedback. */
function exportPair(pair: PreferenceRow, format: Exclude<Format, 'pku'>): Record<string, unknown> {
  const answer = (content: string): Message[] => [{ role: 'assistant', content }]
  switch (format) {
    case 'libra':
      return pair
    case 'trl':
      return { prompt: pair.prompt, chosen: answer(pair.chosen), rejected: answer(pair.rejected) }
    case 'trl_text':
      return {
        prompt: `${hh(pair.prompt)}\n\nAssistant:`,
        chosen: ` ${pair.chosen}`,
        rejected: ` ${pair.rejected}`,
      }
    case 'openai':
      return {
        input: { messages: pair.prompt },
        preferred_output: answer(pair.chosen),
        non_preferred_output: answer(pair.rejected),
      }
    case 'hh':
      return {
        chosen: hh([...pair.prompt, ...answer(pair.chosen)]),
        rejected: hh([...pair.prompt, ...answer(pair.rejected)]),
      }
    case 'ultrafeedback':
      return {
        prompt: textOf(pair.prompt),
        prompt_id: createHash('sha256').update(textOf(pair.prompt)).digest('hex'),
        chosen: [...pair.prompt, ...answer(pair.chosen)],
        rejected: [...pair.prompt, ...answer(pair.rejected)],
        messages: [...pair.prompt, ...answer(pair.chosen)],
        // soft labels on UltraFeedback's scale of 10; without one the chosen answer is the better one for sure
        score_chosen: 10 * (pair.probability ?? 1),
        score_rejected: 10 * (1 - (pair.probability ?? 1)),
      }
  }
}
