import { align, byWeight, chart } from './charts.js'

const SHOWN = 12
const box = document.querySelector('#overlay')
const runs = box.dataset.runs.split(',')

/** Every metric that more than one run has, their curves over each other. */
const all = await Promise.all(
  runs.map(async (id) => {
    const text = await (await fetch(`/v1/runs/${encodeURIComponent(id)}/metrics`)).text()
    return text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line))
  }),
)
const names = [...new Set(all.flatMap((rows) => rows.flatMap((row) => Object.keys(row))))]
  .filter((name) => name !== 'step' && name !== 'at')
  .filter((name) => all.filter((rows) => rows.some((row) => name in row)).length > 1)
  .sort(byWeight)
for (const name of names.slice(0, SHOWN)) {
  const drawn = chart(
    name,
    runs.map((id) => `…${id.slice(-8)}`),
  )
  box.append(drawn.node)
  drawn.set(
    align(all.map((rows) => new Map(rows.filter((r) => name in r).map((r) => [r.step, r[name]])))),
  )
}
if (names.length === 0) box.closest('section').hidden = true
