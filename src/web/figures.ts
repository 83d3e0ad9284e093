import { html } from 'hono/html'
import type { Markup } from './page.ts'

export type Interval = { value: number; low: number; high: number; n: number }
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
    if (isInterval(row)) return [{ figure: name, ...pick(row) }]
    if (!isInterval(difference)) return []
    const sides = {
      ...(isInterval(before) ? { before: pick(before) } : {}),
      ...(isInterval(after) ? { after: pick(after) } : {}),
    }
    return [{ figure: name, ...pick(difference), ...sides }]
  })
}
const pick = ({ value, low, high, n }: Interval): Interval => ({ value, low, high, n })

export const digits = (x: number): string =>
  Math.abs(x) >= 100 ? x.toFixed(1) : Math.abs(x) >= 10 ? x.toFixed(2) : x.toFixed(3)
export const bounds = ({ low, high }: Interval): string => `${digits(low)} … ${digits(high)}`

export type Scale = { from: number; to: number }
/** A range that holds all intervals: rates get 0 … 1, differences a zero in the middle. */
export function scaleOf(intervals: readonly Interval[], differences = false): Scale {
  const low = Math.min(0, ...intervals.map((x) => x.low))
  const high = Math.max(0, ...intervals.map((x) => x.high))
  if (low >= 0 && high <= 1 && !differences) return { from: 0, to: 1 }
  const reach = Math.max(-low, high)
  return low < 0 || differences ? { from: -reach, to: reach } : { from: 0, to: high }
}

/** An interval as a line with its value as a dot; the numbers stand beside it in text. */
export function intervalBar({ value, low, high }: Interval, { from, to }: Scale): Markup {
  const x = (v: number): string => (2 + (96 * (v - from)) / (to - from || 1)).toFixed(2)
  const zero =
    from < 0 && to > 0 ? html`<line class="zero" x1="${x(0)}" x2="${x(0)}" y1="0" y2="12" />` : ''
  return html`<svg
    class="interval"
    viewBox="0 0 100 12"
    preserveAspectRatio="none"
    aria-hidden="true"
  >
    <line class="rail" x1="2" x2="98" y1="6" y2="6" />
    ${zero}
    <line class="reach" x1="${x(low)}" x2="${x(high)}" y1="6" y2="6" />
    <line class="value" x1="${x(value)}" x2="${x(value)}" y1="1" y2="11" />
  </svg>`
}
