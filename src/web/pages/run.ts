import { html } from 'hono/html'
import { RUN_STATES } from '../../schemas/run.ts'
import type { ModelRow, Run, RunEvent } from '../../store/store.ts'
import { bounds, digits, figureName, figuresOf, intervalBar, planeOf } from '../figures.ts'
import { byPolicy } from '../../evaluation/figure-names.ts'
import { scaleOf } from '../../evaluation/report-charts.ts'
import type { NamedFigure } from '../figures.ts'
import { warningsOf } from '../../services/report.ts'
import { RESUMABLE } from '../../services/runs.ts'
import { curveRuns } from '../../services/run-records.ts'
import { figure, moment, page, shortId, show, span } from '../page.ts'
import type { Markup, Reader } from '../page.ts'
import { guardTable, guardVotes } from './guard.ts'
import { isActive, runTable, stateChip, tagLinks } from './runs.ts'

export type RunView = {
  run: Run
  children: readonly Run[]
  models: readonly ModelRow[]
  configuration: Record<string, unknown>
  hasReport: boolean
  /** of a loop: what its guard said */
  guard: readonly RunEvent[]
}

/** What can be done to a run as it is now. */
function actionsOf(run: Run): ('pause' | 'resume' | 'cancel')[] {
  const goesOn = RESUMABLE.includes(run.kind) && run.parent === null
  if (isActive(run)) return goesOn ? ['pause', 'cancel'] : ['cancel']
  return goesOn && run.state !== 'succeeded' ? ['resume'] : []
}

/** One run: what came of it, its curves as they grow, what it was started with, what people say of it. */
export function runPage(reader: Reader, view: RunView): Markup {
  const { say } = reader
  const { run, children, configuration } = view
  const figures = figuresOf(run.summary)
  const plane = planeOf(run.summary, say)
  const curves = curveRuns(run, children)
  const body = html`<p class="trail">
      <a href="/">${say('runs')}</a>${
        run.parent === null ? '' : html` / <a href="/runs/${run.parent}">${shortId(run.parent)}</a>`
      }
    </p>
    <div class="title">
      <h1>${say(run.kind)} <code>${run.id}</code></h1>
      <span id="state" data-state="${run.state}">${stateChip(run.state, say)}</span>
      <span class="actions">
        ${actionsOf(run).map(
          (action) =>
            html`<button
              type="button"
              class="${action === 'cancel' ? 'quiet bad' : 'quiet'}"
              data-action="/v1/runs/${run.id}/${action}"
            >
              ${say(action)}
            </button>`,
        )}
        ${view.hasReport ? html`<a class="button" href="/v1/runs/${run.id}/report">${say('report')}</a>` : ''}
      </span>
    </div>
    <p>${tagLinks(run.tags)}</p>
    ${
      run.error === null
        ? ''
        : html`<p class="problem"><b>${run.error.code}</b> ${run.error.message}</p>`
    }
    ${warningsOf(run).map((warning) => html`<p class="warning"><b>${say('warning')}</b> ${warning}</p>`)}
    ${facts(reader, view)} ${figureTables(reader, figures)}
    ${
      plane === null
        ? ''
        : html`<section>
            <h2>${say('trade_off')}</h2>
            ${plane}
          </section>`
    }
    <section aria-labelledby="curves-title">
      <h2 id="curves-title">${say('curves')}</h2>
      <p class="exports">
        ${say('export')}:
        ${(['jsonl', 'csv', 'tensorboard'] as const).map(
          (format) =>
            html`<a href="/v1/runs/${run.id}/metrics?format=${format}" download
              >${{ jsonl: 'JSONL', csv: 'CSV', tensorboard: 'TensorBoard' }[format]}</a
            > `,
        )}
      </p>
      <div
        class="charts"
        id="curves"
        data-runs="${curves.map(({ id }) => id).join()}"
        data-active="${String(isActive(run))}"
      >
        <p class="empty">${say('no_metrics')}</p>
      </div>
      <details id="more" hidden>
        <summary>${say('all_metrics')}</summary>
        <div class="charts"></div>
      </details>
    </section>
    ${guardTable(reader, view.guard)} ${guardVotes(reader, run.summary)}
    ${
      children.length === 0
        ? ''
        : html`<section>
            <h2>${say('children')}</h2>
            ${runTable(children, reader, { compare: false })}
          </section>`
    }
    <div class="columns">
      <section>
        <h2>${say('notes')}</h2>
        <form id="notes" data-run="${run.id}">
          <label
            >${say('tags')} <small>${say('tags_hint')}</small
            ><input name="tags" value="${run.tags.join(' ')}"
          /></label>
          <label>${say('notes')}<textarea name="notes" rows="4">${run.notes}</textarea></label>
          <button>${say('accept')}</button> <span role="status"></span>
        </form>
      </section>
      <section>
        <h2>${say('configuration')}</h2>
        <div class="scroll" tabindex="0" role="region" aria-label="${say('configuration')}">
          <table class="plain">
            <tbody>
              ${Object.entries(configuration).map(
                ([field, value]) =>
                  html`<tr>
                    <th scope="row">${field}</th>
                    <td>${show(value)}</td>
                  </tr>`,
              )}
            </tbody>
          </table>
        </div>
      </section>
    </div>
    <section>
      <h2>${say('last_events')}</h2>
      <div
        id="log"
        class="log scroll"
        tabindex="0"
        role="log"
        aria-label="${say('last_events')}"
      ></div>
    </section>`
  return page(reader, {
    ...{ title: `${say(run.kind)} ${shortId(run.id)}`, active: '/', body },
    scripts: ['uplot.js', 'run.js'],
    words: ['step', 'note_saved', ...RUN_STATES],
  })
}

function facts({ say, language }: Reader, { run, models }: RunView): Markup {
  const rows: [string, Markup | string][] = [
    [say('started'), moment(run.startedAt ?? run.createdAt, language)],
    [say('duration'), span(run.startedAt, run.endedAt)],
    [say('seed'), String(run.seed)],
    [say('device'), show(run.device)],
    [say('code_version'), run.codeVersion],
    ...(models.length === 0
      ? []
      : [
          [
            say('models'),
            html`${models.map(({ id }) => html`<code class="line">${id}</code>`)}`,
          ] as [string, Markup],
        ]),
    ...(run.parentCheckpoint === null
      ? []
      : [
          [say('parent_checkpoint'), html`<code>${tail(run.parentCheckpoint)}</code>`] as [
            string,
            Markup,
          ],
        ]),
    ...(run.dataHash === null
      ? []
      : [[say('data'), html`<code>${run.dataHash.slice(0, 12)}</code>`] as [string, Markup]]),
  ]
  return html`<dl class="facts">
    ${rows.map(
      ([name, value]) =>
        html`<div>
          <dt>${name}</dt>
          <dd>${value}</dd>
        </div>`,
    )}
  </dl>`
}
const tail = (path: string): string => path.split('/').slice(-2).join('/')

/** What is a difference from a baseline, then what stands for itself. */
function figureTables(reader: Reader, figures: readonly NamedFigure[]): Markup | string {
  if (figures.length === 0) return ''
  return html`<section>
    <h2>${reader.say('figures')}</h2>
    ${byPolicy(figures).map(
      ({ policy, figures: own }) =>
        html`${policy === null ? '' : html`<h3>${policy}</h3>`}
        ${[
          own.filter(({ before }) => before !== undefined),
          own.filter(({ before }) => before === undefined),
        ]
          .filter((part) => part.length > 0)
          .map((part) => figureTable(reader, part, policy))}`,
    )}
  </section>`
}

/** Figures with their intervals, in numbers and as lines on a scale of their own. */
function figureTable(
  { say, language }: Reader,
  figures: readonly NamedFigure[],
  policy: string | null,
): Markup {
  const paired = figures.some(({ before }) => before !== undefined)
  const tested = figures.some(({ p_holm }) => p_holm !== undefined)
  return html`<div
    class="scroll"
    tabindex="0"
    role="region"
    aria-label="${policy ?? say('figures')}: ${say(paired ? 'difference' : 'result')}"
  >
    <table class="figures">
      <thead>
        <tr>
          <th scope="col">${say('figure')}</th>
          ${
            paired
              ? html`<th scope="col" class="number">${say('reference')}</th>
                  <th scope="col" class="number">${say('policy')}</th>`
              : ''
          }
          <th scope="col" class="number">${say(paired ? 'difference' : 'result')}</th>
          <th scope="col" class="number">${say('interval')}</th>
          <th class="bar"><span class="unseen">${say('interval')}</span></th>
          <th scope="col" class="number">n</th>
          ${tested ? html`<th scope="col" class="number">${say('p_holm')}</th>` : ''}
        </tr>
      </thead>
      <tbody>
        ${figures.map(
          (row) =>
            html`<tr>
              <th scope="row">${figureName(row.figure, language)}</th>
              ${
                paired
                  ? html`<td class="number" data-label="${say('reference')}">
                        ${row.before ? digits(row.before.value) : '–'}
                      </td>
                      <td class="number" data-label="${say('policy')}">
                        ${row.after ? digits(row.after.value) : '–'}
                      </td>`
                  : ''
              }
              <td class="number" data-label="${say(paired ? 'difference' : 'result')}">
                <b>${digits(row.value)}</b>
              </td>
              <td class="number" data-label="${say('interval')}">${bounds(row)}</td>
              <td class="bar">${intervalBar(row, scaleOf([row], row.before !== undefined))}</td>
              <td class="number" data-label="n">${figure(row.n)}</td>
              ${
                tested
                  ? html`<td class="number" data-label="${say('p_holm')}">
                      ${row.p_holm === undefined ? '' : row.p_holm.toFixed(3)}
                    </td>`
                  : ''
              }
            </tr>`,
        )}
      </tbody>
    </table>
  </div>`
}
