import { ask, during, el, figure, say } from './dom.js'

const form = document.querySelector('#score')
const answers = document.querySelector('#answers')
const result = document.querySelector('#result')
const threshold = document.querySelector('#threshold')
let scored = []

const number = () =>
  answers.querySelectorAll('.answer').forEach((node, i, all) => {
    node.querySelector('.n').textContent = String(i + 1)
    const remove = node.querySelector('button')
    if (remove === null)
      node.append(
        el(
          'button',
          {
            type: 'button',
            class: 'quiet',
            onclick: () => {
              node.remove()
              number()
            },
          },
          say('remove'),
        ),
      )
    node.querySelector('button').hidden = all.length < 2
  })
document.querySelector('#add').addEventListener('click', () => {
  const copy = answers.querySelector('.answer').cloneNode(true)
  copy.querySelector('button')?.remove()
  copy.querySelector('textarea').value = ''
  answers.append(copy)
  number()
  copy.querySelector('textarea').focus()
})
number()

form.addEventListener('submit', (event) => {
  event.preventDefault()
  const fields = new FormData(form)
  const promptClass = fields.get('prompt_class') || null
  const inputs = fields.getAll('answer').map((response) => ({
    ...{ prompt: fields.get('prompt'), response, prompt_class: promptClass },
  }))
  const button = form.querySelector('.main')
  void during(button, say('working'), async () => {
    const { data, model } = await ask('/v1/score', { inputs, threshold: Number(threshold.value) })
    scored = data.map((row, i) => ({ ...row, ...inputs[i], model }))
    result.hidden = false
    show()
  })
})
threshold.addEventListener('input', () => show())

/** The gate at the threshold on the slider: what was scored stays, only who decides changes. */
function gated({ helpfulness, safety, prompt_class }, at) {
  const unsafe =
    safety.probability === null ? safety.logit < Math.log(at / (1 - at)) : safety.probability < at
  return prompt_class === 'safety' || unsafe
    ? { branch: 'safety', reward: safety.logit, why: unsafe ? 'gate_below' : 'gate_class' }
    : { branch: 'helpfulness', reward: helpfulness.logit, why: 'gate_pass' }
}

function show() {
  const at = Number(threshold.value)
  document.querySelector('#at').textContent = at.toFixed(2)
  const rows = scored.map((row, i) => ({ ...row, n: i + 1, gate: gated(row, at) }))
  // what the gate holds back stands below everything else: two models' logits are not compared
  const above = (a, b) =>
    a.gate.branch === b.gate.branch ? a.gate.reward > b.gate.reward : b.gate.branch === 'safety'
  for (const row of rows) row.rank = 1 + rows.filter((other) => above(other, row)).length
  rows.sort((a, b) => a.rank - b.rank || a.n - b.n)
  document.querySelector('#scores').replaceChildren(...rows.map(card))
  document
    .querySelector('#plane')
    .replaceChildren(plane(rows, at), el('figcaption', {}, say('trade_off')))
}

function axisRow(axis, { logit, probability, score }) {
  const value = score === null ? '–' : score.toFixed(1)
  const meter = el('meter', {
    min: 0,
    max: 100,
    value: score ?? 0,
    class: axis,
    'aria-label': `${say(axis)} ${value}`,
  })
  const detail = `${say('logit')} ${figure(logit)} · ${say('probability')} ${figure(probability)}`
  return el(
    'div',
    { class: `axis ${axis}` },
    el('span', {}, say(axis)),
    meter,
    el('b', {}, value),
    el('small', {}, detail),
  )
}

function card(row) {
  const details = el('details', {}, el('summary', {}, say('provenance')))
  details.addEventListener('toggle', () => void provenance(details, row), { once: true })
  return el(
    'li',
    { class: 'card', 'data-answer': row.n },
    el(
      'div',
      { class: 'head' },
      el('span', { class: 'chip' }, `${say('rank')} ${row.rank}`),
      el('b', {}, `${say('answer')} ${row.n}`),
    ),
    el('blockquote', {}, row.response),
    axisRow('helpfulness', row.helpfulness),
    axisRow('safety', row.safety),
    el(
      'p',
      { class: `gate ${row.gate.branch}` },
      el('b', {}, `${say('gate')} → ${say(row.gate.branch)}`),
      ` ${say('reward')} ${figure(row.gate.reward)}. `,
      el('small', {}, say(row.gate.why)),
    ),
    row.truncated ? el('p', {}, say('truncated')) : null,
    details,
  )
}

async function provenance(details, { id }) {
  const { data } = await ask(`/v1/scores/${encodeURIComponent(id)}`, undefined, 'GET')
  const rows = data.map((row) =>
    el(
      'dl',
      {},
      ...[
        [say(row.axis), row.id],
        [say('model'), row.model],
        ['version', row.modelVersion.slice(0, 16)],
        [say('calibration'), row.calibration ?? say('none')],
        [say('created'), new Date(row.createdAt).toISOString()],
      ].map(([name, value]) =>
        el('div', {}, el('dt', {}, name), el('dd', {}, el('code', {}, value))),
      ),
    ),
  )
  details.append(...rows)
}

/** Answers in the plane of both scores, the gate's threshold across it. */
function plane(rows, at) {
  const [size, edge] = [320, 36]
  const x = (v) => edge + (v / 100) * (size - 2 * edge)
  const y = (v) => size - x(v)
  const ticks = [0, 50, 100].flatMap((v) => [
    el('line', { x1: x(v), x2: x(v), y1: y(0), y2: y(100), class: 'grid' }),
    el('line', { x1: x(0), x2: x(100), y1: y(v), y2: y(v), class: 'grid' }),
    el('text', { x: x(v), y: size - 20, 'text-anchor': 'middle' }, String(v)),
    el('text', { x: edge - 6, y: y(v) + 4, 'text-anchor': 'end' }, String(v)),
  ])
  const points = rows
    .filter(({ helpfulness, safety }) => helpfulness.score !== null && safety.score !== null)
    .map(({ n, helpfulness, safety, gate }) =>
      el(
        'g',
        { class: `point ${gate.branch}` },
        el('title', {}, `${say('answer')} ${n}`),
        el('circle', { cx: x(helpfulness.score), cy: y(safety.score), r: 11 }),
        el(
          'text',
          { x: x(helpfulness.score), y: y(safety.score) + 4, 'text-anchor': 'middle' },
          String(n),
        ),
      ),
    )
  return el(
    'svg',
    { viewBox: `0 0 ${size} ${size}`, role: 'img', 'aria-label': say('trade_off') },
    ...ticks,
    el('line', { x1: x(0), x2: x(100), y1: y(100 * at), y2: y(100 * at), class: 'gate' }),
    el('text', { x: size / 2, y: size - 4, 'text-anchor': 'middle' }, say('helpfulness')),
    el(
      'text',
      { x: 12, y: size / 2, 'text-anchor': 'middle', transform: `rotate(-90 12 ${size / 2})` },
      say('safety'),
    ),
    ...points,
  )
}
