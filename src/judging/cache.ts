import { createHash } from 'node:crypto'
import type { Message } from '../schemas/chat.ts'
import type { Assignment, Choice, Question, Respondent, Watch, Written } from './respondent.ts'

/** Answers that are known, by the hash of all that made them. */
export type AnswerCache = {
  /** of those that were given from a time on, where one is named (ms) */
  find(keys: readonly string[], since?: number): Promise<Map<string, unknown>>
  /** in place of older ones */
  keep(rows: readonly Kept[]): Promise<void>
}

type Kept = { key: string; answer: unknown }

/** Items asked before their answers are kept: what the death of the process may cost twice. */
const PART = 128

/**
 * A respondent that asks nothing twice: an answer is kept by the SHA-256 of who answers and what is asked, as soon as
 * it is there. Failures are not kept. `read: false`: everything is asked anew (and kept in place of what was known): an audit
 * must not hear itself; a time (ms): what was answered from then on is known.
 */
export function cached(
  inner: Respondent,
  cache: AnswerCache,
  { read = true }: { read?: boolean | number } = {},
): Respondent {
  let hits = 0
  const keyOf = (who: string, kind: string, asked: unknown): string =>
    createHash('sha256')
      .update(JSON.stringify([who, kind, asked]))
      .digest('hex')
  const plain = (messages: readonly Message[]): unknown[] =>
    messages.map(({ role, content }) => [role, content])

  /** Answers of items that are known, null for the others. */
  async function known<T>(keys: readonly string[]): Promise<(T | null)[]> {
    if (read === false) return keys.map(() => null)
    const found = await cache.find(keys, read === true ? undefined : read)
    return keys.map((key) => (found.get(key) as T | undefined) ?? null)
  }

  return {
    name: inner.name,
    version: () => inner.version(),
    usage: () => ({ ...inner.usage(), cached: hits }),
    async choose(items, watch = {}) {
      const who = await inner.version()
      const result: Choice[][] = []
      for (let i = 0; i < items.length; i += PART) {
        const part = items.slice(i, i + PART)
        const onProgress = (done: number): void => watch.onProgress?.(i + done)
        result.push(...(await choosePart(who, part, { ...watch, onProgress })))
      }
      return result
    },
    async write(assignments, watch = {}) {
      const who = await inner.version()
      const result: Written[] = []
      for (let i = 0; i < assignments.length; i += PART) {
        const part = assignments.slice(i, i + PART)
        const onProgress = (done: number): void => watch.onProgress?.(i + done)
        result.push(...(await writePart(who, part, { ...watch, onProgress })))
      }
      return result
    },
  }

  async function writePart(
    who: string,
    assignments: readonly Assignment[],
    { onProgress, signal }: Watch,
  ): Promise<Written[]> {
    const keys = assignments.map(({ messages, maxTokens }) =>
      keyOf(who, 'write', [plain(messages), maxTokens]),
    )
    const answers = await known<Written>(keys)
    const open = answers.flatMap((answer, i) => (answer === null ? [i] : []))
    const done = answers.length - open.length
    hits += done
    if (done > 0) onProgress?.(done)
    const kept: Kept[] = []
    const onAnswer = (n: number, answer: Written): void => {
      if (answer.ok) kept.push({ key: keys[open[n] ?? 0] ?? '', answer })
    }
    try {
      const written = await inner.write(
        open.flatMap((i) => assignments[i] ?? []),
        { signal, onAnswer, onProgress: (n) => onProgress?.(done + n) },
      )
      open.forEach((i, k) => (answers[i] = written[k] ?? null))
    } finally {
      await cache.keep(kept) // also what a stop or an error left behind
    }
    const fresh = new Set(open)
    return answers.map((answer, i) => mark(answer, !fresh.has(i)))
  }

  async function choosePart(
    who: string,
    items: readonly (readonly Question[])[],
    { onProgress, signal }: Watch,
  ): Promise<Choice[][]> {
    const keys = items.map((questions) =>
      questions.map(({ messages, options }) => keyOf(who, 'choose', [plain(messages), options])),
    )
    const found = await known<Choice>(keys.flat())
    let at = 0
    const answers = keys.map(({ length }) => found.slice(at, (at += length)))
    // of each item the places that are open, and the items that have some. A question that comes twice is asked once:
    // a model may round it otherwise beside other questions, and only one answer is kept for the next time
    const seen = new Set<string>()
    const isFirst = (key: string): boolean => !seen.has(key) && seen.add(key).size > 0
    const places = answers.map((item, i) =>
      item.flatMap((known, k) => (known === null && isFirst(keys[i]?.[k] ?? '') ? [k] : [])),
    )
    const open = places.flatMap(({ length }, i) => (length > 0 ? [i] : []))
    hits += found.length - places.flat().length
    const done = items.length - open.length
    if (done > 0) onProgress?.(done)
    const kept: Kept[] = []
    const onAnswer = (n: number, k: number, answer: Choice): void => {
      const item = open[n] ?? 0
      if (answer.ok) kept.push({ key: keys[item]?.[places[item]?.[k] ?? 0] ?? '', answer })
    }
    try {
      const fresh = await inner.choose(
        open.map((i) => (places[i] ?? []).flatMap((k) => items[i]?.[k] ?? [])),
        { signal, onAnswer, onProgress: (n) => onProgress?.(done + n) },
      )
      const asked = new Map<string, Choice>()
      open.forEach((i, n) =>
        places[i]?.forEach((k, at) => {
          const answer = fresh[n]?.[at]
          if (answer !== undefined) asked.set(keys[i]?.[k] ?? '', answer)
        }),
      )
      return answers.map((item, i) =>
        item.map((known, k) =>
          mark(known ?? asked.get(keys[i]?.[k] ?? '') ?? null, places[i]?.includes(k) !== true),
        ),
      )
    } finally {
      await cache.keep(kept) // also what a stop or an error left behind
    }
  }
}

function mark<T extends Choice | Written>(answer: T | null, cached: boolean): T {
  if (answer === null) throw new Error('a respondent left a question without an answer')
  return answer.ok ? { ...answer, cached } : answer
}
