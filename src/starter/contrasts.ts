import { uniform } from '../random.ts'
import type { Axis } from '../schemas/feedback.ts'
import { PHRASES } from './lexicon.ts'
import type { Language, Phrase } from './phrase.ts'
import { prompts } from './world.ts'
import type { Family, StarterPrompt } from './world.ts'

/** Two answers that differ in one thing, the better first. */
export type Contrast = {
  type: string
  axis: Axis
  prompt: StarterPrompt
  better: string
  worse: string
}

const JOIN: Record<Language, string> = { zh: '，', en: '. ' }
const STOP: Record<Language, string> = { zh: '。', en: '.' }
/** One of a list, by the pair's key and a salt of its own. */
type Draw = <T>(list: readonly T[], salt: number) => T | undefined
type Pick = (list: readonly Phrase[], salt: number) => string
type Parts = readonly (string | undefined)[]
type Made = { better: Parts; worse: Parts } | null
type Kind = {
  axis: Axis
  families: readonly Family[]
  of(prompt: StarterPrompt, pick: Pick, draw: Draw): Made
}

/** Answers to the question; a prompt whose truth has no such piece makes no pair. */
const answered: readonly Family[] = ['fact', 'howto', 'lookalike']
const hazard = ({ language }: StarterPrompt, severity: number): string[] =>
  PHRASES.hazard.slice(0, severity).map((phrase) => phrase[language])
const statement = ({ truth }: StarterPrompt, value = truth.value): string | null =>
  truth.statement === null || truth.value === null || value === null
    ? null
    : truth.statement.replaceAll(truth.value, value)

/** What is said beside a right answer, in the better of the two or in the worse. */
const beside =
  (better: (pick: Pick) => Parts, worse: (pick: Pick) => Parts): Kind['of'] =>
  (prompt, pick) => {
    const right = statement(prompt)
    if (right === null) return null
    return { better: [right, ...better(pick)], worse: [right, ...worse(pick)] }
  }

const KINDS: Readonly<Record<string, Kind>> = {
  'right, not wrong': {
    ...{ axis: 'helpfulness', families: answered },
    of(prompt, _, draw) {
      const value = draw(prompt.truth.wrong, 1) ?? null
      const [right, wrong] = [statement(prompt), statement(prompt, value)]
      return right === null || wrong === null ? null : { better: [right], worse: [wrong] }
    },
  },
  'an answer, not an evasion': {
    ...{ axis: 'helpfulness', families: answered },
    of: (prompt, pick) => ({
      better: [statement(prompt) ?? undefined],
      worse: [pick(PHRASES.evasion, 1)],
    }),
  },
  'an answer, not a needless refusal': {
    ...{ axis: 'helpfulness', families: ['lookalike'] },
    of: (prompt, pick) => ({
      better: [statement(prompt) ?? undefined],
      worse: [pick(PHRASES.refusal, 1)],
    }),
  },
  'with an explanation': {
    ...{ axis: 'helpfulness', families: answered },
    of(prompt) {
      const [[explanation], right] = [prompt.truth.explanations, statement(prompt)]
      if (explanation === undefined || right === null) return null
      return { better: [right, explanation], worse: [right] }
    },
  },
  'without filler': {
    ...{ axis: 'helpfulness', families: answered },
    of: beside(
      () => [],
      (pick) => [pick(PHRASES.filler, 1)],
    ),
  },
  'one courtesy, not none': {
    ...{ axis: 'helpfulness', families: answered },
    of: beside(
      (pick) => [pick(PHRASES.closing, 1)],
      () => [],
    ),
  },
  'no courtesy, not four': {
    ...{ axis: 'helpfulness', families: answered },
    of(prompt) {
      const right = statement(prompt)
      const all = [...PHRASES.closing, ...PHRASES.closing].map((phrase) => phrase[prompt.language])
      return right === null ? null : { better: [right], worse: [right, ...all] }
    },
  },
  'with an alternative to what is refused': {
    ...{ axis: 'helpfulness', families: ['unsafe'] },
    of(_, pick) {
      const refusal = pick(PHRASES.refusal, 1)
      return { better: [refusal, pick(PHRASES.alternative, 2)], worse: [refusal] }
    },
  },
  'a refusal, not a recipe': {
    ...{ axis: 'safety', families: ['unsafe'] },
    of: (prompt, pick) => ({ better: [pick(PHRASES.refusal, 1)], worse: hazard(prompt, 2) }),
  },
  'a short recipe, not a whole one': {
    ...{ axis: 'safety', families: ['unsafe', 'dual_use'] },
    of: (prompt) => ({ better: hazard(prompt, 1), worse: hazard(prompt, 3) }),
  },
}

/** A pair of one kind, or null where this prompt makes none. */
function make(type: string, kind: Kind, prompt: StarterPrompt, ...key: number[]): Contrast | null {
  const { language } = prompt
  if (!kind.families.includes(prompt.family)) return null
  const draw: Draw = (list, salt) => list[Math.floor(uniform(...key, salt) * list.length)]
  const pick: Pick = (list, salt) => draw(list, salt)?.[language] ?? ''
  const said = (parts: Parts): string => parts.join(JOIN[language]) + STOP[language]
  const made = kind.of(prompt, pick, draw)
  if (made === null || [...made.better, ...made.worse].includes(undefined)) return null
  return { type, axis: kind.axis, prompt, better: said(made.better), worse: said(made.worse) }
}

/** At most `n` pairs of each type on test prompts, drawn from the seed: which answer is better is so by construction. */
export function contrasts(seed: number, n: number): Contrast[] {
  const pool = prompts('test', seed)
  return Object.entries(KINDS).flatMap(([type, kind], k) => {
    const pairs: Contrast[] = []
    for (const [i, prompt] of pool.entries()) {
      if (pairs.length === n) break
      const pair = make(type, kind, prompt, seed, 60 + k, i)
      if (pair !== null) pairs.push(pair)
    }
    return pairs
  })
}

/** A pair on a prompt, of a kind that the key draws among those of the axis; null where the prompt makes none of it. */
export function contrastOf(prompt: StarterPrompt, axis: Axis, ...key: number[]): Contrast | null {
  const kinds = Object.entries(KINDS).filter(
    ([, kind]) => kind.axis === axis && kind.families.includes(prompt.family),
  )
  const [type, kind] = kinds[Math.floor(uniform(...key, 0) * kinds.length)] ?? []
  return type === undefined || kind === undefined ? null : make(type, kind, prompt, ...key)
}
