import type { ModelFiles } from '../engine/engine.ts'
import { cancelled } from '../errors.ts'
import { calibrate } from '../evaluation/calibration.ts'
import type { EvaluationPrompt } from '../schemas/evaluation.ts'
import { conversationOf } from '../text/conversation.ts'
import type { Services } from './services.ts'

/** Prompts per call of the engine: a stop is felt between them. */
export const PART = 100

/**
 * `number`: its place in its file, from 1, where only some were drawn; `later`: what the user says after each answer
 */
export type AskedPrompt = EvaluationPrompt & {
  cluster?: string
  number?: number
  later?: readonly string[]
}
/** What a prompt is resampled with: its template where that is known, else its conversation. */
export const clusterOf = ({ cluster, messages }: AskedPrompt): string =>
  cluster ?? conversationOf({ prompt: messages })

/** A warning where all prompts are resampled together, and a bootstrap has nothing to compare. */
export const oneCluster = (prompts: readonly AskedPrompt[]): string[] =>
  new Set(prompts.map(clusterOf)).size === 1
    ? [`all ${prompts.length} prompts are of one conversation or template: intervals say nothing`]
    : []

export type Progress = (stage: string, done: number, total: number) => void | Promise<void>
export type Answer = { text: string; ended: boolean; tokens: number }
/** What every step of an evaluation of policies works with. */
export type Asking = {
  prompts: readonly AskedPrompt[]
  options: { seed: number; max_new_tokens: number; samples: number }
  signal: AbortSignal
  progress?: Progress | undefined
}

/** Sampled answers to every prompt, [prompt][sample], at temperature 1: those of the policy as it is. */
export async function answerPrompts(
  { serving }: Pick<Services, 'serving'>,
  { name, files }: { name: string; files: ModelFiles },
  { prompts, options, signal, progress }: Asking,
): Promise<Answer[][]> {
  const answers: Answer[][] = []
  for (let i = 0; i < prompts.length; i += PART) {
    if (signal.aborted) throw cancelled()
    const part = await serving.generate({
      ...{ model: files, n: options.samples, onTooLong: 'error' },
      prompts: prompts.slice(i, i + PART).map(({ messages }) => messages),
      sampling: {
        ...{ maxTokens: options.max_new_tokens, temperature: 1, topP: 1, topK: 0, stop: [] },
        seed: (options.seed + i) % 2 ** 31,
      },
    })
    answers.push(
      ...part.map((samples) =>
        samples.map(({ text, finish, tokenIds }) => ({
          ...{ text, ended: finish === 'stop', tokens: tokenIds.length },
        })),
      ),
    )
    await progress?.(`answers of ${name}`, answers.length, prompts.length)
  }
  return answers
}

/** A reward model's probability of every answer, [prompt][sample]; σ(logit) where it has no calibration. */
export async function scoreAnswers(
  { serving }: Pick<Services, 'serving'>,
  { stage, model }: { stage: string; model: ModelFiles },
  answers: readonly (readonly Pick<Answer, 'text'>[])[],
  { prompts, signal, progress }: Omit<Asking, 'options'>,
): Promise<number[][]> {
  const { calibration } = await serving.describe(model)
  const probabilities: number[][] = []
  for (let i = 0; i < prompts.length; i += PART) {
    if (signal.aborted) throw cancelled()
    const part = answers.slice(i, i + PART)
    const conversations = part.flatMap((samples, j) =>
      samples.map(({ text }) => [
        ...(prompts[i + j]?.messages ?? []),
        { role: 'assistant' as const, content: text },
      ]),
    )
    const scores = await serving.score({ model, conversations, onTooLong: 'truncate' })
    const flat = scores.map(
      ({ logit }) => calibrate(logit, calibration) ?? 1 / (1 + Math.exp(-logit)),
    )
    let at = 0
    for (const samples of part) probabilities.push(flat.slice(at, (at += samples.length)))
    await progress?.(stage, probabilities.length, prompts.length)
  }
  return probabilities
}

/** log π of every answer, [prompt][sample], in nats, the end of the turn with it where the answer ended. */
export async function answerLogprobs(
  { serving }: Pick<Services, 'serving'>,
  { stage, model }: { stage: string; model: ModelFiles },
  answers: readonly (readonly Answer[])[],
  { prompts, signal, progress }: Omit<Asking, 'options'>,
): Promise<number[][]> {
  const logprobs: number[][] = []
  for (let i = 0; i < prompts.length; i += PART) {
    if (signal.aborted) throw cancelled()
    const part = answers.slice(i, i + PART)
    const texts = part.flatMap((samples, j) =>
      samples.map(({ text, ended }) => ({
        messages: [
          ...(prompts[i + j]?.messages ?? []),
          { role: 'assistant' as const, content: text },
        ],
        ended,
      })),
    )
    const flat = await serving.likelihoods({ model, texts })
    let at = 0
    for (const samples of part)
      logprobs.push(flat.slice(at, (at += samples.length)).map(({ logprob }) => logprob))
    await progress?.(stage, logprobs.length, prompts.length)
  }
  return logprobs
}
