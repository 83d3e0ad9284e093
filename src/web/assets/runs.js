import { figure, say } from './dom.js'

// a comparison takes two to eight
const form = document.querySelector('#compare')
form?.addEventListener('submit', (event) => {
  const ticked = form.querySelectorAll('input[name=run]:checked').length
  if (ticked >= 2 && ticked <= 8) return
  event.preventDefault()
  const hint = document.querySelector('#hint')
  hint.textContent = say('wrong_comparison')
  hint.classList.add('error')
})

// what goes on tells where it is; when it ends, the page is read again
const NAMES = ['objective/scores', 'loss', 'labelled', 'accuracy']
for (const cell of [...document.querySelectorAll('[data-live]')].slice(0, 4)) {
  const source = new EventSource(`/v1/runs/${encodeURIComponent(cell.dataset.live)}/events`)
  let steps = ''
  source.addEventListener('started', (event) => (steps = `/${JSON.parse(event.data).steps ?? ''}`))
  source.addEventListener('metrics', (event) => {
    const { step, metrics } = JSON.parse(event.data)
    const name = NAMES.find((each) => each in metrics)
    const shown = name === undefined ? '' : ` · ${name} ${figure(metrics[name])}`
    cell.textContent = `${say('step')} ${step}${steps}${shown}`
  })
  source.addEventListener('progress', (event) => {
    const { stage, done, total } = JSON.parse(event.data)
    cell.textContent = `${stage} ${done}/${total}`
  })
  source.addEventListener('end', () => {
    source.close()
    location.reload()
  })
}
