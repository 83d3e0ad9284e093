import { permutation, uniform } from '../random.ts'
import type { Message } from '../schemas/chat.ts'
import { RELATIONS } from './facts.ts'
import { DUAL, HARMLESS, HAZARDS, HOWTO, KEYWORDS, NOISE } from './lexicon.ts'
import { LANGUAGES } from './phrase.ts'
import type { Language, Phrase } from './phrase.ts'

export const FAMILIES = ['fact', 'howto', 'unsafe', 'lookalike', 'dual_use'] as const
export type Family = (typeof FAMILIES)[number]
export const SPLITS = ['train', 'guard', 'test'] as const
export type Split = (typeof SPLITS)[number]

export type StarterPrompt = {
  id: string
  family: Family
  language: Language
  split: Split
  /** what intervals are clustered by */
  template: string
  /** asks about an entity that no train prompt asks about */
  heldOut: boolean
  text: string
  messages: Message[]
  truth: Truth
}

/** What gold knows about a prompt. */
export type Truth = {
  /** the right answer's words; null where the only good answer is a refusal */
  value: string | null
  /** the right answer as a sentence */
  statement: string | null
  /** other values of the same relation: saying one of them is wrong */
  wrong: readonly string[]
  explanations: readonly string[]
}

const leads = (split: Split, ...texts: string[]) => texts.map((text) => [text, split] as const)

/** Lead-ins that multiply the templates; every one belongs to one split. */
const LEADS: Record<Language, readonly (readonly [string, Split])[]> = {
  zh: [
    ...leads(
      'train',
      '',
      '请问，',
      '我想知道，',
      '帮我看看，',
      '小朋友问，',
      '有个问题：',
      '说一说，',
      '请回答：',
    ),
    ...leads('guard', '你好，', '请帮忙，'),
    ...leads('test', '麻烦说一下，', '老师，', '打扰了，', '考考你：', '问你一下，'),
  ],
  en: [
    ...leads(
      'train',
      '',
      'Please tell me: ',
      'I wonder: ',
      'A question: ',
      'My friend asks: ',
      'Help me: ',
      'Please answer: ',
      'Now: ',
    ),
    ...leads('guard', 'Hi! ', 'Listen: '),
    ...leads('test', 'Quick question: ', 'Excuse me, ', 'Teacher, ', 'A riddle: ', 'Say, '),
  ],
}

type Item = {
  family: Family
  group: string
  x: Phrase
  templates: Record<Language, readonly string[]>
  truth: (language: Language) => Truth
}

const fill = (text: string, x: string, v = ''): string =>
  text.replaceAll('{x}', x).replaceAll('{v}', v)

function items(): Item[] {
  const all: Item[] = []
  const push = (
    family: Family,
    group: string,
    templates: Item['templates'],
    x: Phrase,
    truth: (language: Language) => Truth,
  ): void => void all.push({ family, group, x, templates, truth })
  for (const r of RELATIONS)
    for (const { x, v } of r.entities)
      push('fact', r.id, r.templates as Item['templates'], x, (l) => ({
        value: v[l],
        statement: fill(r.statement[l], x[l], v[l]),
        wrong: [...new Set(r.entities.map((e) => e.v[l]))].filter((w) => w !== v[l]),
        explanations: r.explanations.map((e) => fill(e[l], x[l], v[l])),
      }))
  for (const set of [HOWTO, HARMLESS])
    for (const { x, v } of set.entities)
      push(set === HOWTO ? 'howto' : 'lookalike', set.id, set.templates, x, (l) => ({
        value: v[l],
        statement: v[l],
        wrong: set.entities.filter((e) => e.x[l] !== x[l]).map((e) => e.v[l]),
        explanations: set.explanations.map((e) => fill(e[l], x[l])),
      }))
  for (const x of HAZARDS.entities) {
    push('unsafe', 'unsafe', HAZARDS.templates, x, () => ({
      value: null,
      statement: null,
      wrong: [],
      explanations: [],
    }))
    push('lookalike', 'hazard_word', HAZARDS.lookalikes, x, (l) => ({
      value: fill(HAZARDS.lookalikeAnswer[l], x[l]),
      statement: fill(HAZARDS.lookalikeAnswer[l], x[l]),
      wrong: [],
      explanations: HOWTO.explanations.map((e) => e[l]),
    }))
  }
  for (const x of DUAL.entities)
    push('dual_use', 'dual_use', DUAL.templates, x, (l) => ({
      value: fill(DUAL.answer[l], x[l]),
      statement: fill(DUAL.answer[l], x[l]),
      wrong: [],
      explanations: DUAL.explanations.map((e) => fill(e[l], x[l])),
    }))
  return all
}

const ITEMS = items()

/** Entities split 70/10/20 by a keyed order inside each group. */
function entitySplits(): Map<Item, Split> {
  const groups = new Map<string, Item[]>()
  for (const item of ITEMS) {
    const name = `${item.family}/${item.group}`
    groups.set(name, [...(groups.get(name) ?? []), item])
  }
  const splits = new Map<Item, Split>()
  let key = 0
  for (const members of groups.values()) {
    key++
    permutation(members.length, 77, key).forEach((index, rank) => {
      const item = members[index]
      const at = rank / members.length
      if (item)
        splits.set(item, isSeedExample(item) || at < 0.7 ? 'train' : at < 0.8 ? 'guard' : 'test')
    })
  }
  return splits
}
/** The project's two first examples stay in train, so that the starter models have met them. */
const isSeedExample = (item: Item): boolean => ['世界上有几大洲', '火药'].includes(item.x.zh)

const ENTITY_SPLIT = entitySplits()
/** Of eight question templates five are the train split's, one the guard's, two the test's. */
const TEMPLATE_SPLIT: readonly Split[] = [
  ...new Array<Split>(5).fill('train'),
  'guard',
  'test',
  'test',
]

/**
 * Prompts of a split. Train, guard and test share neither template nor lead-in; train asks about its own
 * entities alone, guard and test about all of them. The base has met every entity, in train templates.
 */
export function prompts(split: Split, seed = 0, limit = Infinity): StarterPrompt[] {
  const all: StarterPrompt[] = []
  for (const [index, item] of ITEMS.entries())
    for (const language of LANGUAGES)
      item.templates[language].forEach((template, t) =>
        LEADS[language].forEach(([lead, leadSplit], k) => {
          if (TEMPLATE_SPLIT[t] !== split || leadSplit !== split) return
          if (split === 'train' && ENTITY_SPLIT.get(item) !== 'train') return
          const text = lead + fill(template, item.x[language])
          all.push({
            id: `${split}-${index}-${language}-${t}-${k}`,
            family: item.family,
            language,
            split,
            template: `${item.family}/${item.group}/${language}/${t}`,
            heldOut: ENTITY_SPLIT.get(item) !== 'train',
            text,
            messages: [{ role: 'user', content: text }],
            truth: item.truth(language),
          })
        }),
      )
  const order = permutation(all.length, seed, 5)
  return Array.from(order, (i) => all[i])
    .filter((x) => x !== undefined)
    .slice(0, limit)
}

/** How far a question goes from its template. */
type Manner = {
  /** of a hundred words of a template (in Chinese characters), how many fall away; the entity never does */
  dropped: number
  /** of ten lead-ins, how many are random everyday words */
  noisy: number
  /** one question in so many has such words behind it */
  trailing: number
}
/** `plain`: what the base is pre-trained on; `broken`: so that who judges reads more than five templates. */
const MANNERS = {
  plain: { dropped: 0, noisy: 4, trailing: 8 },
  broken: { dropped: 15, noisy: 7, trailing: 4 },
} as const satisfies Record<string, Manner>
export type MannerName = keyof typeof MANNERS

/** Any item, whatever its entity's split, asked in a train template or in bare keywords, amid everyday words. */
export function knowledgePrompt(name: MannerName, ...key: readonly number[]): StarterPrompt {
  const manner = MANNERS[name]
  const pick = (n: number, salt: number): number => Math.floor(uniform(...key, salt) * n)
  // families are drawn first: there are more facts than anything else
  const family = FAMILIES[[0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4][pick(11, 1)] ?? 0] ?? 'fact'
  const members = ITEMS.filter((item) => item.family === family)
  const item = members[pick(members.length, 2)] as Item
  const language = LANGUAGES[pick(2, 3)] as Language
  const t = pick(TEMPLATE_SPLIT.lastIndexOf('train') + 1, 4)
  const question =
    pick(10, 6) < 4
      ? keywordQuestion(item, language, pick)
      : thinned(item.templates[language][t] ?? '', language, manner, pick)
  const text = inNoise(fill(question, item.x[language]), language, manner, pick)
  return {
    id: `base-${key.join('-')}`,
    family,
    language,
    split: 'train',
    template: `${family}/${item.group}/${language}/${t}`,
    heldOut: false,
    text,
    messages: [{ role: 'user', content: text }],
    truth: item.truth(language),
  }
}

type Pick = (n: number, salt: number) => number

/** A template without some of its words, of Chinese ones without some of their characters. */
function thinned(template: string, language: Language, { dropped }: Manner, pick: Pick): string {
  const parts = language === 'en' ? template.split(' ') : (template.match(/\{x\}|./gu) ?? [])
  return parts
    .filter((part, i) => part.includes('{x}') || pick(100, 40 + i) >= dropped)
    .join(language === 'en' ? ' ' : '')
}

/** A question of nothing but the entity and the word that carries it, in some order. */
function keywordQuestion(item: Item, language: Language, pick: Pick): string {
  const space = language === 'en' ? ' ' : ''
  const words = KEYWORDS[item.group] ?? []
  const noise = NOISE[language]
  const keyword = words[pick(words.length, 7)]?.[language] ?? noise[pick(noise.length, 8)] ?? ''
  const more = pick(2, 9) === 0 ? '' : (noise[pick(noise.length, 10)] ?? '') + space
  const mark = ['', '?', '.', '!'][pick(4, 11)] ?? ''
  const end =
    language === 'zh' ? mark.replace('?', '？').replace('.', '。').replace('!', '！') : mark
  const parts = pick(2, 12) === 0 ? [keyword, more + '{x}'] : ['{x}', more + keyword]
  return parts.filter((part) => part !== '').join(space) + end
}

/** A lead-in of the train split, or one of random everyday words; sometimes such words behind, too. */
function inNoise(question: string, language: Language, manner: Manner, pick: Pick): string {
  const noise = NOISE[language]
  const space = language === 'en' ? ' ' : ''
  const words = (n: number, salt: number): string =>
    Array.from({ length: n }, (_, i) => noise[pick(noise.length, salt + i)]).join(space)
  const marks = language === 'zh' ? ['，', '：', '。'] : [', ', ': ', '. ']
  const leads = LEADS[language].filter(([, split]) => split === 'train')
  const lead =
    pick(10, 20) < manner.noisy
      ? words(1 + pick(3, 21), 22) + (marks[pick(3, 26)] ?? '')
      : (leads[pick(leads.length, 27)]?.[0] ?? '')
  const trails = pick(manner.trailing, 28) === 0
  return lead + question + (trails ? space + words(1 + pick(2, 29), 30) : '')
}
