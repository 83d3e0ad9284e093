import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { PROBES } from '../../src/schemas/checks.ts'
import { RunList, RunReply } from '../../src/schemas/http.ts'
import { hashesOf } from '../helpers/hashes.ts'
import { server } from '../helpers/kills.ts'

// One loop whose service is killed in part after part ends to the bit as one that is left alone.
const data = mkdtempSync(join(tmpdir(), 'libra-kill-loop-'))
const libra = server(data)
beforeAll(async () => {
  if (existsSync('/proc')) await libra.start()
})
afterAll(async () => {
  if (existsSync('/proc')) await libra.stop()
  rmSync(data, { recursive: true })
})

const all = process.env['LIBRA_KILLS'] === 'all'
const request = {
  override: ['staleness', ...PROBES],
  options: {
    ...{ iterations: all ? 2 : 1, dialogues: 48, pairs: 40, evaluation_prompts: 12 },
    sft: { epochs: 1, batch_size: 16 },
    reward_model: { epochs: 1, batch_size: 16 },
    ppo: { rounds: 4, prompts_per_round: 12, mini_batch_size: 6, max_new_tokens: 12 },
    guard: { every: 2, prompts: 6 },
  },
}
type Reply = ReturnType<typeof RunReply.parse>
const sleep = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms))
const runOf = async (id: string): Promise<Reply> =>
  RunReply.parse(await (await libra.call(`/v1/runs/${id}`)).json())
const partsOf = async (id: string): Promise<Reply[]> =>
  RunList.parse(
    await (await libra.call(`/v1/runs?limit=100&parent=${id}`)).json(),
  ).data.toReversed()
const start = async (): Promise<string> =>
  RunReply.parse(await (await libra.call('/v1/rlaif/loops', request)).json()).id
async function ended(id: string): Promise<Reply> {
  for (;;) {
    const run = await runOf(id)
    if (!['queued', 'running'].includes(run.state)) {
      expect(run.error).toBeNull()
      return run
    }
    await sleep(50)
  }
}
async function traceOf(id: string): Promise<unknown[]> {
  const metrics = async (part: string): Promise<unknown[]> =>
    (await (await libra.call(`/v1/runs/${part}/metrics`)).text())
      .split('\n')
      .filter((line) => line !== '')
      .map((line) =>
        Object.entries(JSON.parse(line) as object).filter(
          ([name]) => name !== 'at' && !name.startsWith('time/'),
        ),
      )
  return Promise.all(
    (await partsOf(id)).map(async ({ id: run, part, kind, output }) => ({
      ...{ part, metrics: await metrics(run) },
      made: kind === 'label' ? readFileSync(output ?? '', 'utf8') : weightsOf(output ?? ''),
    })),
  )
}
/** Weights and optimiser to the bit; the state without what names the loop's own folder. */
function weightsOf(folder: string): unknown {
  const state = join(folder, 'trainer_state.json')
  const { 'manifest.json': _, 'trainer_state.json': __, ...hashes } = hashesOf(folder)
  if (!existsSync(state)) return hashes
  const {
    reference: ___,
    scorers: ____,
    ...rest
  } = JSON.parse(readFileSync(state, 'utf8')) as Record<string, unknown>
  return { ...hashes, ...rest }
}

const few: [string, number][] = [
  ['1/label', 200],
  ['1/ppo-4', 300],
]
/** Where it is killed: so long after a part has begun, in milliseconds. Few here; `npm run test:kill` does more. */
const kills: [string, number][] = all
  ? [
      ['sft', 300],
      ['1/label', 100],
      ['1/reward-helpfulness', 400],
      ['1/ppo-2', 10],
      ['1/ppo-4', 500],
      ['2/label', 400],
      ['2/reward-safety', 200],
      ['2/ppo-8', 300],
    ]
  : few

test.skipIf(!existsSync('/proc'))(
  'a loop whose service is killed in part after part ends as one that was left alone',
  async () => {
    const whole = await start()
    const { summary } = await ended(whole)
    const id = await start()
    for (const [part, after] of kills) {
      for (;;) {
        const parts = await partsOf(id)
        if (parts.some((each) => each.part === part)) break
        expect((await runOf(id)).error).toBeNull()
        await sleep(5)
      }
      await sleep(after)
      await libra.kill()
      await libra.start()
    }
    const again = await ended(id)
    const drop = ({ report: _, audit: __, checks: ___, ...rest }: Record<string, unknown>) => rest
    expect(drop(again.summary ?? {})).toEqual(drop(summary ?? {}))
    expect(await traceOf(id)).toEqual(await traceOf(whole))
  },
  600_000,
)
