import { AXES } from '../schemas/feedback.ts'
import type { Axis } from '../schemas/feedback.ts'
import { COLOURS, escape } from './report-charts.ts'
import type { Interval } from './statistics.ts'

/** The votes on what a loop keeps, as a drawing that needs no script, a table and Markdown. */

export type Bilingual = { en: string; zh: string }
type Languages = readonly (keyof Bilingual)[]

/** A policy of a ballot, and what came of it. */
export type VoteRow = {
  policy: Bilingual
  round: number
  /** the one that the others of its ballot are held against; it comes first */
  accepted: boolean
  kept: boolean
  /** why it is kept or not */
  outcome: Bilingual
  /** null: nobody voted on it */
  vote: { winRate: Partial<Record<Axis, Interval | null>>; better: number; worse: number } | null
}

const WORDS = {
  policy: { en: 'policy', zh: '策略' },
  outcome: { en: 'outcome', zh: '结果' },
  verdicts: { en: 'verdicts', zh: '判定数' },
  helpfulness: { en: 'helpfulness, wins', zh: '有用性胜率' },
  safety: { en: 'safety, wins', zh: '安全性胜率' },
  better: { en: 'evidence of better', zh: '变好的证据' },
  worse: { en: 'evidence of worse', zh: '变差的证据' },
  scale: {
    en: 'win rate against the accepted policy ◇, 95 % interval',
    zh: '对已接受策略 ◇ 的胜率，95 % 置信区间',
  },
} satisfies Record<string, Bilingual>
const LEGEND: readonly (readonly [x: number, words: Bilingual])[] = [
  [20, { en: 'helpfulness', zh: '有用性' }],
  [150, { en: 'safety', zh: '安全性' }],
  [258, { en: 'filled: kept', zh: '实心：保留' }],
]
const NUMBERS = ['verdicts', ...AXES, 'better', 'worse'] as const

const tell = (words: Bilingual, languages: Languages): string =>
  languages.map((language) => words[language]).join(' ')

/** What stands in the columns of `NUMBERS`. */
function numbersOf({ vote }: VoteRow): string[] {
  if (vote === null) return NUMBERS.map(() => '–')
  const { winRate, better, worse } = vote
  const rates = AXES.map((axis) => winRate[axis])
  return [
    rates.map((rate) => rate?.n ?? 0).join(' + '),
    ...rates.map((rate) =>
      rate ? `${rate.value.toFixed(3)} [${rate.low.toFixed(3)} … ${rate.high.toFixed(3)}]` : '–',
    ),
    ...[better, worse].map((e) => e.toPrecision(3)),
  ]
}

export function votesTable(rows: readonly VoteRow[], languages: Languages): string {
  const said = (words: Bilingual): string =>
    languages.map((language) => escape(words[language])).join('<br>')
  const label = (words: Bilingual): string => `data-label="${escape(tell(words, languages))}"`
  const body = rows.map((row) => {
    const outcome = row.kept ? `<b>${said(row.outcome)}</b>` : said(row.outcome)
    const cells = numbersOf(row).map(
      // an interval stands below its value: side by side they would be wider than paper
      (text, i) =>
        `<td class="number" ${label(WORDS[NUMBERS[i] ?? 'outcome'])}>${text.replace(/ \[(.*)\]/u, '<br><small>$1</small>')}</td>`,
    )
    const numbers = row.vote === null ? `<td colspan="${NUMBERS.length}"></td>` : cells.join('')
    return `<tr><th scope="row">${said(row.policy)}</th><td ${label(WORDS.outcome)}>${outcome}</td>${numbers}</tr>`
  })
  const head = NUMBERS.map((name) => `<th scope="col" class="number">${said(WORDS[name])}</th>`)
  return `<table class="figures ballots"><thead><tr><th scope="col">${said(WORDS.policy)}</th><th scope="col">${said(WORDS.outcome)}</th>${head.join('')}</tr></thead><tbody>${body.join('')}</tbody></table>`
}

/** Rows of the same table in plain words, the head first. */
export const votesCells = (rows: readonly VoteRow[]): string[][] => [
  ['policy', 'outcome', ...NUMBERS.map((name) => WORDS[name].en)],
  ...rows.map((row) => [row.policy.en, row.outcome.en, ...numbersOf(row)]),
]

// narrow, so that its letters can be read on a phone
const [WIDTH, LEFT, RIGHT, TOP, ROW, LINE] = [400, 96, 16, 12, 40, 15]
const px = (rate: number): number => LEFT + rate * (WIDTH - LEFT - RIGHT)
const INK = '#1c2430'

/** Win rates with their intervals, policy by policy; nothing where nobody voted. */
export function votesPlot(rows: readonly VoteRow[], languages: Languages): string {
  if (rows.every(({ vote }) => vote === null)) return ''
  const drawn = rows
    .filter(({ accepted, vote }) => accepted || vote !== null)
    .map((row, i) => drawRow(row, languages, TOP + ROW * i))
  const bottom = TOP + ROW * drawn.length
  const upright = (rate: number): string =>
    `<line x1="${px(rate)}" x2="${px(rate)}" y1="8" y2="${bottom}"/>`
  const ticks = [0, 0.25, 0.5, 0.75, 1].map(
    (rate) =>
      `${upright(rate)}<text x="${px(rate)}" y="${bottom + LINE}" text-anchor="middle">${rate.toFixed(2)}</text>`,
  )
  const scale = lines(WORDS.scale, languages, [WIDTH / 2, bottom + 2 * LINE + 2], 'middle')
  const foot = bottom + LINE * (2 + languages.length) + 6
  const legend = LEGEND.map(([x, words], k) => {
    const sign = k < AXES.length ? shape(k, x, foot - 4, false) : ''
    return `${sign}<text x="${x + 12}" y="${foot}">${escape(tell(words, languages))}</text>`
  })
  const height = foot + 10
  return `<svg class="scatter votes" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${escape(tell(WORDS.scale, languages))}"><rect width="${WIDTH}" height="${height}" fill="#fff"/>${drawn.map(({ back }) => back).join('')}<g class="grid">${ticks.join('')}</g><g stroke="${INK}" stroke-dasharray="4 3">${upright(0.5)}</g>${drawn.map(({ front }) => front).join('')}${scale}${legend.join('')}</svg>`
}

type Anchor = 'middle' | 'end'
/** A line of text for each language. */
const lines = (words: Bilingual, languages: Languages, [x, y]: [number, number], anchor: Anchor) =>
  languages
    .map(
      (language, i) =>
        `<text x="${x}" y="${y + LINE * i}" text-anchor="${anchor}">${escape(words[language])}</text>`,
    )
    .join('')

/** A policy's name and marks, and what lies behind the grid. */
function drawRow(
  { policy, accepted, kept, vote }: VoteRow,
  languages: Languages,
  top: number,
): { back: string; front: string } {
  const middle = top + ROW / 2
  const start = middle + 4 - (LINE / 2) * (languages.length - 1)
  const name = lines(policy, languages, [LEFT - 12, start], 'end')
  const rule =
    accepted && top > TOP
      ? `<line x1="4" x2="${WIDTH - 4}" y1="${top}" y2="${top}" stroke="#5a6675"/>`
      : ''
  const diamond = `<path d="M${px(0.5)} ${middle - 7}l7 7l-7 7l-7 -7z" stroke="${INK}" stroke-width="1.5" fill="${kept ? INK : '#fff'}"/>`
  const rates = AXES.map((axis, k) => {
    const rate = vote?.winRate[axis]
    return rate ? mark(rate, k, middle + (k === 0 ? -8 : 8), kept) : ''
  })
  return {
    back: kept
      ? `<rect x="4" y="${top + 1}" width="${WIDTH - 8}" height="${ROW - 2}" rx="4" fill="#fff3c9"/>`
      : '',
    front: rule + name + (accepted ? diamond : rates.join('')),
  }
}

const mark = ({ value, low, high }: Interval, k: number, y: number, kept: boolean): string =>
  `<line x1="${px(low).toFixed(1)}" x2="${px(high).toFixed(1)}" y1="${y}" y2="${y}" stroke="${COLOURS[k] ?? ''}" stroke-width="2"/>${shape(k, px(value), y, kept)}`

/** A circle for the first axis, a square for the second: they differ without colours too. */
function shape(k: number, x: number, y: number, filled: boolean): string {
  const colour = COLOURS[k] ?? ''
  const how = `stroke="${colour}" stroke-width="1.5" fill="${filled ? colour : '#fff'}"`
  return k === 0
    ? `<circle cx="${x.toFixed(1)}" cy="${y}" r="4.5" ${how}/>`
    : `<rect x="${(x - 4).toFixed(1)}" y="${y - 4}" width="8" height="8" ${how}/>`
}
