import { uniform } from '../random.ts'
import type { Message } from '../schemas/chat.ts'
import { sampleAnswer } from './answers.ts'
import type { Mixture } from './answers.ts'
import { knowledgePrompt, prompts } from './world.ts'

export type StarterDialogue = { messages: Message[]; ended: boolean }

/** Dialogues of the base's pre-training: every fact, good and bad answers alike. */
export function pretrainDialogues(seed: number, n: number): StarterDialogue[] {
  return Array.from({ length: n }, (_, i) =>
    dialogue(knowledgePrompt('plain', seed, 1, i), 'base', seed, 2, i),
  )
}

/** Decent, imperfect demonstrations on train prompts. */
export function sftDialogues(seed: number, n: number): StarterDialogue[] {
  const pool = prompts('train', seed)
  return Array.from({ length: n }, (_, i) =>
    dialogue(
      pool[Math.floor(uniform(seed, 7, i) * pool.length)] ?? knowledgePrompt('plain', seed, i),
      'sft',
      seed,
      3,
      i,
    ),
  )
}

function dialogue(
  prompt: ReturnType<typeof knowledgePrompt>,
  mixture: Mixture,
  ...key: number[]
): StarterDialogue {
  const { text, ended } = sampleAnswer(prompt, mixture, ...key)
  return { messages: [...prompt.messages, { role: 'assistant', content: text }], ended }
}
