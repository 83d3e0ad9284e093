import { align, byWeight, chart } from './charts.js'
import { ask, el, figure, say } from './dom.js'

const KEPT = 200
const SHOWN = 6
const box = document.querySelector('#curves')
const more = document.querySelector('#more')
const log = document.querySelector('#log')
const lines = new Map()
const charts = new Map()
let waiting = false

/** Charts in their order; those past the first six wait behind a fold. */
function place() {
  const names = [...lines.keys()].sort(byWeight)
  const nodes = names.map((name) => {
    if (!charts.has(name)) charts.set(name, chart(name, [name]))
    return charts.get(name).node
  })
  box.replaceChildren(...nodes.slice(0, SHOWN))
  more.querySelector('.charts').replaceChildren(...nodes.slice(SHOWN))
  more.hidden = nodes.length <= SHOWN
}
function draw() {
  waiting = false
  if (lines.size === 0) return
  if (lines.size !== charts.size) place()
  for (const [name, line] of lines) charts.get(name).set(align([line]))
}
more.addEventListener('toggle', draw)

function note(type, data, at) {
  // its step stands before the text; the result of a part is in the run's record
  const { metrics, rows, step: _step, result: _result, message = '', ...rest } = data
  const text = metrics
    ? Object.entries(metrics)
        .sort(([a], [b]) => byWeight(a, b))
        .slice(0, 6)
        .map(([name, value]) => `${name} ${figure(value)}`)
        .join(' · ')
    : [
        message,
        ...(rows ?? []).slice(0, 2).map((row) => row.response ?? JSON.stringify(row)),
        Object.keys(rest).length > 0 ? JSON.stringify(rest) : '',
      ]
        .filter((each) => each !== '')
        .join(' ')
  const below = log.scrollHeight - log.scrollTop - log.clientHeight < 40
  log.append(el('p', {}, el('b', {}, type), ` ${at ?? ''} `, text))
  while (log.childElementCount > KEPT) log.firstElementChild.remove()
  if (below) log.scrollTop = log.scrollHeight
}

const active = box.dataset.active === 'true'
/** Follows runs one after another: a browser holds few connections open. */
function follow([run, ...rest]) {
  const source = new EventSource(`/v1/runs/${encodeURIComponent(run)}/events`)
  for (const type of ['started', 'progress', 'metrics', 'rollouts', 'checkpoint', 'done'])
    source.addEventListener(type, (event) => {
      const data = JSON.parse(event.data)
      note(type, data, data.step === undefined ? '' : `${say('step')} ${data.step}`)
      if (type !== 'metrics') return
      for (const [name, value] of Object.entries(data.metrics)) {
        if (!lines.has(name)) lines.set(name, new Map())
        lines.get(name).set(data.step, value)
      }
      if (!waiting) {
        waiting = true
        setTimeout(draw, 100)
      }
    })
  source.addEventListener('end', (event) => {
    source.close()
    const { state } = JSON.parse(event.data)
    note('end', {}, say(state))
    if (rest.length > 0) return follow(rest)
    if (lines.size === 0) box.closest('section').hidden = true
    // a page that saw the run go on is read again for its figures and its next part; a loop between two parts, soon
    if (active) setTimeout(() => location.reload(), performance.now() < 2000 ? 5000 : 0)
  })
}
follow(box.dataset.runs.split(','))

for (const button of document.querySelectorAll('[data-action]'))
  button.addEventListener('click', async () => {
    button.disabled = true
    const { action } = button.dataset
    await ask(action).then(
      () => action.endsWith('/resume') && location.reload(),
      (error) => note(button.textContent.trim(), {}, error.message),
    )
  })

const notes = document.querySelector('#notes')
notes.addEventListener('submit', async (event) => {
  event.preventDefault()
  const said = notes.querySelector('[role=status]')
  const tags = notes.tags.value.split(/\s+/).filter((tag) => tag !== '')
  said.textContent = await ask(`/v1/runs/${encodeURIComponent(notes.dataset.run)}`, {
    tags,
    notes: notes.elements.notes.value,
  }).then(
    () => say('note_saved'),
    (error) => error.message,
  )
})
