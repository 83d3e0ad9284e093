import { html } from 'hono/html'
import { RUN_STATES } from '../../schemas/run.ts'
import type { Page } from '../../store/collection.ts'
import type { Run } from '../../store/store.ts'
import { figureName, figuresOf, intervalBar, isDifference, toldFigure } from '../figures.ts'
import type { NamedFigure } from '../figures.ts'
import { scaleOf } from '../../evaluation/report-charts.ts'
import { moment, page, shortId, show } from '../page.ts'
import type { Markup, Reader } from '../page.ts'
import { isActive, policiesOf, stateChip, tagLinks } from './runs.ts'

/** How many figures a card shows; the run's page has them all. */
const SHOWN = 5

/** Evaluations and loops as cards with their first figures; ticked ones are compared. */
export function evaluationsPage(reader: Reader, { data, hasMore }: Page<Run>): Markup {
  const { say } = reader
  const body = html`<h1>${say('evaluations')}</h1>
    <p class="lead">${say('evaluations_lead')}</p>
    ${
      data.length === 0
        ? html`<p class="empty">${say('no_evaluations')}</p>`
        : html`<form action="/runs/compare" id="compare">
            <ul class="cards">
              ${data.map((run) => card(reader, run))}
            </ul>
            <div class="below">
              <button>${say('compare')}</button>
              <small id="hint" role="status">${say('compare_hint')}</small>
              <span class="pager"
                >${hasMore ? html`<a rel="next" href="/evaluations?after=${data.at(-1)?.id ?? ''}">${say('older')} →</a>` : ''}</span
              >
            </div>
          </form>`
    }`
  return page(reader, {
    ...{ title: say('evaluations'), active: '/evaluations', body },
    scripts: ['runs.js'],
    words: ['step', 'wrong_comparison', ...RUN_STATES],
  })
}

function card({ say, language }: Reader, run: Run): Markup {
  const figures = figuresOf(run.summary)
  const options = (run.config['options'] ?? run.config) as Record<string, unknown>
  const about = [
    options['target'],
    policiesOf(run) ?? options['model'],
    options['against'],
    options['target'] === 'policy' ? undefined : options['axis'], // where it has no meaning
    options['judge'],
  ]
    .filter((each) => each !== undefined)
    .map(show)
  return html`<li class="card">
    <div class="head">
      <label
        ><input type="checkbox" name="run" value="${run.id}" />
        <span class="unseen">${say('compare')} ${run.id}</span></label
      >
      <a href="/runs/${run.id}">${say(run.kind)}</a>
      <code>${shortId(run.id)}</code> ${stateChip(run.state, say)}
      <span class="when">${moment(run.createdAt, language)}</span>
    </div>
    ${about.length === 0 ? '' : html`<p class="about">${about.join(' · ')}</p>`}
    ${tagLinks(run.tags)} ${isActive(run) ? html`<p data-live="${run.id}"></p>` : ''}
    ${run.error === null ? '' : html`<p class="problem"><b>${run.error.code}</b> ${run.error.message}</p>`}
    ${
      figures.length === 0
        ? ''
        : html`<table class="figures small">
            <tbody>
              ${figures.slice(0, SHOWN).map((row) => figureRow({ say, language }, row))}
            </tbody>
          </table>`
    }
  </li>`
}

function figureRow({ say, language }: Pick<Reader, 'say' | 'language'>, row: NamedFigure): Markup {
  const differs = isDifference(row)
  const { value, interval } = toldFigure(row, say)
  return html`<tr>
    <th scope="row">
      ${figureName(row.figure, language)}
      ${differs ? html`<small>${say('difference')}</small>` : ''}
    </th>
    <td class="number"><b>${value}</b></td>
    <td class="number">${interval}</td>
    <td class="bar">${intervalBar(row, scaleOf([row], differs))}</td>
  </tr>`
}
