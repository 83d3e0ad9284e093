import { html, raw } from 'hono/html'
import { intervalBar as drawInterval } from '../evaluation/report-charts.ts'
import { inChinese } from '../evaluation/figure-names.ts'
import type { Scale } from '../evaluation/report-charts.ts'
import { planePlot } from '../evaluation/report-planes.ts'
import type { Interval } from '../evaluation/statistics.ts'
import type { PlanePoint } from '../evaluation/trade-off.ts'
import type { Markup } from './page.ts'
import type { Language, Say } from './words.ts'

export type NamedFigure = Interval & {
  figure: string
  policy?: string
  before?: Interval
  after?: Interval
  /** two-sided, corrected for all that were tested together */
  p_holm?: number
}

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
    const { before, after, difference, p_holm } = row
    const own = isInterval(row) ? row : difference
    if (!isInterval(own)) return []
    const sides = {
      ...(isInterval(before) ? { before: pick(before) } : {}),
      ...(isInterval(after) ? { after: pick(after) } : {}),
    }
    const policy = typeof row['policy'] === 'string' ? { policy: row['policy'] } : {}
    const tested = typeof p_holm === 'number' ? { p_holm } : {}
    return [{ figure: name, ...policy, ...pick(own), ...sides, ...tested }]
  })
}
const pick = ({ value, low, high, n }: Interval): Interval => ({ value, low, high, n })

/** A figure's name in the reader's language. */
export const figureName = (figure: string, language: Language): string =>
  language === 'zh' ? (inChinese(figure) ?? figure) : figure

export const digits = (x: number): string =>
  Math.abs(x) >= 100 ? x.toFixed(1) : Math.abs(x) >= 10 ? x.toFixed(2) : x.toFixed(3)
export const bounds = ({ low, high }: Interval): string => `${digits(low)} … ${digits(high)}`

/** Whether a figure's value is a difference from a baseline. */
export const isDifference = ({ before, after }: NamedFigure): boolean =>
  before !== undefined && after !== undefined

/** Paired figures that are no shares though they may lie between 0 and 1. */
const NO_SHARE = /bits per byte|courtesies|gold (helpfulness|safety)$/u

/**
 * A figure where its table has no column that says what it is: a value by itself, a difference with its sign and both
 * sides, that of two shares in points, hundredths of the whole.
 */
export function toldFigure(
  row: NamedFigure,
  say: Say,
): { value: string; interval: string; sides: string } {
  const { before, after } = row
  if (before === undefined || after === undefined)
    return { value: digits(row.value), interval: bounds(row), sides: '' }
  const inShare = ({ low, high }: Interval): boolean => low >= 0 && high <= 1
  const points = inShare(before) && inShare(after) && !NO_SHARE.test(row.figure)
  const signed = (x: number): string =>
    `${x > 0 ? '+' : ''}${points ? (100 * x).toFixed(1) : digits(x)}`
  return {
    value: points ? `${signed(row.value)} ${say('points')}` : signed(row.value),
    interval: `${signed(row.low)} … ${signed(row.high)}`,
    sides: `${digits(before.value)} → ${digits(after.value)}`,
  }
}

/** An interval as a drawing; the numbers stand beside it in text. */
export const intervalBar = (interval: Interval, scale: Scale): Markup =>
  html`${raw(drawInterval(interval, scale))}`

/** The policies of an evaluation in the plane of both axes; null where it has none. */
export function planeOf(summary: Record<string, unknown> | null, say: Say): Markup | null {
  const points = summary?.['plane']
  if (!Array.isArray(points) || points.length === 0) return null
  const axes = { x: say('helpfulness'), y: say('safety') }
  // written by evaluation/trade-off.ts; `tail` since 2026-11-27
  const written = points as (Omit<PlanePoint, 'tail'> & Partial<PlanePoint>)[]
  const tails = written.flatMap(({ tail, ...point }) => (tail ? { ...point, ...tail } : []))
  const safe = { ...axes, y: say('safe_answers') }
  return html`${raw(planePlot(say('pareto_front'), axes, written))}
  ${tails.length === 0 ? '' : raw(planePlot(say('pareto_front'), safe, tails))}`
}
