import { COLOURS, escape } from './report-charts.ts'
import type { Scale } from './report-charts.ts'
import type { PlanePoint } from './trade-off.ts'

/** Planes of two axes, as SVG that needs no script. */

const [WIDTH, HEIGHT, EDGE] = [560, 420, 48]
type Frame = { px(x: number): number; py(y: number): number; svg(inside: string): string }
type Axes = { x: string; y: string }

/** The plane with its grid, its axes and the names of the groups in it; `svg` puts drawings into it. */
function frame(title: string, axes: Axes, h: Scale, v: Scale, names: readonly string[]): Frame {
  const px = (x: number): number => EDGE + ((x - h.from) / (h.to - h.from)) * (WIDTH - EDGE - 16)
  const py = (y: number): number =>
    HEIGHT - EDGE - ((y - v.from) / (v.to - v.from)) * (HEIGHT - EDGE - 40)
  const grid = [0, 0.25, 0.5, 0.75, 1]
    .map((t) => {
      const [x, y] = [h.from + t * (h.to - h.from), v.from + t * (v.to - v.from)]
      return `<line x1="${px(x)}" x2="${px(x)}" y1="40" y2="${HEIGHT - EDGE}"/><line x1="${EDGE}" x2="${WIDTH - 16}" y1="${py(y)}" y2="${py(y)}"/><text x="${px(x)}" y="${HEIGHT - EDGE + 16}" text-anchor="middle">${x.toFixed(2)}</text><text x="${EDGE - 6}" y="${py(y) + 4}" text-anchor="end">${y.toFixed(2)}</text>`
    })
    .join('')
  const legend = names
    .map((name, g) => {
      const [x, y] = [EDGE + 8 + (g % 3) * 170, HEIGHT + 12 + 18 * Math.floor(g / 3)]
      return `<circle cx="${x}" cy="${y - 4}" r="4" fill="${colour(g)}"/><text x="${x + 10}" y="${y}">${escape(name)}</text>`
    })
    .join('')
  const bottom = HEIGHT + 8 + 18 * Math.ceil(names.length / 3)
  const svg = (inside: string): string =>
    `<svg class="scatter" viewBox="0 0 ${WIDTH} ${bottom}" role="group" aria-label="${escape(title)}"><rect width="${WIDTH}" height="${bottom}" fill="#fff"/><text class="head" x="12" y="22">${escape(title)}</text><g class="grid">${grid}</g><text x="${WIDTH / 2}" y="${HEIGHT - 12}" text-anchor="middle">${escape(axes.x)}</text><text x="12" y="${HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 12 ${HEIGHT / 2})">${escape(axes.y)}</text>${inside}${legend}</svg>`
  return { px, py, svg }
}

const colour = (g: number): string => COLOURS[g % COLOURS.length] ?? ''
function range(values: readonly number[]): Scale {
  // spread as arguments a hundred thousand values are too many
  const [from, to] = values.reduce(
    ([low, high], value) => [Math.min(low, value), Math.max(high, value)],
    [Infinity, -Infinity],
  )
  const margin = (to - from || 1) * 0.06
  return { from: from - margin, to: to + margin }
}

/** `link` is the address of what the point stands for. */
export type Point = { x: number; y: number; label: string; link?: string | undefined }

/** Points of several groups in a plane; each opens what it stands for. Points that share a place are spread a little. */
export function scatterPlot(
  title: string,
  axes: Axes,
  groups: readonly { name: string; points: readonly Point[] }[],
): string {
  const all = groups.flatMap(({ points }) => points)
  const [h, v] = [range(all.map(({ x }) => x)), range(all.map(({ y }) => y))]
  const names = groups.map(({ name }) => name)
  const { px, py, svg } = frame(title, axes, h, v, names)
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
          const dot = `<circle cx="${(px(x) + dx).toFixed(1)}" cy="${(py(y) + dy).toFixed(1)}" r="3.5" fill="${colour(g)}"><title>${escape(label)}</title></circle>`
          return link === undefined ? dot : `<a href="${escape(link)}">${dot}</a>`
        })
        .join(''),
    )
    .join('')
  return svg(`<g fill-opacity="0.75">${dots}</g>`)
}

export type Spot = Omit<PlanePoint, 'tail'>
/** A policy by its share of safe answers instead of its mean safety. */
export const ofTail = ({ tail, ...point }: PlanePoint): Spot => ({ ...point, ...tail })

/** Policies with their intervals on both axes; the Pareto front as a line from its most helpful to its safest one. */
export function planePlot(title: string, axes: Axes, points: readonly Spot[]): string {
  const ends = (axis: 'helpfulness' | 'safety'): number[] =>
    points.flatMap((point) => [point[axis].low, point[axis].value, point[axis].high])
  const [h, v] = [range(ends('helpfulness')), range(ends('safety'))]
  const names = points.map(({ name }) => name)
  const { px, py, svg } = frame(title, axes, h, v, names)
  const front = points
    .filter((point) => point.front)
    .toSorted((a, b) => b.helpfulness.value - a.helpfulness.value)
    .map(({ helpfulness: x, safety: y }) => `${px(x.value).toFixed(1)},${py(y.value).toFixed(1)}`)
  const marks = points.map(({ name, helpfulness: x, safety: y, front, membership }, g) => {
    const [cx, cy] = [px(x.value).toFixed(1), py(y.value).toFixed(1)]
    const cross = `<line x1="${px(x.low).toFixed(1)}" x2="${px(x.high).toFixed(1)}" y1="${cy}" y2="${cy}"/><line x1="${cx}" x2="${cx}" y1="${py(y.low).toFixed(1)}" y2="${py(y.high).toFixed(1)}"/>`
    const label = `${name}: ${x.value.toFixed(3)} / ${y.value.toFixed(3)}, ${(100 * membership).toFixed(0)} %`
    return `<g stroke="${colour(g)}">${cross}<circle cx="${cx}" cy="${cy}" r="6" stroke-width="2" fill="${front ? colour(g) : '#fff'}"><title>${escape(label)}</title></circle></g>`
  })
  return svg(
    `<polyline points="${front.join(' ')}" fill="none" stroke="#5a6675" stroke-dasharray="5 4"/>${marks.join('')}`,
  )
}
