import type { Engine, ModelFiles } from '../engine/engine.ts'
import { cancelled, LibraError } from '../errors.ts'
import type { Message } from '../schemas/chat.ts'
import type { CompareBy } from '../schemas/judging.ts'
import { createJudge } from './judge.ts'
import type { Judge } from './judge.ts'
import { localWording } from './prompts.ts'
import type { Clip } from './prompts.ts'
import { failed, noUsage, OVER_BUDGET } from './respondent.ts'
import type { Choice, Question, Respondent, Written } from './respondent.ts'

/** Below this the options have so little mass that the model is not answering the question. */
const OPTION_MASS_FLOOR = 0.5
/** Items per call of the engine, so that progress shows and a stop is felt. */
const CHUNK = 128
const TOO_LONG = failed('too_long', "the question does not fit the judge's context")

/**
 * A causal model of this process: the soft label is the softmax over the log-probabilities of the options. Of what it
 * uses up requests alone are counted.
 */
export function createLocalRespondent(
  engine: Engine,
  model: ModelFiles,
  name: string,
  budget: { requests?: number | undefined } = {},
): Respondent {
  const used = noUsage()
  const reserve = (requests: number): boolean => {
    const enough = used.requests + requests <= (budget.requests ?? Infinity)
    if (enough) used.requests += requests
    return enough
  }
  const version = async (): Promise<string> => (await engine.describe(model)).version

  /** Questions with the same options go to the engine together. */
  async function answer(questions: readonly Question[]): Promise<Choice[]> {
    const choices = new Array<Choice>(questions.length).fill(TOO_LONG)
    const groups = new Map<string, number[]>()
    questions.forEach(({ options }, i) => {
      const key = JSON.stringify(options)
      groups.set(key, [...(groups.get(key) ?? []), i])
    })
    for (const members of groups.values()) {
      const options = questions[members[0] ?? 0]?.options ?? []
      const prompts = members.map((i) => questions[i]?.messages ?? [])
      const rows = await engine.optionLogprobs({ model, prompts, options })
      members.forEach((i, k) => {
        const row = rows[k]
        if (row !== null && row !== undefined) choices[i] = choiceOf(row)
      })
    }
    return choices
  }

  /** Decoded greedily: the same words each time. */
  async function writeOne(messages: readonly Message[], maxTokens: number): Promise<Written> {
    const sampling = { maxTokens, temperature: 0, topP: 1, topK: 0, seed: 0, stop: [] }
    try {
      const answers = await engine.generate({
        ...{ model, prompts: [messages], n: 1, onTooLong: 'error', sampling },
      })
      const [answer] = answers[0] ?? []
      return {
        ok: true,
        text: answer?.text ?? '',
        ...(answer?.finish === 'length' && { cut: true }),
      }
    } catch (error) {
      if (error instanceof LibraError && error.code === 'context_length_exceeded') return TOO_LONG
      throw error
    }
  }

  return {
    name,
    version,
    usage: () => ({ ...used }),
    async choose(items, { onProgress, onAnswer, signal } = {}) {
      const choices: Choice[][] = []
      for (let i = 0; i < items.length; i += CHUNK) {
        if (signal?.aborted) throw cancelled()
        const part = items.slice(i, i + CHUNK)
        const granted = part.map(({ length }) => reserve(length))
        const answers = await answer(part.filter((_, k) => granted[k]).flat())
        let at = 0
        for (const [k, questions] of part.entries()) {
          const mine: Choice[] =
            granted[k] === true
              ? answers.slice(at, (at += questions.length))
              : questions.map(() => OVER_BUDGET)
          mine.forEach((choice, place) => onAnswer?.(choices.length, place, choice))
          choices.push(mine)
        }
        onProgress?.(choices.length)
      }
      return choices
    },
    async write(assignments, { onProgress, onAnswer, signal } = {}) {
      const texts: Written[] = []
      const { contextLength } = await engine.describe(model)
      for (const { messages, maxTokens } of assignments) {
        if (signal?.aborted) throw cancelled()
        const text = !reserve(1)
          ? OVER_BUDGET
          : maxTokens >= contextLength
            ? TOO_LONG
            : await writeOne(messages, maxTokens)
        onAnswer?.(texts.length, text)
        texts.push(text)
        onProgress?.(texts.length)
      }
      return texts
    },
  }
}

function choiceOf(logprobs: readonly number[]): Choice {
  const masses = logprobs.map(Math.exp)
  const mass = masses.reduce((sum, p) => sum + p, 0)
  return mass >= OPTION_MASS_FLOOR
    ? { ok: true, soft: true, probabilities: masses.map((p) => p / mass) }
    : failed('unparseable', `the options together have a probability below ${OPTION_MASS_FLOOR}`)
}

/**
 * A causal model as judge with the short wording that models of any size can be taught (Lee et al. 2023, section 2).
 * `absolute: false`: the model was never taught to judge the safety of a single answer, and is not asked.
 */
export const createLocalJudge = (
  engine: Engine,
  model: ModelFiles,
  name: string,
  { by, ...options }: { clip?: Clip; absolute?: boolean; by?: CompareBy } = {},
): Judge => createJudge(createLocalRespondent(engine, model, name), localWording(options), { by })
