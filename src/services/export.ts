import type { EXPORT_FORMATS } from '../schemas/http.ts'
import type { Message } from '../schemas/chat.ts'
import type { PreferenceRow } from '../schemas/feedback.ts'

const HH_NAME = { system: 'System', user: 'Human', assistant: 'Assistant' } as const
const hh = (messages: readonly Message[]): string =>
  messages.map(({ role, content }) => `\n\n${HH_NAME[role]}: ${content}`).join('')

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
