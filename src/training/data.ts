import { readFile } from 'node:fs/promises'
import type { ZodType } from 'zod'
import { LibraError } from '../errors.ts'
import type { Message } from '../schemas/chat.ts'
import type { DialogueRow } from '../schemas/feedback.ts'
import { encodeChat } from '../text/template.ts'
import type { Tokenizer } from '../text/tokenizer.ts'
import type { Sequence } from './tokens.ts'

/** Reads JSON Lines and checks every row. Throws `invalid_data` naming the file, the line and the field. */
export async function readRows<T>(path: string, schema: ZodType<T>): Promise<T[]> {
  const lines = (await readFile(path, 'utf8')).split('\n')
  return lines.flatMap((line, i) => {
    if (line.trim() === '') return []
    let json: unknown
    try {
      json = JSON.parse(line)
    } catch (cause) {
      throw new LibraError('invalid_data', `${path}, line ${i + 1}: not JSON`, { cause })
    }
    const row = schema.safeParse(json)
    if (row.success) return [row.data]
    const issue = row.error.issues[0]
    throw new LibraError(
      'invalid_data',
      `${path}, line ${i + 1}, ${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'invalid'}`,
    )
  })
}

/** A dialogue as token ids. `all` trains every token after the first, else the assistant's alone. */
export function dialogueSequence(
  tokenizer: Tokenizer,
  row: DialogueRow,
  all: boolean,
  context: number,
): Sequence {
  const { ids, assistant } = encodeChat(tokenizer, row.messages)
  if (!row.ended && ids.at(-1) === tokenizer.eos) {
    ids.pop()
    assistant.pop()
  }
  return {
    ids: ids.slice(0, context),
    counts: (all ? ids.map(() => 1) : assistant).slice(0, context),
  }
}

/** What a reward model reads: the dialogue, the answer and the end of its turn; too long keeps the end. */
export function scoredSequence(
  tokenizer: Tokenizer,
  prompt: readonly Message[],
  answer: string,
  context: number,
): number[] {
  const { ids } = encodeChat(tokenizer, [...prompt, { role: 'assistant', content: answer }])
  return ids.length <= context ? ids : ids.slice(ids.length - context)
}
