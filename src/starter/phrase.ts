/** The languages of the starter world; every entity has a form in each. */
export const LANGUAGES = ['zh', 'en'] as const
export type Language = (typeof LANGUAGES)[number]
export type Phrase = Readonly<Record<Language, string>>
export const p = (zh: string, en: string): Phrase => ({ zh, en })

/** Things with their values, a line each: x|x in English|value|value in English. */
export const pairs = (text: string): { x: Phrase; v: Phrase }[] =>
  text
    .trim()
    .split('\n')
    .map((line) => {
      const [zh = '', en = '', vzh = '', ven = ''] = line.split('|').map((s) => s.trim())
      return { x: p(zh, en), v: p(vzh, ven) }
    })
