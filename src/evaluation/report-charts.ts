import { createRequire } from 'node:module'
import type * as ECharts from 'echarts'
import type { Interval } from './statistics.ts'

/** Drawings of reports and pages, as SVG that needs no script. */

export const escape = (text: string): string =>
  text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')

export const number = (x: number): string => x.toFixed(Math.abs(x) >= 100 ? 1 : 3)

/** A table that is wider than a phone scrolls by itself, also by keyboard. */
export const wide = (label: string, table: string): string =>
  `<div class="wide" role="region" tabindex="0" aria-label="${label}">${table}</div>`

export const COLOURS = ['#0a66a8', '#b3500a', '#16794c', '#8b3fa0', '#7a6a00', '#c03060']

export type Curve = { name: string; steps: readonly number[]; values: readonly (number | null)[] }

/** Curves of metrics over steps in one plot. */
export function lineChart(title: string, curves: readonly Curve[]): string {
  // a megabyte of source, which whoever only asks for a score does without
  const { init } = createRequire(import.meta.url)('echarts') as typeof ECharts
  const plot = init(null, null, { renderer: 'svg', ssr: true, width: 560, height: 280 })
  plot.setOption({
    animation: false,
    backgroundColor: '#fff',
    color: [...COLOURS],
    title: { text: title, textStyle: { fontSize: 14 } },
    legend: { bottom: 0, show: curves.length > 1 },
    grid: { top: 40, bottom: curves.length > 1 ? 56 : 32, left: 56, right: 24 },
    xAxis: { type: 'value', min: 'dataMin', max: 'dataMax', splitLine: { show: false } },
    yAxis: { type: 'value', scale: true },
    series: curves.map(({ name, steps, values }) => ({
      ...{ name, type: 'line', showSymbol: steps.length < 2, connectNulls: true },
      data: steps.map((step, i) => [step, values[i] ?? null]),
    })),
  })
  const svg = plot.renderToSVGString()
  plot.dispose()
  return `<div role="img" aria-label="${escape(title)}">${svg}</div>`
}

export type Scale = { from: number; to: number }
/** A range that holds all intervals: rates get 0 … 1, differences a zero in the middle. */
export function scaleOf(
  intervals: readonly Pick<Interval, 'low' | 'high'>[],
  differences = false,
): Scale {
  const low = Math.min(0, ...intervals.map((x) => x.low))
  const high = Math.max(0, ...intervals.map((x) => x.high))
  if (low >= 0 && high <= 1 && !differences) return { from: 0, to: 1 }
  const reach = Math.max(-low, high) || 1
  return low < 0 || differences ? { from: -reach, to: reach } : { from: 0, to: high }
}

/** An interval as a line with its value as a dot; the numbers stand beside it in text. */
export function intervalBar({ value, low, high }: Interval, { from, to }: Scale): string {
  const x = (v: number): string => (2 + (96 * (v - from)) / (to - from || 1)).toFixed(2)
  const zero =
    from < 0 && to > 0 ? `<line class="zero" x1="${x(0)}" x2="${x(0)}" y1="0" y2="12"/>` : ''
  return `<svg class="interval" viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true"><line class="rail" x1="2" x2="98" y1="6" y2="6"/>${zero}<line class="reach" x1="${x(low)}" x2="${x(high)}" y1="6" y2="6"/><line class="value" x1="${x(value)}" x2="${x(value)}" y1="1" y2="11"/></svg>`
}
