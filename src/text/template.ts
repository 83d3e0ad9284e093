import { Template } from '@huggingface/jinja'
import { LibraError } from '../errors.ts'
import type { Message, WeighedMessage } from '../schemas/chat.ts'
import type { Tokenizer } from './tokenizer.ts'

const compiled = new Map<string, Template>()

/** The text of a conversation as its model's chat template writes it (transformers' apply_chat_template). */
export function renderChat(
  tokenizer: Tokenizer,
  messages: readonly Message[],
  addGenerationPrompt: boolean,
): string {
  if (tokenizer.template === '')
    throw new LibraError('template_failed', 'this model has no chat template: it is no chat model')
  let template = compiled.get(tokenizer.template)
  try {
    if (template === undefined) {
      template = new Template(asPlainBlocks(tokenizer.template))
      compiled.set(tokenizer.template, template)
    }
    return template.render({
      messages: messages.map(({ role, content }) => ({ role, content })),
      add_generation_prompt: addGenerationPrompt,
      bos_token: tokenizer.bosToken,
      eos_token: tokenizer.eosToken,
      tools: null,
      documents: null,
    })
  } catch (cause) {
    throw new LibraError(
      'template_failed',
      `the chat template refused the messages: ${String(cause)}`,
      { cause },
    )
  }
}

/**
 * `{% generation %}` marks what an assistant wrote for transformers' masks. @huggingface/jinja takes the tags out, and
 * what strips spaces then reaches too far: a block that does nothing stays in its place.
 */
const asPlainBlocks = (template: string): string =>
  template.replace(
    /\{%(-?)\s*(end)?generation\s*(-?)%\}/g,
    (_, left: string, end: string | undefined, right: string) =>
      `{%${left} ${end === undefined ? 'if true' : 'endif'} ${right}%}`,
  )

export type EncodedChat = {
  ids: number[]
  /** 1 on the tokens that an assistant wrote, the end of its turn included, but for messages of weight 0 */
  assistant: number[]
}

/** The end of a conversation in at most `limit` tokens, and where in it the assistant's last turn begins. */
export function lastTokens(
  { ids, assistant }: EncodedChat,
  limit: number,
): { ids: number[]; answer: number } {
  const start = Math.max(0, ids.length - limit)
  const end = assistant.lastIndexOf(1)
  const answer = assistant.lastIndexOf(0, end) + 1
  return {
    ids: ids.slice(start),
    answer: end < 0 ? ids.length - start : Math.max(0, answer - start),
  }
}

/** A piece of the rendered text: a control token of the template, or text with the message that it is of. */
type Piece = { control: number } | { text: string; message: WeighedMessage | null }

/**
 * Token ids of a conversation, as transformers gives them for the rendered text, but that only the template's own text
 * can become control tokens: `<|end|>` inside a message stays text. What lies between two control tokens is encoded in
 * one go. Throws `template_failed` when the template changes a message in a way that is not understood.
 */
export function encodeChat(
  tokenizer: Tokenizer,
  messages: readonly WeighedMessage[],
  addGenerationPrompt = false,
): EncodedChat {
  const result: EncodedChat = { ids: [], assistant: [] }
  let section: Extract<Piece, { text: string }>[] = []
  const push = (ids: readonly number[], mine: number): void => {
    for (const id of ids) {
      result.ids.push(id)
      result.assistant.push(mine)
    }
  }
  const close = (): void => {
    const text = section.map((piece) => piece.text).join('')
    const first = result.ids.length === 0
    const ids = tokenizer.encode(text, first)
    let end = 0
    /** how many of the section's tokens lie before a place in its text */
    const tokensBefore = (place: number): number => {
      if (place === text.length) return ids.length
      const prefix = tokenizer.encode(text.slice(0, place), first)
      const differs = prefix.findIndex((id, i) => id !== ids[i])
      return differs < 0 ? prefix.length : differs
    }
    let done = 0
    for (const { text: part, message } of section) {
      end += part.length
      if (message === null || !isLearned(message)) continue
      const from = Math.max(done, tokensBefore(end - part.length))
      push(ids.slice(done, from), 0)
      done = Math.max(from, tokensBefore(end))
      push(ids.slice(from, done), 1)
    }
    push(ids.slice(done), 0)
  }
  for (const piece of piecesOf(tokenizer, messages, addGenerationPrompt)) {
    if ('text' in piece) {
      if (piece.text !== '' || piece.message !== null) section.push(piece)
      continue
    }
    close()
    const last = section.at(-1)?.message ?? null
    const ends = last !== null && isLearned(last) && piece.control === tokenizer.eos
    push([piece.control], ends ? 1 : 0)
    section = []
  }
  close()
  return result
}

const isLearned = ({ role, weight }: WeighedMessage): boolean =>
  role === 'assistant' && weight !== 0

/**
 * The rendered text in pieces. It is rendered twice, once with stand-ins for the contents, which tell the template's own
 * text from the messages'. A template that looks into contents (a system prompt with switches) may say other things
 * around a stand-in: then those without control tokens that no assistant wrote are left in their places.
 */
function piecesOf(
  tokenizer: Tokenizer,
  messages: readonly Message[],
  addGenerationPrompt: boolean,
): Piece[] {
  const text = renderChat(tokenizer, messages, addGenerationPrompt)
  const all = fit(tokenizer, frameOf(tokenizer, messages, addGenerationPrompt), messages, text)
  if (typeof all !== 'number') return all
  const pattern = controlPattern(tokenizer)
  const some = messages.map((m, i) =>
    m.role === 'assistant' || pattern.test(m.content) ? { ...m, content: standIn(i) } : m,
  )
  const frame = cut(renderChat(tokenizer, some, addGenerationPrompt))
  const pieces = fit(tokenizer, frame, messages, text)
  if (typeof pieces !== 'number') return pieces
  throw new LibraError(
    'template_failed',
    `the chat template rewrites message ${pieces} in a way that is not understood here: only trimming and leaving out what was thought before </think> are`,
    { details: { message: pieces } },
  )
}

const standIn = (i: number): string => `\u{F0000}${i}\u{F0001}`
/** [template, index, template, index, …, template] */
const cut = (rendered: string): string[] => rendered.split(/\u{F0000}(\d+)\u{F0001}/u)

/** The pieces of a text that fills a frame with its messages, or the index of the message that does not fit. */
function fit(
  tokenizer: Tokenizer,
  frame: readonly string[],
  messages: readonly Message[],
  text: string,
): Piece[] | number {
  const pieces: Piece[] = []
  let at = 0
  for (let k = 0; k < frame.length; k += 2) {
    const own = frame[k] ?? ''
    if (!text.startsWith(own, at)) return Number(frame[k - 1] ?? 0)
    pieces.push(...splitControls(tokenizer, own))
    at += own.length
    if (k + 1 >= frame.length) break
    const index = Number(frame[k + 1])
    const message = messages[index]
    const next = frame[k + 2] ?? ''
    const content = formsOf(message?.content ?? '').find((form) => text.startsWith(form + next, at))
    if (content === undefined || message === undefined) return index
    pieces.push({ text: content, message })
    at += content.length
  }
  return at === text.length ? pieces : messages.length - 1
}

const frames = new Map<string, string[]>()
const CACHED_FRAMES = 256

/** The text around stand-ins for all messages, which their roles decide (and the day, which some templates name). */
function frameOf(
  tokenizer: Tokenizer,
  messages: readonly Message[],
  addGenerationPrompt: boolean,
): string[] {
  const roles = messages.map(({ role }) => role)
  const key = JSON.stringify([
    ...[tokenizer.template, tokenizer.bosToken, tokenizer.eosToken],
    ...[new Date().toDateString(), addGenerationPrompt, ...roles],
  ])
  let frame = frames.get(key)
  if (frame === undefined) {
    const marked = messages.map((m, i) => ({ ...m, content: standIn(i) }))
    frame = cut(renderChat(tokenizer, marked, addGenerationPrompt))
    if (frames.size >= CACHED_FRAMES) frames.clear()
    frames.set(key, frame)
  }
  return frame
}

/** What templates make of a content: as it is, trimmed, without the thoughts before its answer; the longest first. */
function formsOf(content: string): string[] {
  const answer = (content.split('</think>').at(-1) ?? '').replace(/^\n+/, '')
  const forms = [content, answer].flatMap((c) => [c, c.trimStart(), c.trimEnd(), c.trim()])
  return forms.sort((a, b) => b.length - a.length)
}

const patterns = new WeakMap<Tokenizer, RegExp>()

/** Control tokens, the longest first, with the spaces that they take. */
function controlPattern(tokenizer: Tokenizer): RegExp {
  const found = patterns.get(tokenizer)
  if (found !== undefined) return found
  const parts = [...tokenizer.controls]
    .sort(([a], [b]) => b.length - a.length)
    .map(([content, { lstrip, rstrip }]) => {
      const token = content.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')
      return `${lstrip ? '\\s*' : ''}${token}${rstrip ? '\\s*' : ''}`
    })
  const pattern = parts.length === 0 ? /((?!))/u : new RegExp(`(${parts.join('|')})`, 'u')
  patterns.set(tokenizer, pattern)
  return pattern
}

/** The template's own text, cut at its control tokens. */
const splitControls = (tokenizer: Tokenizer, text: string): Piece[] =>
  text.split(controlPattern(tokenizer)).map((part, i): Piece => {
    if (i % 2 === 0) return { text: part, message: null }
    const control = tokenizer.controls.get(part) ?? tokenizer.controls.get(part.trim())
    return { control: control?.id ?? 0 }
  })
