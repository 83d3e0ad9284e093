import type { Comparison } from '../judging/judge.ts'
import type { Message } from '../schemas/chat.ts'
import type { Axis } from '../schemas/feedback.ts'
import type { ModelFiles } from '../engine/engine.ts'
import { answerPrompts, clusterOf } from './policy-answers.ts'
import type { Answer, AskedPrompt, Asking } from './policy-answers.ts'
import type { Services } from './services.ts'

/** Conversations of several turns: what the user says later follows the policy's own answer, so each policy has its own. */

/** One turn of a prompt's conversation, as one policy was asked it. */
export type AskedTurn = AskedPrompt & {
  /** the place of the prompt among all */
  question: number
  /** from 1 */
  turn: number
}
/** What a policy was asked and said: its turns, those of one conversation behind each other, and [turn][sample]. */
export type Conversed = { asked: AskedTurn[]; answers: Answer[][] }

/** Between the draws of two turns: the same prompt again must not be answered by the same draws. */
const SEEDS_APART = 2_000_003

/**
 * Every prompt is asked, and after it what the user says later, each time after the first of the answers before it.
 * `ask` answers one turn of all conversations that have it.
 */
export async function converse(
  asking: Asking,
  ask: (
    asking: Omit<Asking, 'prompts'> & { prompts: AskedTurn[] },
    turn: number,
  ) => Promise<Answer[][]>,
): Promise<Conversed> {
  const talks = asking.prompts.map((prompt, question) => ({
    ...{ prompt, question, messages: prompt.messages as readonly Message[] },
    turns: [] as { asked: AskedTurn; answers: Answer[] }[],
  }))
  for (let turn = 1; ; turn++) {
    const open = talks.filter(({ prompt }) => turn <= 1 + (prompt.later?.length ?? 0))
    if (open.length === 0) break
    const prompts = open.map(({ prompt, question, messages }): AskedTurn => {
      const said = prompt.later?.[turn - 2]
      const asked = said === undefined ? [] : [{ role: 'user' as const, content: said }]
      return {
        ...{ ...prompt, messages: [...messages, ...asked], question, turn },
        cluster: clusterOf(prompt),
      }
    })
    const seed = (asking.options.seed + (turn - 1) * SEEDS_APART) % 2 ** 31
    const given = await ask({ ...asking, prompts, options: { ...asking.options, seed } }, turn)
    open.forEach((talk, i) => {
      const [asked, answers] = [prompts[i], given[i] ?? []]
      if (asked === undefined) return
      talk.turns.push({ asked, answers })
      talk.messages = [...asked.messages, { role: 'assistant', content: answers[0]?.text ?? '' }]
    })
  }
  const turns = talks.flatMap((talk) => talk.turns)
  return { asked: turns.map(({ asked }) => asked), answers: turns.map(({ answers }) => answers) }
}

/** Who is asked, as progress tells it. */
export const askedOf = (name: string, turn: number): string =>
  turn === 1 ? name : `${name}, turn ${turn}`

/** A policy as it is, asked every turn. */
export const answerTurns = (
  services: Pick<Services, 'serving'>,
  { name, files }: { name: string; files: ModelFiles },
  asking: Asking,
): Promise<Conversed> =>
  converse(asking, (one, turn) =>
    answerPrompts(services, { name: askedOf(name, turn), files }, one),
  )

/**
 * Two policies' answers to the i-th turn as a judge compares them: after what was said in both conversations, how each
 * went on.
 */
export function comparisonOf(
  axis: Axis,
  a: Conversed,
  b: Conversed,
  { turn: i, sample = 0 }: { turn: number; sample?: number },
): Comparison {
  const side = ({ asked, answers }: Conversed) => ({
    ...{ messages: asked[i]?.messages ?? [], text: answers[i]?.[sample]?.text ?? '' },
  })
  const [first, second] = [side(a), side(b)]
  const same = first.messages.findIndex(({ role, content }, k) => {
    const other = second.messages[k]
    return role !== other?.role || content !== other.content
  })
  if (same < 0) return { axis, prompt: first.messages, a: first.text, b: second.text }
  const since = ({ messages, text }: typeof first): Message[] => [
    ...messages.slice(same),
    { role: 'assistant', content: text },
  ]
  return { axis, prompt: first.messages.slice(0, same), a: since(first), b: since(second) }
}

/** With a system turn before everything. */
export const withSystem = <T extends AskedPrompt>(prompts: readonly T[], content: string): T[] =>
  prompts.map((prompt) => ({
    ...prompt,
    messages: [{ role: 'system', content }, ...prompt.messages],
  }))
