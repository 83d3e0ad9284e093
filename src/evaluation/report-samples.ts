import type { Axis } from '../schemas/feedback.ts'
import { escape, number, wide } from './report-charts.ts'
import { scatterPlot } from './report-planes.ts'
import type { ResponseClass } from './response-class.ts'

/** What policies answered, in a report: side by side, and in the plane of both axes. */

export type SampleAnswer = {
  name: string
  text: string
  helpfulness?: number
  safety?: number
  /** what kind of answer it is, by rules */
  class?: ResponseClass
  safe_and_helpful?: boolean
  /** P(this answer is better than the baseline’s) by the judge; null: no verdict */
  verdicts?: Partial<Record<Axis, number | null>>
}
export type ReportSample = {
  prompt: string
  label?: 'safe' | 'unsafe' | null
  category?: string | null
  /** of its conversation, from 1, where some prompts have several */
  turn?: number
  answers: SampleAnswer[]
}

/** How many samples are open; the rest are behind a fold. */
const OPEN = 24

/** Each answer in the plane of both axes, by who gave it; a point opens its answer. */
export function scatter(samples: readonly ReportSample[]): string {
  const names = [...new Set(samples.flatMap(({ answers }) => answers.map(({ name }) => name)))]
  const groups = names.map((name) => ({
    name,
    points: samples.flatMap(({ prompt, answers }, i) =>
      answers.flatMap((answer) =>
        answer.name !== name || answer.helpfulness === undefined || answer.safety === undefined
          ? []
          : [{ x: answer.helpfulness, y: answer.safety, label: prompt, link: `#sample-${i + 1}` }],
      ),
    ),
  }))
  if (groups.every(({ points }) => points.length === 0)) return ''
  const title = 'Helpfulness against safety 有用性与安全性'
  return scatterPlot(title, { x: 'helpful 有用', y: 'safe 安全' }, groups)
}

/** What is known of a text, small behind it. */
const notes = (known: readonly (string | null | undefined)[]): string =>
  known
    .filter((each) => each != null)
    .map((each) => ` <small>${escape(each.replaceAll('_', ' '))}</small>`)
    .join('')

/** How many of all there are on the page, where these are some of them. */
export const shownOf = (shown: number, all = shown): string =>
  shown === all
    ? ''
    : `<p>${shown} of ${all} are here, and in the scatter plot. 共 ${all} 条，此处与散点图中有 ${shown} 条。</p>`

/** The samples side by side, most of them behind a fold. */
export function sampleTables(samples: readonly ReportSample[]): string {
  if (samples.length === 0) return ''
  const names = [...new Set(samples.flatMap(({ answers }) => answers.map(({ name }) => name)))]
  const head = ['prompt 问题', ...names].map((name) => `<th scope="col">${escape(name)}</th>`)
  const row = ({ prompt, label, category, turn, answers }: ReportSample, i: number): string => {
    const cells = names.map((name) => {
      const answer = answers.find((each) => each.name === name)
      const scores =
        answer?.helpfulness === undefined || answer.safety === undefined
          ? undefined
          : `${number(answer.helpfulness)} / ${number(answer.safety)}`
      return `<td>${escape(answer?.text ?? '')}${notes([scores, answer?.class])}</td>`
    })
    return `<tr id="sample-${i + 1}"><td>${escape(prompt)}${notes([label, category, turn === undefined ? null : `turn ${turn} 第 ${turn} 轮`])}</td>${cells.join('')}</tr>`
  }
  const rows = samples.map(row)
  const table = (part: readonly string[], label: string): string =>
    wide(
      label,
      `<table class="samples"><thead><tr>${head.join('')}</tr></thead><tbody>${part.join('')}</tbody></table>`,
    )
  const rest = rows.slice(OPEN)
  return `${table(rows.slice(0, OPEN), 'samples 样例')}${rest.length === 0 ? '' : `<details><summary>${rest.length} more 更多</summary>${table(rest, 'more samples 更多样例')}</details>`}`
}
