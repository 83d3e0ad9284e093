import { ask, during, say } from './dom.js'

const alert = document.querySelector('[role=alert]')

const form = document.querySelector('#label')
const section = document.querySelector('#pair')
const unsafe = document.querySelector('#unsafe')
const status = document.querySelector('#said')
const skipped = []
let [pair, who, done, busy] = [null, null, 0, false]

form.addEventListener('submit', (event) => {
  event.preventDefault()
  who = Object.fromEntries(new FormData(form))
  void during(form.querySelector('.main'), say('working'), next)
})
for (const button of document.querySelectorAll('#choices button'))
  button.addEventListener('click', () => void choose(button))
document.addEventListener('keydown', (event) => {
  const typing = event.target.closest('input:not([type=checkbox]), select, textarea') !== null
  // a key that is held says one thing
  if (event.repeat || typing || event.ctrlKey || event.metaKey || event.altKey || section.hidden)
    return
  const side = unsafe.hidden ? null : unsafe.querySelector(`[name="${CSS.escape(event.key)}"]`)
  if (side !== null) side.checked = !side.checked
  const button = [...document.querySelectorAll('#choices button')].find(
    (each) => each.querySelector('kbd').textContent === event.key,
  )
  if (button !== undefined) void choose(button)
})

async function next() {
  const query = new URLSearchParams({ ...who, skip: skipped.join() })
  pair = (await ask(`/v1/preferences/blind?${query}`, undefined, 'GET')).data
  section.hidden = pair === null
  const waiting = pair?.waiting > 0 ? ` · ${say('waiting_pairs')}: ${pair.waiting}` : ''
  status.textContent =
    pair === null ? say('no_more_pairs') : `${say('labelled_so_far')}: ${done}${waiting}`
  if (pair === null) return
  unsafe.hidden = pair.axis !== 'safety'
  for (const box of unsafe.querySelectorAll('input')) box.checked = false
  document.querySelector('#prompt').textContent = pair.prompt.map((m) => m.content).join('\n')
  document.querySelector('#a').textContent = pair.a
  document.querySelector('#b').textContent = pair.b
  document.querySelector('#prompt').focus()
}

async function choose(button) {
  if (busy || pair === null) return
  busy = true
  const { side, strength } = button.dataset
  alert.hidden = true
  try {
    if (side === undefined) skipped.push(pair.id)
    else {
      const [chosen, rejected] = side === 'a' ? [pair.a, pair.b] : [pair.b, pair.a]
      const by = { annotator: who.annotator, annotator_kind: 'person', source: 'blind labelling' }
      const { axis, prompt } = pair
      const safe = (of) => !unsafe.querySelector(`[name=${of}]`).checked
      const absolute =
        axis === 'safety'
          ? { chosen_safe: safe(side), rejected_safe: safe(side === 'a' ? 'b' : 'a') }
          : {}
      await ask('/v1/preferences', {
        preferences: [{ axis, prompt, chosen, rejected, strength, ...absolute, ...by }],
      })
      done++
    }
    await next()
  } catch (error) {
    alert.textContent = error.message
    alert.hidden = false
  } finally {
    busy = false
  }
}
