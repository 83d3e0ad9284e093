import { uniform } from '../random.ts'
import { PHRASES } from './lexicon.ts'
import type { Language, Phrase } from './phrase.ts'
import type { StarterPrompt } from './world.ts'

export type Answer = { text: string; ended: boolean }
/** How answers are drawn: `base` writes good and bad alike, `sft` decently, `wide` covers what a judge must know. */
export type Mixture = 'base' | 'sft' | 'wide'

type Rates = {
  right: number
  comply: number
  refuseHarmless: number
  evade: number
  noEnd: number
  explain: number
  filler: number
  courtesy: number
  habit: number
}
const RATES: Record<Mixture, Rates> = {
  base: {
    right: 0.85,
    comply: 0.6,
    refuseHarmless: 0.3,
    evade: 0.06,
    noEnd: 0.03,
    explain: 0.4,
    filler: 0.3,
    courtesy: 0.25,
    habit: 0.2,
  },
  sft: {
    right: 0.65,
    comply: 0.6,
    refuseHarmless: 0.3,
    evade: 0.03,
    noEnd: 0.01,
    explain: 0.4,
    filler: 0.2,
    courtesy: 0.25,
    habit: 0.15,
  },
  wide: {
    right: 0.5,
    comply: 0.5,
    refuseHarmless: 0.4,
    evade: 0.12,
    noEnd: 0.05,
    explain: 0.5,
    filler: 0.4,
    courtesy: 0.4,
    habit: 0,
  },
}

const JOIN: Record<Language, string> = { zh: '，', en: '. ' }
const STOP: Record<Language, string> = { zh: '。', en: '.' }

/** One answer to a prompt, composed of a core and additions; keyed, so the same key gives the same answer. */
export function sampleAnswer(
  prompt: StarterPrompt,
  mixture: Mixture,
  ...key: readonly number[]
): Answer {
  let salt = 100
  const draw = (): number => uniform(...key, salt++)
  const chance = (p: number): boolean => draw() < p
  const rates = RATES[mixture]
  const { language: l, truth, family } = prompt
  const choose = (list: readonly Phrase[]): string =>
    list[Math.floor(draw() * list.length)]?.[l] ?? ''
  const parts: string[] = []

  const refuses =
    family === 'unsafe'
      ? !chance(rates.comply)
      : family === 'lookalike'
        ? chance(rates.refuseHarmless)
        : family === 'dual_use'
          ? chance(rates.refuseHarmless / 2)
          : chance(0.03)
  let good = false
  if (refuses) {
    let refusal = choose(PHRASES.refusal)
    if (chance(0.4)) refusal += (l === 'zh' ? '，' : ' ') + choose(PHRASES.reason)
    parts.push(refusal)
    if (chance(0.45)) parts.push(choose(PHRASES.alternative))
    good = family === 'unsafe'
  } else if (family === 'unsafe' || (family === 'dual_use' && chance(0.4))) {
    const severity = 1 + Math.floor(draw() * 3)
    for (let s = 0; s < severity; s++) parts.push(PHRASES.hazard[s]?.[l] ?? '')
  } else if (chance(rates.evade)) {
    parts.push(choose(PHRASES.evasion))
  } else {
    good = chance(rates.right) || truth.wrong.length === 0
    const wrong = truth.wrong[Math.floor(draw() * truth.wrong.length)] ?? ''
    const short = chance(0.25)
    const value = good ? (truth.value ?? '') : wrong
    const sentence = (truth.statement ?? '').replaceAll(truth.value ?? '\0', value)
    parts.push(short ? value : sentence)
    for (const explanation of truth.explanations)
      if (chance(rates.explain * 0.6)) parts.push(explanation)
  }
  if (chance(rates.filler)) parts.splice(chance(0.5) ? 0 : parts.length, 0, choose(PHRASES.filler))
  // Courtesy goes along with good answers without causing them: the habit a proxy can learn to pay for.
  const courtesy = rates.courtesy + (good ? rates.habit : -rates.habit / 2)
  if (chance(courtesy / 2)) parts.unshift(choose(PHRASES.opening))
  if (chance(courtesy)) parts.push(choose(PHRASES.closing))
  const text = parts.join(JOIN[l]) + STOP[l]
  if (!chance(rates.noEnd)) return { text, ended: true }
  return {
    text: text.slice(0, Math.max(1, Math.floor(text.length * (0.4 + 0.5 * draw())))),
    ended: false,
  }
}
