import { html, raw } from 'hono/html'
import { intervalBar as drawInterval } from '../evaluation/report-charts.ts'
import { inChinese } from '../evaluation/figure-names.ts'
import type { Scale } from '../evaluation/report-charts.ts'
import type { Interval } from '../evaluation/statistics.ts'
import type { Markup } from './page.ts'
import type { Language } from './words.ts'

export type NamedFigure = Interval & { figure: string; before?: Interval; after?: Interval }

const isInterval = (x: unknown): x is Interval =>
  typeof x === 'object' &&
  x !== null &&
  ['value', 'low', 'high', 'n'].every(
    (key) => typeof (x as Record<string, unknown>)[key] === 'number',
  )

/** The figures of a run's summary, whatever its kind: an evaluation's as they are, a loop's with before and after. */
export function figuresOf(summary: Record<string, unknown> | null): NamedFigure[] {
  const listed = ['figures', 'policy', 'judge', 'crossValidation']
    .map((key) => summary?.[key])
    .filter(Array.isArray)
    .flat()
    .filter((row): row is Record<string, unknown> => typeof row === 'object' && row !== null)
  return listed.flatMap((row) => {
    const name = row['figure']
    if (typeof name !== 'string') return []
    const { before, after, difference } = row
    const own = isInterval(row) ? row : difference
    if (!isInterval(own)) return []
    const sides = {
      ...(isInterval(before) ? { before: pick(before) } : {}),
      ...(isInterval(after) ? { after: pick(after) } : {}),
    }
    return [{ figure: name, ...pick(own), ...sides }]
  })
}
const pick = ({ value, low, high, n }: Interval): Interval => ({ value, low, high, n })

/** A figure's name in the reader's language. */
export const figureName = (figure: string, language: Language): string =>
  language === 'zh' ? (inChinese(figure) ?? figure) : figure

export const digits = (x: number): string =>
  Math.abs(x) >= 100 ? x.toFixed(1) : Math.abs(x) >= 10 ? x.toFixed(2) : x.toFixed(3)
export const bounds = ({ low, high }: Interval): string => `${digits(low)} … ${digits(high)}`

/** An interval as a drawing; the numbers stand beside it in text. */
export const intervalBar = (interval: Interval, scale: Scale): Markup =>
  html`${raw(drawInterval(interval, scale))}`
