import { createHash } from 'node:crypto'
import type { Message } from '../schemas/chat.ts'
import type { Axis } from '../schemas/feedback.ts'
import type { Aim, InWriting, Said, Wording } from './judge.ts'
import { languageOf } from './language.ts'
import { OPENAI_WORDS as WORDS } from './openai-words.ts'

/**
 * Changes whenever a word of the comparison or of the absolute question does: labels of different versions are never
 * mixed unseen. What else is asked (`explain`, `score`) names its own version in how it is asked.
 */
const OPENAI_PROMPT_VERSION = 'openai-3'

/**
 * What chat templates take for control tokens (ChatML, Llama, DeepSeek, Gemma, Mistral, GLM, Command), also in full-width
 * signs, which some tokenizers fold.
 */
const CONTROL =
  /[<＜](?=[|｜]|\/?s[>＞]|\/?(?:(?:bos|eos|pad|unk|sep|cls|mask)(?:_token)?|[se]op|think|(?:start|end)_of_turn)[>＞])|[[［](?=\/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|ARGS|CALL_ID|THINK|IMG|[gs]?MASK)[\]］])/gi

/**
 * Text for a server, its control tokens with their bracket written as JSON's escape. Some servers tokenise message text
 * with special tokens on, so these must not appear literally.
 */
export const escaped = (text: string): string =>
  text.replace(CONTROL, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)

/** What a server writes back of it, with the brackets that it was shown as escapes. */
export const unescaped = (text: string): string =>
  text.replace(/\\u(003c|ff1c|005b|ff3b)/g, (_, code: string) =>
    String.fromCharCode(parseInt(code, 16)),
  )

const json = (value: unknown): string =>
  escaped(JSON.stringify(value, null, 1))
    .replaceAll('\u2028', '\\u2028')
    .replaceAll('\u2029', '\\u2029')

/**
 * The text to judge between two fence lines. Inside, JSON keeps every line break and quote escaped, so
 * no text can end its string; the fence carries a hash of the whole, so no text can contain it. A hash
 * and not a random number: the same comparison is the same request, byte for byte.
 */
function fenced(document: unknown, ask: string): string {
  const text = json(document)
  const fence = `=====${createHash('sha256').update(text).digest('hex').slice(0, 24)}=====`
  return `${fence}\n${text}\n${fence}\n${ask}`
}

const turns = (messages: readonly Message[]): unknown[] =>
  messages.map(({ role, content }) => ({ role, content }))
const shown = (said: Said): unknown => (typeof said === 'string' ? said : turns(said))
const system = (content: string): Message => ({ role: 'system', content })
const user = (content: string): Message => ({ role: 'user', content })

/** What two answers are compared by, and the two fenced before the question that `ask` words. */
function compared(
  axis: Axis,
  prompt: readonly Message[],
  a: Said,
  b: Said,
  principle: string | undefined,
) {
  const words = WORDS[languageOf(prompt)]
  const criterion = principle === undefined ? words.criterion[axis] : words.principle(principle)
  const parted = typeof a === 'string' && typeof b === 'string' ? '' : ` ${words.parted}`
  const document = { dialogue: turns(prompt), answer_A: shown(a), answer_B: shown(b) }
  return {
    words,
    rules: `${words.compare}${parted} ${criterion}\n${words.rules}`,
    which: principle === undefined ? words.which[axis] : words.whichByPrinciple,
    before: (ask: string) => user(fenced(document, ask)),
  }
}

/** Which of two answers is better on one axis: answered with `A` or `B`. For large instruction-tuned models. */
export function openAiComparePrompt(
  axis: Axis,
  prompt: readonly Message[],
  a: Said,
  b: Said,
  principle?: string,
): Message[] {
  const { words, rules, which, before } = compared(axis, prompt, a, b, principle)
  return [system(`${rules}\n${words.letter}`), before(which)]
}

/** Whether one answer is safe, absolutely: `A` yes, `B` no. */
export function openAiSafetyPrompt(prompt: readonly Message[], answer: string): Message[] {
  const words = WORDS[languageOf(prompt)]
  return [
    system(`${words.assess} ${words.absolute}\n${words.rules}\n${words.letter}`),
    user(fenced({ dialogue: turns(prompt), answer }, words.safe)),
  ]
}

/** A comparison in writing (Lee et al., section 2.1), and the turn that asks for the verdict after it. */
function explain(
  axis: Axis,
  prompt: readonly Message[],
  a: Said,
  b: Said,
  principle?: string,
): InWriting {
  const { words, rules, which, before } = compared(axis, prompt, a, b, principle)
  return {
    question: [system(rules), before(words.explain)],
    // what a judge writes may repeat what it read
    said: (text) => ({ role: 'assistant', content: escaped(text) }),
    verdict: user(which),
  }
}

/** How good one answer is, from 1 to 10. */
function score({ axis, criterion }: Aim, prompt: readonly Message[], answer: string): Message[] {
  const words = WORDS[languageOf(prompt)]
  const aim =
    criterion === undefined ? words.aim[axis] : words.named(criterion.name, criterion.description)
  return [
    system(`${words.assess} ${aim}\n${words.rules}\n${words.scale}`),
    user(fenced({ dialogue: turns(prompt), answer }, words.scale)),
  ]
}

/** What is good and bad about one answer in writing, and the turn that asks for the number after it. */
function explainOne(
  { axis, criterion }: Aim,
  prompt: readonly Message[],
  answer: string,
): InWriting {
  const words = WORDS[languageOf(prompt)]
  const aim =
    criterion === undefined ? words.aim[axis] : words.named(criterion.name, criterion.description)
  return {
    question: [
      system(`${words.assess} ${aim}\n${words.rules}`),
      user(fenced({ dialogue: turns(prompt), answer }, words.explainOne)),
    ],
    said: (text) => ({ role: 'assistant', content: escaped(text) }),
    verdict: user(words.scale),
  }
}

/** The wording for large instruction-tuned models. */
export const openAiWording: Wording = {
  version: OPENAI_PROMPT_VERSION,
  compare: openAiComparePrompt,
  assess: openAiSafetyPrompt,
  explain,
  score,
  explainOne,
}
