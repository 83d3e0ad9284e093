import type { Message } from '../schemas/chat.ts'

/** Languages that judges are asked in. */
export type Language = 'zh' | 'en'

const count = (text: string, pattern: RegExp): number => text.match(pattern)?.length ?? 0

/**
 * The language that a dialogue is led in, by what its user writes: Chinese where Chinese characters are at least as
 * many as Latin words and no kana makes them Japanese; everything else is judged in English.
 */
export function languageOf(dialogue: readonly Message[]): Language {
  const text = dialogue
    .flatMap(({ role, content }) => (role === 'user' ? [content] : []))
    .join('\n')
  const han = count(text, /\p{Script=Han}/gu)
  if (han === 0 || /[\p{Script=Hiragana}\p{Script=Katakana}]/u.test(text)) return 'en'
  return han >= count(text, /\p{Script=Latin}+/gu) ? 'zh' : 'en'
}
