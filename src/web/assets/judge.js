import { ask, during, el, figure, say } from './dom.js'

const form = document.querySelector('#judge')
const out = document.querySelector('#verdict')

form.addEventListener('submit', (event) => {
  event.preventDefault()
  const { prompt, a, b, axis, judge } = Object.fromEntries(new FormData(form))
  void during(form.querySelector('.main'), say('working'), async () => {
    const messages = [{ role: 'user', content: prompt }]
    const comparisons = [{ axis, prompt: messages, a, b }]
    const reply = await ask('/v1/judge', { judge, comparisons })
    out.hidden = false
    out.replaceChildren(...verdict(reply.data[0], reply))
  })
})

function verdict(row, { judge, prompt_version }) {
  const by = el(
    'p',
    { class: 'about' },
    el('code', {}, judge),
    ' · ',
    el('code', {}, prompt_version),
  )
  if (!row.ok)
    return [el('p', { class: 'problem' }, el('b', {}, row.failure), ` ${row.message}`), by]
  const { probability, orders, consistent, strength } = row
  const winner = probability > 0.5 ? 'prefers_a' : probability < 0.5 ? 'prefers_b' : 'undecided'
  const bar = (label, p) =>
    el(
      'div',
      { class: 'axis' },
      el('span', {}, label),
      el('meter', { min: 0, max: 1, value: p, 'aria-label': `${label} ${figure(p)}` }),
      el('b', {}, p.toFixed(3)),
    )
  return [
    el(
      'h2',
      {},
      say(winner),
      ' ',
      el('small', {}, `${say('strength')}: ${strength.replaceAll('_', ' ')}`),
    ),
    bar(say('probability_a'), probability),
    bar(say('first'), orders[0]),
    bar(say('second'), orders[1]),
    el(
      'p',
      {},
      el(
        'span',
        { class: consistent ? 'chip succeeded' : 'chip failed' },
        say(consistent ? 'consistent' : 'inconsistent'),
      ),
    ),
    by,
  ]
}
