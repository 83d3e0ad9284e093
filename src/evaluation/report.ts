import { byPolicy, inChinese } from './figure-names.ts'
import { escape, intervalBar, lineChart, number, scaleOf, wide } from './report-charts.ts'
import { ofTail, planePlot } from './report-planes.ts'
import type { Spot } from './report-planes.ts'
import { sampleTables, scatter, shownOf } from './report-samples.ts'
import type { ReportSample } from './report-samples.ts'
import { votesCells, votesPlot, votesTable } from './report-votes.ts'
import type { VoteRow } from './report-votes.ts'
import type { Curve } from './report-charts.ts'
import type { Interval } from './statistics.ts'
import type { PlanePoint } from './trade-off.ts'

export type ReportFigure = Interval & {
  figure: string
  /** whose it is, where there are several */
  policy?: string
  before?: Interval | null
  after?: Interval | null
  /** two-sided, by itself and corrected for all that were tested together */
  p?: number
  p_holm?: number
}
/** What an evaluation, a loop or a run came to: as data, from which the page and the text are drawn. */
export type Report = {
  object: 'report'
  title: string
  /** where it comes from: kind, seed, code, data, parents */
  provenance: Record<string, string | number | null>
  warnings: string[]
  figures: ReportFigure[]
  /** what is measured or was made stands on: base → … */
  lineage?: string[]
  /** policies on both axes, with the Pareto front */
  plane?: PlanePoint[]
  /** on what a guarded loop keeps */
  votes?: VoteRow[]
  /** plots of curves, each with a title */
  curves: { title: string; curves: Curve[] }[]
  samples: ReportSample[]
  /** how many there were, where not all of them are here */
  samples_in_all?: number
  config: unknown
}

const interval = ({ low, high }: Interval): string => `${number(low)} … ${number(high)}`
/** What was tested, by itself and corrected. */
const tests = ({ p, p_holm }: ReportFigure): string[] =>
  [p, p_holm].map((each) => each?.toFixed(3) ?? '')
const isTested = (figures: readonly ReportFigure[]): boolean =>
  figures.some(({ p_holm: p }) => p !== undefined)
const isPaired = (figures: readonly ReportFigure[]): boolean =>
  figures.some(({ before, after }) => before && after)

const STYLE = `:root{color-scheme:light dark;--ink:#1c2430;--paper:#fff;--faint:#5a6675;--line:#d8dde3;--mark:#fff3c9}
@media (prefers-color-scheme:dark){:root{--ink:#e6eaf0;--paper:#11151b;--faint:#a3aebb;--line:#2c3541;--mark:#3a3210}}
body{font:16px/1.55 system-ui,"Noto Sans CJK SC","PingFang SC","Microsoft YaHei",sans-serif;max-width:72rem;margin:2rem auto;padding:0 1.2rem;color:var(--ink);background:var(--paper)}
h1{font-size:1.6rem;line-height:1.25;overflow-wrap:anywhere}h2{font-size:1.15rem;margin-top:2rem}h3{font-size:1rem;margin:1.4rem 0 .4rem}a{color:inherit}
table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid var(--line);padding:.4rem .6rem;text-align:left;vertical-align:top}thead th{font-size:.85rem;color:var(--faint)}tbody th{font-weight:400;min-width:9rem}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}.bar{width:9rem}.interval{width:100%;height:.8rem;margin-top:.35rem}
.interval line{vector-effect:non-scaling-stroke;stroke:var(--line)}.interval .zero{stroke:var(--faint);stroke-dasharray:2 2}.interval .reach{stroke:#0a66a8;stroke-width:3}.interval .value{stroke:var(--ink);stroke-width:3}
.wide{overflow-x:auto}.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(26rem,100%),1fr));gap:1rem}.charts svg,.scatter{max-width:100%;height:auto}.scatter{max-width:44rem}.votes{max-width:27rem}.ballots td:nth-child(2){min-width:13rem}.ballots tbody th{min-width:0;white-space:nowrap}
.scatter text{font:11px system-ui,sans-serif;fill:#444}.scatter .head{font-size:14px;font-weight:600}.scatter .grid line{stroke:#e4e7eb}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(13rem,1fr));gap:.6rem 1.2rem;margin:0}.facts dt{font-size:.82rem;color:var(--faint)}.facts dd{margin:0;overflow-wrap:anywhere}
.samples td{overflow-wrap:anywhere;white-space:pre-wrap}.samples tr:target{background:var(--mark)}.samples small{color:var(--faint);white-space:nowrap}
.warning{padding:.6rem .9rem;border-left:4px solid #b3500a;background:var(--mark)}pre{overflow:auto;font-size:.85rem;border:1px solid var(--line);padding:.8rem}
@media print{.wide{overflow:visible}:root{--ink:#000;--paper:#fff;--faint:#444;--line:#bbb;--mark:#fff}body{margin:0;max-width:none;padding:0;font-size:10pt}td,th{padding:.25rem .3rem}tbody th,.ballots td:nth-child(2){min-width:0}thead .number,td.number{white-space:normal}.bar{width:4rem}h2{break-after:avoid}tr,.charts>*,.scatter{break-inside:avoid}thead{display:table-header-group}pre{white-space:pre-wrap;overflow:visible}details:not([open])>summary{display:none}}`

/** Names of a report's facts in Chinese too; what is not here stands as it is. */
const FACTS: Record<string, string> = {
  run: '运行',
  kind: '类型',
  state: '状态',
  seed: '种子',
  'started from': '起点',
  'data (SHA-256)': '数据',
  'part of': '属于',
  device: '设备',
  'code version': '代码版本',
  started: '开始',
  ended: '结束',
  tags: '标签',
  notes: '备注',
}

const BOTH = ['en', 'zh'] as const

/** One self-contained HTML file: no script, no network. Chinese and English labels. */
export function renderHtml(report: Report): string {
  const { title, provenance, warnings, figures, plane = [], curves, samples, config } = report
  const { lineage = [], votes = [] } = report
  const section = (name: string, body: string): string =>
    body === '' ? '' : `<section><h2>${name}</h2>${body}</section>`
  const facts = Object.entries(provenance)
    .filter(([, value]) => value !== null)
    .map(
      ([key, value]) =>
        `<div><dt>${escape(key)} ${FACTS[key] ?? ''}</dt><dd>${escape(String(value))}</dd></div>`,
    )
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>${escape(title)}</title>
<style>${STYLE}</style></head><body><main>
<h1>${escape(title)}</h1>
<dl class="facts">${facts.join('')}</dl>
${warnings.map((warning) => `<p class="warning">${escape(warning)}</p>`).join('')}
${section('Figures 指标', figureTables(figures))}
${section('Trade-off 权衡', frontOf(plane) + scatter(samples))}
${section('Votes on what is kept 对保留哪个策略的表决', votes.length === 0 ? '' : votesPlot(votes, BOTH) + wide('votes 表决', votesTable(votes, BOTH)))}
${section('Curves 曲线', curves.length === 0 ? '' : `<div class="charts">${curves.map((plot) => lineChart(plot.title, plot.curves)).join('')}</div>`)}
${section('Samples 样例', shownOf(samples.length, report.samples_in_all) + sampleTables(samples))}
${section('Lineage 谱系', lineage.length === 0 ? '' : `<ul>${lineage.map((line) => `<li>${escape(line)}</li>`).join('')}</ul>`)}
${section('Configuration 配置', `<pre tabindex="0" role="region" aria-label="configuration 配置">${escape(JSON.stringify(config, null, 1))}</pre>`)}
</main></body></html>`
}

const chinese = (figure: string): string => {
  const name = inChinese(figure)
  return name === null ? '' : ` <span lang="zh-CN">${escape(name)}</span>`
}

const intervalCell = (x: Interval): string =>
  `<td class="number">${number(x.value)} <small>[${interval(x)}]</small></td>`

/** What is a difference from a baseline, and what stands for itself. */
const parted = (figures: readonly ReportFigure[]): ReportFigure[][] =>
  [
    figures.filter(({ before, after }) => before && after),
    figures.filter(({ before, after }) => !before || !after),
  ].filter((part) => part.length > 0)
const figureTables = (figures: readonly ReportFigure[]): string =>
  byPolicy(figures)
    .map(({ policy, figures: own }) => {
      const tables = parted(own).map((part) => figureTable(part, policy))
      return `${policy === null ? '' : `<h3>${escape(policy)}</h3>`}${tables.join('')}`
    })
    .join('')

function figureTable(figures: readonly ReportFigure[], policy: string | null): string {
  const paired = isPaired(figures)
  const tested = isTested(figures)
  const cell = (x: Interval | null | undefined): string =>
    x ? intervalCell(x) : '<td class="number">–</td>'
  const head = [
    '<th scope="col">figure 指标</th>',
    ...(paired ? ['before 之前', 'after 之后', 'difference 差值'] : ['value 数值']).map(
      (name) => `<th scope="col" class="number">${name}</th>`,
    ),
    '<th scope="col" class="number">95 % interval 置信区间</th><th class="bar"></th><th scope="col" class="number">n</th>',
    ...(tested
      ? ['p', 'p (Holm)'].map((name) => `<th scope="col" class="number">${name}</th>`)
      : []),
  ]
  // the same figure of several is drawn on one scale
  const last = ({ figure }: ReportFigure): string => figure.slice(figure.lastIndexOf(': ') + 1)
  const kin = (row: ReportFigure): ReportFigure[] =>
    figures.filter((other) => last(other) === last(row))
  const rows = figures.map(
    (row) =>
      `<tr><th scope="row">${escape(row.figure)}${chinese(row.figure)}</th>${paired ? cell(row.before) + cell(row.after) : ''}<td class="number"><b>${number(row.value)}</b></td><td class="number">${interval(row)}</td><td class="bar">${intervalBar(row, scaleOf(kin(row), paired))}</td><td class="number">${row.n}</td>${(tested ? tests(row) : []).map((p) => `<td class="number">${p}</td>`).join('')}</tr>`,
  )
  return wide(
    `${policy === null ? '' : `${escape(policy)}: `}${paired ? 'differences 差值' : 'values 数值'}`,
    `<table><thead><tr>${head.join('')}</tr></thead><tbody>${rows.join('')}</tbody></table>`,
  )
}

/** Policies in the plane by mean safety and by safe answers, and how sure it is that each is on the front. */
const frontOf = (plane: readonly PlanePoint[]): string =>
  plane.length === 0
    ? ''
    : [
        onePlane('Pareto front of policies 策略的帕累托前沿', 'safe 安全', plane),
        onePlane('By safe answers 按安全回答的比例', 'safe answers 安全回答', plane.map(ofTail)),
      ].join('')

function onePlane(title: string, y: string, plane: readonly Spot[]): string {
  const x = 'helpful 有用'
  const head = [
    '<th scope="col">policy 策略</th>',
    ...[x, y].map((name) => `<th scope="col" class="number">${name}</th>`),
    '<th scope="col">on the front 在前沿上</th>',
    '<th scope="col" class="number">in resamples 重抽样中</th>',
  ]
  const rows = plane.map(
    ({ name, helpfulness, safety, front, membership }) =>
      `<tr><th scope="row">${escape(name)}</th>${intervalCell(helpfulness)}${intervalCell(safety)}<td>${front ? '✓' : ''}</td><td class="number">${(100 * membership).toFixed(1)} %</td></tr>`,
  )
  const table = `<table class="front"><thead><tr>${head.join('')}</tr></thead><tbody>${rows.join('')}</tbody></table>`
  return planePlot(title, { x, y }, plane) + wide(title, table)
}

/** The figures and where they come from as Markdown, for a pull request. */
export function renderMarkdown(report: Report): string {
  const { title, provenance, warnings, figures, plane = [], lineage = [], config } = report
  const [head = [], ...votes] = votesCells(report.votes ?? [])
  const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ')
  const line = (cells: readonly string[]): string => `| ${cells.map(cell).join(' | ')} |`
  const both = (x: Interval): string => `${number(x.value)} [${interval(x)}]`
  const table = (part: readonly ReportFigure[]): string => {
    const [paired, tested] = [isPaired(part), isTested(part)]
    const names = paired ? ['before', 'after', 'difference'] : ['value']
    const head = ['figure', ...names, '95 % interval', 'n', ...(tested ? ['p', 'p (Holm)'] : [])]
    const rows = part.map((row) => [
      row.figure,
      ...(paired ? [row.before, row.after].map((x) => (x ? both(x) : '–')) : []),
      ...[number(row.value), interval(row), String(row.n), ...(tested ? tests(row) : [])],
    ])
    return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
  }
  const frontTable = (points: readonly PlanePoint[]): string => {
    const standing = ({ safety, front, membership }: PlanePoint['tail']): string[] => [
      ...[both(safety), front ? 'yes' : 'no', `${(100 * membership).toFixed(1)} %`],
    ]
    const rows = points.map((point) => [
      ...[point.name, both(point.helpfulness), ...standing(point), ...standing(point.tail)],
    ])
    const head = [
      ...['policy', 'helpful', 'safe', 'on the front', 'in resamples'],
      ...['safe answers', 'on that front', 'in resamples'],
    ]
    return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
  }
  const facts = Object.entries(provenance).filter(([, value]) => value !== null)
  return [
    `## ${title}`,
    ...warnings.map((warning) => `> **Warning** ${warning}`),
    ...byPolicy(figures).flatMap(({ policy, figures: own }) => [
      policy === null ? '' : `### ${policy}`,
      ...parted(own).map(table),
    ]),
    plane.length === 0 ? '' : frontTable(plane),
    votes.length === 0 ? '' : [head, head.map(() => '---'), ...votes].map(line).join('\n'),
    lineage.map((each) => `- lineage: ${each}`).join('\n'),
    facts.map(([key, value]) => `- ${key}: \`${String(value)}\``).join('\n'),
    `<details><summary>Configuration</summary>\n\n\`\`\`json\n${JSON.stringify(config, null, 1)}\n\`\`\`\n\n</details>`,
  ]
    .filter((part) => part !== '')
    .join('\n\n')
    .concat('\n')
}
