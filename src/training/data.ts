import type { Message } from '../schemas/chat.ts'
import type { DialogueRow } from '../schemas/feedback.ts'
import { encodeChat, lastTokens } from '../text/template.ts'
import type { Tokenizer } from '../text/tokenizer.ts'
import type { Scored } from '../model/readout.ts'
import type { Sequence } from './tokens.ts'

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
): Scored {
  const chat = encodeChat(tokenizer, [...prompt, { role: 'assistant', content: answer }])
  return lastTokens(chat, context)
}
