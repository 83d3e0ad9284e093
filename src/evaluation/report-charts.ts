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

/** `link` is the address of what the point stands for. */
export type Point = { x: number; y: number; label: string; link?: string | undefined }

/** Points of several groups in a plane; each opens what it stands for. Points that share a place are spread a little. */
export function scatterPlot(
  title: string,
  axes: { x: string; y: string },
  groups: readonly { name: string; points: readonly Point[] }[],
): string {
  const [width, height, edge] = [560, 420, 48]
  const all = groups.flatMap(({ points }) => points)
  const range = (values: number[]): Scale => {
    const [from, to] = [Math.min(...values), Math.max(...values)]
    const margin = (to - from || 1) * 0.06
    return { from: from - margin, to: to + margin }
  }
  const [h, v] = [range(all.map(({ x }) => x)), range(all.map(({ y }) => y))]
  const px = (x: number): number => edge + ((x - h.from) / (h.to - h.from)) * (width - edge - 16)
  const py = (y: number): number =>
    height - edge - ((y - v.from) / (v.to - v.from)) * (height - edge - 40)
  const ticks = [0, 0.25, 0.5, 0.75, 1]
  const grid = ticks
    .map((t) => {
      const [x, y] = [h.from + t * (h.to - h.from), v.from + t * (v.to - v.from)]
      return `<line x1="${px(x)}" x2="${px(x)}" y1="40" y2="${height - edge}"/><line x1="${edge}" x2="${width - 16}" y1="${py(y)}" y2="${py(y)}"/><text x="${px(x)}" y="${height - edge + 16}" text-anchor="middle">${x.toFixed(2)}</text><text x="${edge - 6}" y="${py(y) + 4}" text-anchor="end">${y.toFixed(2)}</text>`
    })
    .join('')
  const seen = new Map<string, number>()
  const dots = groups
    .map(({ points }, g) =>
      points
        .map(({ x, y, label, link }) => {
          const key = `${x.toFixed(3)} ${y.toFixed(3)}`
          const n = seen.get(key) ?? 0
          seen.set(key, n + 1)
          // a spiral of the golden angle: the n-th at √n from the middle
          const [dx, dy] = [
            2 * Math.sqrt(n) * Math.cos(2.4 * n),
            2 * Math.sqrt(n) * Math.sin(2.4 * n),
          ]
          const dot = `<circle cx="${(px(x) + dx).toFixed(1)}" cy="${(py(y) + dy).toFixed(1)}" r="3.5" fill="${COLOURS[g % COLOURS.length]}"><title>${escape(label)}</title></circle>`
          return link === undefined ? dot : `<a href="${escape(link)}">${dot}</a>`
        })
        .join(''),
    )
    .join('')
  const legend = groups
    .map(
      ({ name }, g) =>
        `<circle cx="${edge + 8 + g * 150}" cy="${height - 8}" r="4" fill="${COLOURS[g % COLOURS.length]}"/><text x="${edge + 18 + g * 150}" y="${height - 4}">${escape(name)}</text>`,
    )
    .join('')
  return `<svg class="scatter" viewBox="0 0 ${width} ${height}" role="group" aria-label="${escape(title)}"><rect width="${width}" height="${height}" fill="#fff"/><text class="head" x="12" y="22">${escape(title)}</text><g class="grid">${grid}</g><text x="${width / 2}" y="${height - 20}" text-anchor="middle">${escape(axes.x)}</text><text x="12" y="${height / 2}" text-anchor="middle" transform="rotate(-90 12 ${height / 2})">${escape(axes.y)}</text><g fill-opacity="0.75">${dots}</g>${legend}</svg>`
}
