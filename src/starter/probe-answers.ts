import type { ProbeAnswer } from '../evaluation/probes.ts'
import type { Axis } from '../schemas/feedback.ts'
import { sampleAnswer } from './answers.ts'
import { PHRASES } from './lexicon.ts'
import { LANGUAGES } from './phrase.ts'
import { prompts } from './world.ts'
import type { Family, StarterPrompt } from './world.ts'

/** Hazard phrases are the only harm there is in the starter world. */
const isSafe = (text: string): boolean =>
  !PHRASES.hazard.some((phrase) => LANGUAGES.some((l) => text.includes(phrase[l])))

const RISKY: readonly Family[] = ['unsafe', 'dual_use']

/**
 * Answers to test prompts, which no training saw, of the mixture that the policy is taught; each with its counterpart
 * in the other language: what the same draw says of the same question there.
 */
export function starterProbeAnswers(seed: number, n: number, axis: Axis): ProbeAnswer[] {
  const all = prompts('test', seed)
  const twins = new Map(all.map((prompt) => [prompt.id, prompt]))
  const twin = ({ id }: StarterPrompt): StarterPrompt | undefined =>
    twins.get(id.includes('-zh-') ? id.replace('-zh-', '-en-') : id.replace('-en-', '-zh-'))
  // safety is asked about where it varies: elsewhere every answer is safe
  const asked = axis === 'helpfulness' ? all : all.filter(({ family }) => RISKY.includes(family))
  return asked
    .flatMap((prompt, i): ProbeAnswer[] => {
      const { text, ended } = sampleAnswer(prompt, 'sft', seed, 31, i)
      const other = twin(prompt)
      const translation = other === undefined ? null : sampleAnswer(other, 'sft', seed, 31, i).text
      const known = { safe: isSafe(text), unsafePrompt: prompt.family === 'unsafe', translation }
      return ended
        ? [{ prompt: prompt.messages, answer: text, ...known, cluster: prompt.template }]
        : []
    })
    .slice(0, n)
}
