/** Words that must be met in a row: as many as GPT-3's check took (Brown et al. 2020, appendix C). */
export const GRAM = 13

/** Words in lower case and one writing (NFKC), without marks; of Chinese each character. */
const wordsOf = (text: string): string[] =>
  text
    .normalize('NFKC')
    .toLowerCase()
    .match(/\p{Script=Han}|[\p{L}\p{N}']+/gu) ?? []

/**
 * Which prompts were seen in training: those that share `GRAM` words in a row with a training text. Of a prompt that
 * is shorter the whole must be a training text: a run of a few words proves nothing. prompts [n] → [n]
 */
export function seenInTraining(prompts: readonly string[], training: Iterable<string>): boolean[] {
  const askedBy = new Map<string, number[]>()
  const want = (key: string, prompt: number): void =>
    void askedBy.set(key, [...(askedBy.get(key) ?? []), prompt])
  prompts.forEach((prompt, i) => {
    const words = wordsOf(prompt)
    if (words.length >= GRAM) for (const gram of grams(words)) want(gram, i)
    else if (words.length > 0) want(`whole ${words.join(' ')}`, i)
  })
  const seen = prompts.map(() => false)
  const meet = (key: string): void => {
    for (const prompt of askedBy.get(key) ?? []) seen[prompt] = true
  }
  for (const text of training) {
    const words = wordsOf(text)
    if (words.length < GRAM) meet(`whole ${words.join(' ')}`)
    else for (const gram of grams(words)) meet(gram)
  }
  return seen
}

const grams = (words: readonly string[]): string[] =>
  words.slice(GRAM - 1).map((_, i) => words.slice(i, i + GRAM).join(' '))
