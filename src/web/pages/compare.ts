import { html } from 'hono/html'
import type { RunComparison } from '../../services/run-records.ts'
import { figureName, figuresOf, intervalBar, isDifference, toldFigure } from '../figures.ts'
import type { NamedFigure } from '../figures.ts'
import { scaleOf } from '../../evaluation/report-charts.ts'
import { figure, page, shortId, show } from '../page.ts'
import type { Markup, Reader } from '../page.ts'
import { aboutOf, stateChip, tagLinks } from './runs.ts'

/** Runs or evaluations beside each other: figures with intervals, curves, where their configurations differ. */
export function comparePage(
  reader: Reader,
  { runs, configuration, metrics }: RunComparison,
): Markup {
  const { say } = reader
  const head = html`<tr>
    <td></td>
    ${runs.map(
      (run, i) =>
        html`<th scope="col">
          <span class="swatch s${i}"></span><a href="/runs/${run.id}">${say(run.kind)}</a>
          <code>${shortId(run.id)}</code>
        </th>`,
    )}
  </tr>`
  const rows = (
    label: string,
    list: readonly { name: string; values: readonly unknown[]; numbers: boolean }[],
  ) =>
    html`<div class="scroll" tabindex="0" role="region" aria-label="${label}">
      <table class="beside">
        <thead>
          ${head}
        </thead>
        <tbody>
          ${list.map(
            ({ name, values, numbers }) =>
              html`<tr>
                <th scope="row">${name}</th>
                ${values.map(
                  (value) =>
                    html`<td class="${numbers ? 'number' : ''}">
                      ${numbers ? figure(value) : show(value)}
                    </td>`,
                )}
              </tr>`,
          )}
        </tbody>
      </table>
    </div>`
  const body = html`<p class="trail"><a href="/">${say('runs')}</a></p>
    <h1>${say('compare')}</h1>
    <ul class="compared">
      ${runs.map(
        (run, i) =>
          html`<li>
            <span class="swatch s${i}"></span
            ><a href="/runs/${run.id}">${say(run.kind)}</a>${aboutOf(run, say)}
            <code>${run.id}</code> ${stateChip(run.state, say)}
            ${tagLinks(run.tags)}${run.notes === '' ? '' : html`<br /><small>${run.notes}</small>`}
          </li>`,
      )}
    </ul>
    ${figuresBeside(reader, runs)}
    <section>
      <h2>${say('configuration_difference')}</h2>
      ${
        configuration.length === 0
          ? html`<p class="empty">${say('none')}</p>`
          : rows(
              say('configuration_difference'),
              configuration.map(({ field, values }) => ({ name: field, values, numbers: false })),
            )
      }
    </section>
    ${
      metrics.length === 0
        ? ''
        : html`<section>
              <h2>${say('curves')}</h2>
              <div
                class="charts"
                id="overlay"
                data-runs="${runs.map(({ id }) => id).join(',')}"
              ></div>
            </section>
            <section>
              <h2>${say('final_metrics')}</h2>
              ${rows(
                say('final_metrics'),
                metrics.map(({ metric, values }) => ({ name: metric, values, numbers: true })),
              )}
            </section>`
    }`
  return page(reader, {
    ...{ title: say('compare'), active: '/', body },
    scripts: metrics.length === 0 ? [] : ['uplot.js', 'compare.js'],
    words: ['step'],
  })
}

function figuresBeside({ say, language }: Reader, runs: RunComparison['runs']): Markup | string {
  const each = runs.map(
    ({ summary }) => new Map(figuresOf(summary).map((row) => [row.figure, row])),
  )
  const names = [...new Set(each.flatMap((map) => [...map.keys()]))]
  if (names.length === 0) return ''
  return html`<section>
    <h2>${say('figures')} <small>${say('interval')}</small></h2>
    <div class="scroll" tabindex="0" role="region" aria-label="${say('figures')}">
      <table class="beside">
        <thead>
          <tr>
            <td></td>
            ${runs.map(
              (run, i) =>
                html`<th scope="col">
                  <span class="swatch s${i}"></span><code>${shortId(run.id)}</code>
                </th>`,
            )}
          </tr>
        </thead>
        <tbody>
          ${names.map((name) => {
            const values = each.map((map) => map.get(name))
            return html`<tr>
              <th scope="row">${figureName(name, language)}</th>
              ${values.map((value) =>
                value === undefined ? html`<td>–</td>` : figureCell(value, values, say),
              )}
            </tr>`
          })}
        </tbody>
      </table>
    </div>
  </section>`
}

/** A figure of one run, drawn on the scale of its kind in the others. */
function figureCell(
  row: NamedFigure,
  beside: readonly (NamedFigure | undefined)[],
  say: Reader['say'],
): Markup {
  const differs = isDifference(row)
  const alike = beside
    .filter((other) => other !== undefined)
    .filter((other) => isDifference(other) === differs)
  const { value, interval, sides } = toldFigure(row, say)
  return html`<td>
    ${differs ? html`<small>${say('difference')}</small>` : ''} <b>${value}</b>
    <small>[${interval}] n=${row.n}</small>${differs ? html` <small>${sides}</small>` : ''}
    ${intervalBar(row, scaleOf(alike, differs))}
  </td>`
}
