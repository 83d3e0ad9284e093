import { Template } from '@huggingface/jinja'
import { LibraError } from '../errors.ts'
import type { Message } from '../schemas/chat.ts'
import type { Tokenizer } from './tokenizer.ts'

const compiled = new Map<string, Template>()

/** The text of a conversation as its model's chat template writes it (transformers' apply_chat_template). */
export function renderChat(
  tokenizer: Tokenizer,
  messages: readonly Message[],
  addGenerationPrompt: boolean,
): string {
  let template = compiled.get(tokenizer.template)
  try {
    if (template === undefined) {
      template = new Template(tokenizer.template)
      compiled.set(tokenizer.template, template)
    }
    return template.render({
      messages: messages.map((m) => ({ ...m })),
      add_generation_prompt: addGenerationPrompt,
      bos_token: tokenizer.bosToken,
      eos_token: tokenizer.eosToken,
    })
  } catch (cause) {
    throw new LibraError(
      'template_failed',
      `the chat template refused the messages: ${String(cause)}`,
      { cause },
    )
  }
}

export type EncodedChat = {
  ids: number[]
  /** 1 on the tokens that an assistant wrote, the end of its turn included */
  assistant: number[]
}

/**
 * Token ids of a conversation. The template is rendered with stand-ins for the contents, so that only the
 * template's own text can become control tokens: `<|end|>` inside a message stays text.
 */
export function encodeChat(
  tokenizer: Tokenizer,
  messages: readonly Message[],
  addGenerationPrompt = false,
): EncodedChat {
  const mark = (i: number): string => `\u{F0000}${i}\u{F0001}`
  const frame = renderChat(
    tokenizer,
    messages.map((m, i) => ({ ...m, content: mark(i) })),
    addGenerationPrompt,
  )
  const ids: number[] = []
  const assistant: number[] = []
  const push = (tokens: readonly number[], mine: number): void => {
    for (const id of tokens) {
      ids.push(id)
      assistant.push(mine)
    }
  }
  // [template, index, template, index, …, template]
  const pieces = frame.split(/\u{F0000}(\d+)\u{F0001}/u)
  pieces.forEach((piece, k) => {
    if (k % 2 === 1) {
      const message = messages[Number(piece)]
      push(tokenizer.encode(message?.content ?? ''), message?.role === 'assistant' ? 1 : 0)
      return
    }
    const tokens = tokenizer.encodeTemplate(piece)
    const after = k > 0 ? messages[Number(pieces[k - 1])] : undefined
    const ends = after?.role === 'assistant' && tokens[0] === tokenizer.eos
    push(tokens.slice(0, ends ? 1 : 0), 1)
    push(tokens.slice(ends ? 1 : 0), 0)
  })
  return { ids, assistant }
}
