import { join } from 'node:path'
import { readConfig } from '../config.ts'
import { frontierStudy, summariseFrontier } from '../services/frontier-study.ts'

const HEAD = [
  'combiner',
  'method',
  'n',
  'KL',
  'helpful',
  'safe',
  'unsafe',
  'J* − J',
  'share',
  'to the front',
]

/** The study of the exact frontier: a table in Markdown; its rows as JSON Lines, from which it goes on. */
export async function studyFrontier(seeds: number, output?: string): Promise<void> {
  const started = Date.now()
  const file = output ?? join(readConfig().dataDir, 'study-frontier.jsonl')
  const rows = await frontierStudy(seeds, file, (done, of) => {
    if (done % 12 === 0) console.error(`${done} of ${of} policies`)
  })
  const decimal = (x: number): string => x.toFixed(3).replace(/^-(0\.000)$/, '$1')
  const shown = ({ value, half }: { value: number; half: number }): string =>
    half === 0 ? decimal(value) : `${decimal(value)} ± ${decimal(half)}`
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  console.log(line(HEAD))
  console.log(line(HEAD.map(() => '---')))
  const lines = summariseFrontier(rows)
  for (const combiner of new Set(lines.map((each) => each.combiner)))
    for (const each of lines.filter((other) => other.combiner === combiner)) {
      const { method, kl, helpfulness, safety, unsafe, regret, share, front } = each
      const n = kl.n > 1 ? String(kl.n) : 'exact'
      const figures = [kl, helpfulness, safety, unsafe, regret, share, front].map(shown)
      console.log(line([combiner, method.replace('_', ' '), n, ...figures]))
    }
  console.log(`rows: ${file}\ntime: ${Math.round((Date.now() - started) / 1000)} s`)
}
