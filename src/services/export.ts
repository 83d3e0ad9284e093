import { join } from 'node:path'
import type { z } from 'zod'
import type { Merged } from '../engine/engine.ts'
import type { EXPORT_FORMATS, ExportModel } from '../schemas/http.ts'
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

/** One pair in the layout of another tool: TRL's conversational preferences, OpenAI's DPO rows, HH-RLHF. */
export function exportPair(
  pair: PreferenceRow,
  format: (typeof EXPORT_FORMATS)[number],
): Record<string, unknown> {
  const answer = (content: string): Message[] => [{ role: 'assistant', content }]
  switch (format) {
    case 'libra':
      return pair
    case 'trl':
      return { prompt: pair.prompt, chosen: answer(pair.chosen), rejected: answer(pair.rejected) }
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
  }
}
