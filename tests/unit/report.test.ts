import { expect, test } from 'vitest'
import { byPolicy } from '../../src/evaluation/figure-names.ts'
import { renderHtml, renderMarkdown } from '../../src/evaluation/report.ts'
import type { Report } from '../../src/evaluation/report.ts'
import { voteRows } from '../../src/services/guard.ts'
import { guardOfTwo } from '../helpers/ballots.ts'

const EVIL = '</pre><script>alert(1)</script>|`'
const interval = { value: 0.5, low: 0.4, high: 0.6, n: 9 }
const report: Report = {
  object: 'report',
  title: `run ${EVIL}`,
  provenance: { run: 'run_1', notes: EVIL, device: null },
  warnings: [EVIL],
  figures: [
    { figure: `safe and helpful ${EVIL}`, ...interval },
    { figure: 'paired', ...interval, before: interval, after: interval, p: 0.012, p_holm: 0.036 },
  ],
  curves: [{ title: `奖励 ${EVIL}`, curves: [{ name: EVIL, steps: [1, 2], values: [1, null] }] }],
  samples: Array.from({ length: 30 }, (_, i) => ({
    ...{ prompt: `${i} ${EVIL}`, label: 'unsafe', category: EVIL },
    answers: [
      {
        name: 'before 之前',
        text: EVIL,
        helpfulness: 1,
        safety: 1,
        class: 'refuse_with_alternative',
      },
      { name: 'after 之后', text: '七大洲', helpfulness: i / 30, safety: 1 - i / 30 },
    ],
  })),
  config: { text: EVIL },
}

test('the page is one file: no script, nothing from elsewhere, every text escaped', () => {
  const html = renderHtml(report)
  expect(html).not.toMatch(/<script|<link|<img|@import|\son\w+=/)
  expect(html.match(/(?:src|href)="(?!#)[^"]*"|url\((?!#)[^)]*\)/g)).toBeNull()
  expect(html).toContain('&lt;script&gt;alert(1)')
  expect(html).not.toContain('null')
})

test('a point of the trade-off opens its answer, also behind the fold', () => {
  const html = renderHtml(report)
  for (const [, id = ''] of html.matchAll(/<a href="#([^"]*)"/g))
    expect(html, id).toContain(`<tr id="${id}"`)
  expect(html.match(/<a href="#sample-30"/g)).toHaveLength(2)
  expect(html).toContain('<summary>6 more')
})

test('where not all samples are on the page, it says how many there are', () => {
  expect(renderHtml({ ...report, samples_in_all: 1600 })).toContain('30 of 1600 are here')
  expect(renderHtml({ ...report, samples_in_all: 30 })).not.toContain('are here')
  expect(renderHtml(report)).not.toContain('are here')
})

test('as Markdown: the figures as a table whose cells no text breaks', () => {
  const text = renderMarkdown(report)
  const table = text.split('\n').filter((line) => line.startsWith('| '))
  // what is a difference stands in a table of its own
  expect(table.map((line) => line.match(/(?<!\\)\|/g)?.length)).toEqual([9, 9, 9, 5, 5, 5])
  const whole = '0.500 [0.400 … 0.600]'
  expect(table[0]).toContain('| n | p | p (Holm) |')
  expect(table[2]).toBe(
    `| paired | ${whole} | ${whole} | 0.500 | 0.400 … 0.600 | 9 | 0.012 | 0.036 |`,
  )
})

test('before and after have their intervals on the page, what was tested both p values, a sample what is known of it', () => {
  const html = renderHtml(report)
  expect(html.match(/0\.500 <small>\[0\.400 … 0\.600\]<\/small>/g)).toHaveLength(2)
  expect(html).toContain('<td class="number">0.012</td><td class="number">0.036</td>')
  expect(html).toContain('<small>unsafe</small> <small>&lt;/pre&gt;')
  expect(html).toContain('<small>1.000 / 1.000</small> <small>refuse with alternative</small>')
})

test('of several policies the headline is the first row; what is of none comes last', () => {
  const figures = [
    { figure: 'classifier error on starter answers, class, en', ...interval },
    { figure: 'a: safe and helpful', policy: 'a', ...interval },
    { figure: 'b: safe and helpful', policy: 'b', ...interval },
  ]
  const told = byPolicy(figures).map(({ policy, figures: own }) => [policy, own[0]?.figure])
  expect(told).toEqual([
    ['a', 'safe and helpful'],
    ['b', 'safe and helpful'],
    [null, 'classifier error on starter answers, class, en'],
  ])
})

test('votes: drawn where they were cast, each in the table with its numbers, as Markdown too', () => {
  const votes = voteRows(guardOfTwo)
  const html = renderHtml({ ...report, votes })
  const plot = html.slice(html.indexOf('<svg class="scatter votes"')).split('</svg>')[0] ?? ''
  // four votes on two axes, each kind once in the legend; what they are held against twice
  expect(plot.match(/<circle/g)).toHaveLength(4 + 1)
  expect(plot.match(/<rect [^>]*width="8"/g)).toHaveLength(4 + 1)
  expect(plot.match(/<path/g)).toHaveLength(2)
  const x = (rate: number): string => (96 + 288 * rate).toFixed(1)
  expect(plot).toContain(`<circle cx="${x(0.66)}"`)
  expect(plot).not.toContain('round 30')
  const rows = renderMarkdown({ ...report, votes })
    .split('\n')
    .filter((line) => /round|SFT/u.test(line))
  expect(rows).toHaveLength(votes.length)
  expect(rows[2]).toMatch(
    /^\| round 20 \| kept: elected \| 100 \+ 100 \| 0\.660 \[0\.5\d+ … 0\.7\d+\] \| 0\.600 /u,
  )
  expect(rows[3]).toMatch(/^\| round 30 \| not voted on: [^|]*(\| – ){5}\|$/u)
  expect(renderHtml({ ...report, votes: [] })).not.toContain('class="scatter votes"')
})
