import { z } from 'zod'

export const ROLES = ['system', 'user', 'assistant'] as const

/** Text that libSQL keeps whole: no NUL (it cuts the string there), no lone surrogate (it is replaced). */
export const SafeText = z
  .string()
  .refine((s) => !s.includes('\0') && s.isWellFormed(), 'must not contain NUL or a lone surrogate')

export const Message = z.strictObject({ role: z.enum(ROLES), content: SafeText })
export type Message = z.infer<typeof Message>

export const Messages = z.array(Message).min(1).max(256)
export type Messages = z.infer<typeof Messages>

/** A prompt in one of two spellings: a dialogue, or a string that is one user turn. */
export const PromptInput = z
  .union([Messages, SafeText.min(1)])
  .transform((input): Messages =>
    typeof input === 'string' ? [{ role: 'user', content: input }] : input,
  )
/** A message to learn from, in the spelling of OpenAI's fine-tuning files. */
export const WeighedMessage = z.object({
  ...Message.shape,
  weight: z
    .union([z.literal(0), z.literal(1)])
    .optional()
    .describe('of an assistant’s message: 0 is read and not learned'),
})
export type WeighedMessage = z.infer<typeof WeighedMessage>

/** As other protocols and data files write them: what Libra does not know is left out. */
export const LooseMessages = z.array(z.object(Message.shape)).min(1).max(256)

/** `User：…AI：…` (also `User: … AI: …`) as the starter dialogues write it → messages. */
export function parseTranscript(text: string): Messages | null {
  const parts = text.split(/(?<![A-Za-z0-9])\s*(User|AI)\s*[：:]\s*/)
  if (parts.length < 3 || parts[0]?.trim() !== '') return null
  const messages: Messages = []
  for (let i = 1; i + 1 < parts.length; i += 2)
    messages.push({
      role: parts[i] === 'AI' ? 'assistant' : 'user',
      content: (parts[i + 1] ?? '').trim(),
    })
  return messages
}
