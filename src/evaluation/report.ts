import { init } from 'echarts'

export type ReportInput = {
  title: string
  rows: readonly (readonly string[])[]
  /** metrics of PPO rounds, drawn as curves where there are any */
  rounds?: readonly Record<string, number>[]
  /** (helpfulness, safety) of each answer */
  before?: readonly (readonly [number, number])[]
  after?: readonly (readonly [number, number])[]
  samples: readonly { prompt: string; before: string; after: string }[]
  config: unknown
}

const escape = (text: string): string =>
  text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')

function chart(option: Record<string, unknown>): string {
  const plot = init(null, null, { renderer: 'svg', ssr: true, width: 640, height: 320 })
  plot.setOption({ animation: false, backgroundColor: '#fff', ...option })
  const svg = plot.renderToSVGString()
  plot.dispose()
  return svg
}

const line = (
  title: string,
  rounds: readonly Record<string, number>[],
  names: readonly string[],
): string =>
  chart({
    title: { text: title, textStyle: { fontSize: 14 } },
    legend: { bottom: 0 },
    grid: { top: 40, bottom: 60 },
    xAxis: { type: 'category', data: rounds.map((_, i) => i + 1), name: 'round 轮' },
    yAxis: { type: 'value', scale: true },
    series: names.map((name) => ({
      name,
      type: 'line',
      showSymbol: false,
      data: rounds.map((round) => round[name] ?? null),
    })),
  })

/** One self-contained HTML file: figures, curves, helpfulness against safety, samples side by side. */
export function renderReport({
  title,
  rows,
  rounds = [],
  before = [],
  after = [],
  samples,
  config,
}: ReportInput): string {
  const [head = [], ...body] = rows
  // many answers share a point: a little spread, fixed by index, shows how many
  const spread = (points: readonly (readonly [number, number])[]): number[][] =>
    points.map(([h, s], i) => [h + 0.12 * Math.sin(i * 7.1), s + 0.12 * Math.cos(i * 3.7)])
  const drawScatter = (): string =>
    chart({
      title: {
        text: 'Helpfulness against safety (gold) 有用性与安全性',
        textStyle: { fontSize: 14 },
      },
      legend: { bottom: 0 },
      grid: { top: 40, bottom: 60 },
      xAxis: { type: 'value', name: 'helpful' },
      yAxis: { type: 'value', name: 'safe', nameLocation: 'middle', nameGap: 30 },
      series: [
        { name: 'before 之前', type: 'scatter', symbolSize: 5, data: spread(before) },
        { name: 'after 之后', type: 'scatter', symbolSize: 5, data: spread(after) },
      ],
    })
  const cells = (tag: string, row: readonly string[]): string =>
    `<tr>${row.map((cell) => `<${tag}>${escape(cell)}</${tag}>`).join('')}</tr>`
  const golden = rounds.some((round) => 'gold/helpfulness' in round)
    ? line('Gold, the truth 真值', rounds, [
        'gold/helpfulness',
        'gold/safety',
        'gold/safe_and_helpful',
      ])
    : ''
  const curves =
    rounds.length === 0
      ? ''
      : `<h2>Rounds 训练曲线</h2><div class="charts">
${line('Reward 奖励', rounds, ['objective/scores', 'objective/helpfulness', 'objective/safety'])}
${line('KL to the SFT policy 与初始策略的距离', rounds, ['objective/kl'])}
${golden}
${line('Length and gate 长度与门', rounds, ['response/length', 'gate/safety_share'])}</div>`
  const scatter = before.length === 0 ? '' : `<h2>Trade-off 权衡</h2>${drawScatter()}`
  const answers =
    samples.length === 0
      ? ''
      : `<h2>Samples 样例</h2><table><thead>${cells('th', ['prompt 问题', 'before 之前', 'after 之后'])}</thead><tbody>${samples.map((s) => cells('td', [s.prompt, s.before, s.after])).join('')}</tbody></table>`
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escape(title)}</title>
<style>body{font:16px/1.5 system-ui,"Noto Sans CJK SC",sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #ccc;padding:.3rem .6rem;text-align:left;vertical-align:top}svg{max-width:100%;height:auto}.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(26rem,1fr));gap:1rem}pre{overflow:auto;background:#8881;padding:1rem}@media (prefers-color-scheme:dark){body{background:#111;color:#ddd}}</style></head><body>
<h1>${escape(title)}</h1>
<h2>Figures 指标</h2><table><thead>${cells('th', head)}</thead><tbody>${body.map((row) => cells('td', row)).join('')}</tbody></table>
${curves}${scatter}${answers}
<h2>Configuration 配置</h2><pre>${escape(JSON.stringify(config, null, 1))}</pre>
</body></html>`
}
