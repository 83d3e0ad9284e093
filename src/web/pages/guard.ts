import { html, raw } from 'hono/html'
import { votesPlot, votesTable } from '../../evaluation/report-votes.ts'
import { voteRows } from '../../services/guard.ts'
import type { GuardReport } from '../../services/guard.ts'
import { AXES } from '../../schemas/feedback.ts'
import type { RunEvent } from '../../store/store.ts'
import { digits } from '../figures.ts'
import type { Markup, Reader } from '../page.ts'

type Told = {
  round?: number
  action?: string
  worse?: number
  limit?: number
  winRate?: Record<string, number | null>
  signals?: { kl?: number | null }
  opinions?: Record<'own' | 'twins', Record<string, number | null>>
  reason?: string
}

/** What the guard of a loop saw at each look, and what it decided; its newest reason in words. */
export function guardTable({ say }: Reader, events: readonly RunEvent[]): Markup | string {
  const looks = events.filter(({ type }) => type === 'guard').map(({ data }) => data as Told)
  if (looks.length === 0) return ''
  const twins = looks.some(({ opinions }) => opinions !== undefined)
  const number = (x: number | null | undefined): string => (x == null ? '–' : digits(x))
  return html`<section>
    <h2>${say('guard')}</h2>
    <p>${looks.at(-1)?.reason ?? ''}</p>
    <div class="scroll" tabindex="0" role="region" aria-label="${say('guard')}">
      <table class="figures">
        <thead>
          <tr>
            <th scope="col" class="number">${say('round')}</th>
            <th scope="col" class="number">${say('guard_helpfulness')}</th>
            <th scope="col" class="number">${say('guard_safety')}</th>
            <th scope="col" class="number">${say('guard_worse')}</th>
            ${twins ? AXES.map((axis) => html`<th scope="col" class="number">${say(TWINS[axis])}</th>`) : ''}
            <th scope="col" class="number">KL</th>
            <th scope="col">${say('guard_action')}</th>
          </tr>
        </thead>
        <tbody>
          ${looks.map(
            ({ round, winRate, worse, limit, signals, opinions, action }) =>
              html`<tr>
                <td class="number" data-label="${say('round')}">${round ?? ''}</td>
                <td class="number" data-label="${say('guard_helpfulness')}">
                  ${number(winRate?.['helpfulness'])}
                </td>
                <td class="number" data-label="${say('guard_safety')}">
                  ${number(winRate?.['safety'])}
                </td>
                <td class="number" data-label="${say('guard_worse')}">
                  ${number(worse)} / ${number(limit)}
                </td>
                ${
                  twins
                    ? AXES.map(
                        (axis) =>
                          html`<td class="number" data-label="${say(TWINS[axis])}">
                            ${number(opinions?.own[axis])} / ${number(opinions?.twins[axis])}
                          </td>`,
                      )
                    : ''
                }
                <td class="number" data-label="KL">${number(signals?.kl)}</td>
                <td data-label="${say('guard_action')}">
                  ${action === undefined ? '' : say(WORD[action] ?? 'guard_go_on')}
                </td>
              </tr>`,
          )}
        </tbody>
      </table>
    </div>
  </section>`
}
const TWINS = { helpfulness: 'guard_twins_helpfulness', safety: 'guard_twins_safety' } as const
const WORD: Record<string, 'guard_go_on' | 'guard_accept' | 'guard_stop'> = {
  ...{ go_on: 'guard_go_on', accept: 'guard_accept', stop: 'guard_stop' },
}

/** Who was voted on, and who is kept; nothing while a loop goes on. */
export function guardVotes(
  { say, language }: Reader,
  summary: Record<string, unknown> | null,
): Markup | string {
  // written by rlaif/guarded.ts; `ballots` since 2026-11-30
  const rows = voteRows((summary?.['guard'] ?? null) as Partial<GuardReport> | null)
  if (rows.length === 0) return ''
  return html`<section>
    <h2>${say('guard_votes')}</h2>
    ${raw(votesPlot(rows, [language]))}
    <div class="scroll" tabindex="0" role="region" aria-label="${say('guard_votes')}">
      ${raw(votesTable(rows, [language]))}
    </div>
  </section>`
}
