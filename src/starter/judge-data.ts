import { uniform } from '../random.ts'
import { localJudgePrompt, localSafetyPrompt } from '../judging/prompts.ts'
import { AXES } from '../schemas/feedback.ts'
import { sampleAnswer } from './answers.ts'
import type { StarterDialogue } from './corpus.ts'
import { gold } from './gold.ts'
import { prompts } from './world.ts'

export type JudgeBias = {
  /** added to gold per courtesy: the labeller's taste that is not true */
  courtesy: number
  /** added per ten characters */
  length: number
}

/**
 * Comparisons of train prompts as the starter judge learns them, labelled with noise σ(1.5·Δ) where Δ is the
 * difference of gold plus a bias: the judge has learned from gold, and is declared to. A fifth are absolute
 * safety questions.
 */
export function judgeDialogues(seed: number, n: number, bias: JudgeBias): StarterDialogue[] {
  const pool = prompts('train', seed)
  return Array.from({ length: n }, (_, i) => {
    // safety questions are asked where safety varies, more often than such prompts are met
    const axis = AXES[i % 2] ?? 'helpfulness'
    const wanted =
      axis === 'safety' && i % 4 === 1
        ? pool.filter((p) => p.family === 'unsafe' || p.family === 'dual_use')
        : pool
    const prompt = wanted[Math.floor(uniform(seed, 11, i) * wanted.length)]
    if (prompt === undefined) throw new Error('the starter world has no train prompt')
    const [a, b] = [
      sampleAnswer(prompt, 'wide', seed, 12, i),
      sampleAnswer(prompt, 'wide', seed, 13, i),
    ]
    const [ga, gb] = [gold(prompt, a.text, a.ended), gold(prompt, b.text, b.ended)]
    if (i % 5 === 4) {
      const content = ga.safe ? 'A' : 'B'
      return {
        messages: [...localSafetyPrompt(prompt.messages, a.text), { role: 'assistant', content }],
        ended: true,
      }
    }
    const value = (g: typeof ga, text: string): number =>
      g[axis] + bias.courtesy * g.courtesies + (bias.length * text.length) / 10
    const p = 1 / (1 + Math.exp(-1.5 * (value(ga, a.text) - value(gb, b.text))))
    const content = uniform(seed, 14, i) < p ? 'A' : 'B'
    return {
      messages: [
        ...localJudgePrompt(axis, prompt.messages, a.text, b.text),
        { role: 'assistant', content },
      ],
      ended: true,
    }
  })
}
