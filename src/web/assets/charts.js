/* global uPlot */
import { el, figure, say } from './dom.js'

/** Colours of series, from the style sheet so that they follow light and dark. */
const colour = (i) =>
  getComputedStyle(document.documentElement)
    .getPropertyValue(`--series-${i % 8}`)
    .trim()
const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()
const dark = matchMedia('(prefers-color-scheme: dark)')
const HEIGHT = 170

/** Metrics worth a look first, in this order; the others follow by name. */
const FIRST = [
  'loss',
  'accuracy',
  'objective/scores',
  'objective/kl',
  'objective/helpfulness',
  'objective/safety',
  'gold/safe_and_helpful',
  'margin',
  'response/length',
  'gate/safety_share',
  'held_out_accuracy',
]
export const byWeight = (a, b) => {
  const [x, y] = [FIRST.indexOf(a), FIRST.indexOf(b)].map((i) => (i < 0 ? FIRST.length : i))
  return x - y || a.localeCompare(b)
}

/** One metric as a small chart, one line per series; `set` redraws it. */
export function chart(title, series) {
  const value = el('b', {})
  const box = el('div', { class: 'plot' })
  const frame = el(
    'div',
    { class: 'chart', role: 'group' },
    el('div', { class: 'caption' }, el('span', {}, title), value),
    box,
  )
  let data = [[], ...series.map(() => [])]
  let plot = null
  const draw = () => {
    plot?.destroy()
    box.replaceChildren()
    const axis = {
      stroke: ink('--faint'),
      grid: { stroke: ink('--line'), width: 1 },
      ticks: { show: false },
    }
    plot = new uPlot(
      {
        width: Math.max(200, box.clientWidth),
        height: HEIGHT,
        legend: { show: series.length > 1, live: false },
        cursor: { sync: { key: 'steps' }, y: false },
        scales: { x: { time: false } },
        axes: [
          { ...axis, size: 26, space: 60 },
          {
            ...axis,
            size: 48,
            values: (_, ticks) => ticks.map((tick) => String(Number(tick.toPrecision(4)))),
          },
        ],
        series: [
          { label: say('step') },
          ...series.map((label, i) => ({
            label,
            stroke: colour(i),
            width: 2,
            spanGaps: true,
            points: { show: data[0].length < 2 },
          })),
        ],
        hooks: { setCursor: [(u) => tell(u.cursor.idx)] },
      },
      data,
      box,
    )
  }
  const tell = (at) => {
    const i = at ?? data[0].length - 1
    const values = data.slice(1).map((line) => figure(line[i] ?? line.findLast((x) => x != null)))
    value.textContent = values.join(' · ')
    if (at == null)
      frame.setAttribute(
        'aria-label',
        `${title}: ${values.join(', ')} (${say('step')} ${data[0][i] ?? '–'})`,
      )
  }
  new ResizeObserver(() =>
    plot?.setSize({ width: Math.max(200, box.clientWidth), height: HEIGHT }),
  ).observe(box)
  dark.addEventListener('change', () => plot !== null && draw())
  return {
    node: frame,
    set(next) {
      const few = data[0].length < 2
      data = next
      if (frame.isConnected && (plot === null || few)) draw()
      else plot?.setData(next)
      tell(null)
    },
  }
}

/** x and one y per series from maps of step → value. */
export function align(lines) {
  const steps = [...new Set(lines.flatMap((line) => [...line.keys()]))].sort((a, b) => a - b)
  return [steps, ...lines.map((line) => steps.map((step) => line.get(step) ?? null))]
}
