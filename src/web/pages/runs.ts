import { html } from 'hono/html'
import { RUN_KINDS, RUN_STATES } from '../../schemas/run.ts'
import type { Page } from '../../store/collection.ts'
import type { Run } from '../../store/store.ts'
import { bounds, digits, figureName, figuresOf } from '../figures.ts'
import { figure, moment, page, shortId, show, span } from '../page.ts'
import type { Markup, Reader } from '../page.ts'
import type { Language, Say } from '../words.ts'

export const isActive = ({ state }: Pick<Run, 'state'>): boolean =>
  state === 'queued' || state === 'running'

export const stateChip = (state: Run['state'], say: Say): Markup =>
  html`<span class="chip ${state}">${say(state)}</span>`

const HEADLINES: readonly [string, string][] = [
  ['held_out_accuracy', 'held-out accuracy'],
  ['accuracy', 'accuracy'],
  ['objective/scores', 'score'],
  ['objective/kl', 'KL'],
  ['loss', 'loss'],
  ['labelled', 'labelled'],
  ['consistent', 'consistent'],
]
/** What came of a run in a line: its first figure, else a metric or two. */
export function headline({ summary, error }: Run, language: Language): Markup | string {
  if (error !== null) return html`<span class="error">${error.code}</span>`
  const [first] = figuresOf(summary)
  if (first !== undefined) {
    const { before, after } = first
    return before !== undefined && after !== undefined
      ? html`${figureName(first.figure, language)}
          <b>${digits(before.value)} → ${digits(after.value)}</b>`
      : html`${figureName(first.figure, language)} <b>${digits(first.value)}</b>
          <small>[${bounds(first)}]</small>`
  }
  const rounds = summary?.['rounds']
  const last = (Array.isArray(rounds) ? rounds.at(-1) : summary) as Record<string, unknown> | null
  const found = HEADLINES.flatMap(([key, name]) =>
    typeof last?.[key] === 'number' ? [html`${name} <b>${figure(last[key])}</b>`] : [],
  ).slice(0, 2)
  return found.length === 0
    ? '–'
    : html`${found.map((part, i) => (i === 0 ? part : html` · ${part}`))}`
}

export const tagLinks = (tags: readonly string[]): Markup =>
  html`${tags.map((tag) => html`<a class="tag" href="/?tag=${encodeURIComponent(tag)}">${tag}</a>`)}`

const options = (
  names: readonly string[],
  chosen: string | undefined,
  say: (x: string) => string,
) =>
  html`<option value="">${say('any')}</option>
    ${names.map(
      (name) =>
        html`<option value="${name}" ${name === chosen ? html`selected` : ''}>
          ${say(name)}
        </option>`,
    )}`

/** How many policies a list names; the run's page has them all. */
const NAMED = 2
/** The policies that an evaluation measures beside its baseline, by name; null of what measures none. */
export function policiesOf({ summary, config }: Run): string | null {
  const options = (config['options'] ?? {}) as Record<string, unknown>
  const { target, models } = options
  if (target !== 'policy' && target !== 'arena') return null
  const measured = figuresOf(summary).flatMap(({ policy }) => policy ?? [])
  const asked = Array.isArray(models) ? models.map(String) : []
  if (asked.length === 0 && measured.length === 0)
    return show(options['model'] ?? options['checkpoints_of'] ?? 'policy')
  const names = [...new Set(target === 'policy' && measured.length > 0 ? measured : asked)]
  const more = names.length - NAMED
  return `${names.slice(0, NAMED).join(', ')}${more > 0 ? ` +${more}` : ''}`
}

/** What a run is about: its axis, where it goes by one, and the policies that it measures. */
export function aboutOf(run: Run, say: Say): string {
  const { target, axis } = (run.config['options'] ?? run.config) as Record<string, unknown>
  const onAxis = target !== 'policy' && (axis === 'helpfulness' || axis === 'safety')
  const policies = policiesOf(run)
  return `${onAxis ? ` · ${say(axis)}` : ''}${policies === null ? '' : ` · ${policies}`}`
}

/** The rows of a list of runs, each with a box to tick for a comparison. */
export const runTable = (
  runs: readonly Run[],
  { say, language }: Reader,
  { compare }: { compare: boolean },
): Markup =>
  html`<table class="list">
    <thead>
      <tr>
        ${compare ? html`<th><span class="unseen">${say('compare')}</span></th>` : ''}
        <th scope="col">${say('run')}</th>
        <th scope="col">${say('state')}</th>
        <th scope="col">${say('result')}</th>
        <th scope="col">${say('created')}</th>
        <th scope="col" class="number">${say('duration')}</th>
      </tr>
    </thead>
    <tbody>
      ${runs.map(
        (run) =>
          html`<tr>
            ${
              compare
                ? html`<td class="tick">
                    <input
                      type="checkbox"
                      name="run"
                      value="${run.id}"
                      aria-label="${say('compare')} ${run.id}"
                    />
                  </td>`
                : ''
            }
            <td class="what">
              <a href="/runs/${run.id}">${say(run.kind)}</a>${aboutOf(run, say)}
              <code>${compare ? shortId(run.id) : (run.part ?? shortId(run.id))}</code>${
                run.parent === null || !compare
                  ? ''
                  : html` <small
                      >${say('of_run')}
                      <a href="/runs/${run.parent}">${shortId(run.parent)}</a></small
                    >`
              }
              ${tagLinks(run.tags)}
            </td>
            <td>${stateChip(run.state, say)}</td>
            <td class="result">
              ${isActive(run) ? html`<span data-live="${run.id}">–</span>` : headline(run, language)}
            </td>
            <td class="when">${moment(run.createdAt, language)}</td>
            <td class="number">${span(run.startedAt, run.endedAt)}</td>
          </tr>`,
      )}
    </tbody>
  </table>`

/** All runs, newest first: filter, compare, go on. */
export function runsPage(reader: Reader, { data, hasMore }: Page<Run>): Markup {
  const { say, query } = reader
  const named = (word: string): string => say(word as Parameters<Say>[0])
  const filtered = ['search', 'kind', 'state', 'tag'].some((key) => (query[key] ?? '') !== '')
  const older = new URLSearchParams({ ...query, after: data.at(-1)?.id ?? '' })
  const newest = new URLSearchParams({ ...query, after: '' })
  const body = html`<h1>${say('runs')}</h1>
    <form class="filter" role="search">
      <label class="wide"
        >${say('search')}<input
          type="search"
          name="search"
          value="${query['search'] ?? ''}"
          placeholder="${say('search_hint')}"
      /></label>
      <label
        >${say('kind')}<select name="kind">
          ${options(RUN_KINDS, query['kind'], named)}
        </select></label
      >
      <label
        >${say('state')}<select name="state">
          ${options(RUN_STATES, query['state'], named)}
        </select></label
      >
      <label>${say('tag')}<input name="tag" value="${query['tag'] ?? ''}" size="10" /></label>
      <button>${say('filter')}</button>
      ${filtered ? html`<a href="/">${say('clear')}</a>` : ''}
    </form>
    ${
      data.length === 0
        ? html`<p class="empty">${say(filtered ? 'no_runs' : 'no_runs_yet')}</p>`
        : html`<form action="/runs/compare" id="compare">
            ${runTable(data, reader, { compare: true })}
            <div class="below">
              <button>${say('compare')}</button>
              <small id="hint" role="status">${say('compare_hint')}</small>
              <span class="pager">
                ${(query['after'] ?? '') === '' ? '' : html`<a href="/?${newest.toString()}">${say('newer')}</a>`}
                ${hasMore ? html`<a rel="next" href="/?${older.toString()}">${say('older')} →</a>` : ''}
              </span>
            </div>
          </form>`
    }`
  return page(reader, {
    ...{ title: say('runs'), active: '/', body },
    scripts: ['runs.js'],
    words: ['step', 'wrong_comparison', ...RUN_STATES],
  })
}
