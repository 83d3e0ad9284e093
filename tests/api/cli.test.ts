import { spawn } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { text } from 'node:stream/consumers'
import { createAdaptorServer } from '@hono/node-server'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createApp } from '../../src/http/app.ts'
import { service } from '../helpers/service.ts'

// The command as it is installed: bin/libra.js from another folder, JSON Lines through pipes.
const bin = resolve(import.meta.dirname, '../../bin/libra.js')
const home = mkdtempSync(join(tmpdir(), 'libra-cli-'))
afterAll(() => rmSync(home, { recursive: true }))

type Line = Record<string, unknown>
const OPEN = '(open)'
/** `input`: text that is written, or what stdin is instead: a file's descriptor, or a socket that stays open. */
async function libra(args: string[], input: string | number, env: Record<string, string>) {
  const child = spawn(process.execPath, [bin, ...args], {
    cwd: home,
    env: { ...process.env, LIBRA_DATA_DIR: join(home, 'data'), LIBRA_PORT: '1', ...env },
    stdio: [typeof input === 'number' ? input : 'pipe', 'pipe', 'pipe'],
  })
  if (typeof input === 'string' && input !== OPEN) child.stdin?.end(input)
  const ended = new Promise<number | null>((done) => child.on('close', done))
  const [out = '', err = ''] = await Promise.all(
    [child.stdout, child.stderr].flatMap((stream) => (stream === null ? [] : [text(stream)])),
  )
  const lines = out.split('\n').filter((line) => line !== '')
  return { code: await ended, lines: lines.map((line) => JSON.parse(line) as Line), out, err }
}
const jsonl = (rows: Line[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join('')

let url = ''
let services: Awaited<ReturnType<typeof service>>['services']
beforeAll(async () => {
  const own = await service()
  services = own.services
  const server = createAdaptorServer({ fetch: createApp(services, own.folder).fetch })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  afterAll(() => void server.close())
})

const dialogues = [
  { id: 'right', prompt: '世界上有几大洲？', response: '七大洲。' },
  { id: 'evasive', prompt: '世界上有几大洲？', response: '谁来告诉我呀' },
]
const helpfulness = (line: Line | undefined): number =>
  (line?.['score'] as { helpfulness: { score: number } }).helpfulness.score

test('score: a running server is asked; lines come back in order, whole, with their scores', async () => {
  const { code, lines, err } = await libra(['score'], `\n${jsonl(dialogues)}`, { LIBRA_URL: url })
  expect(code, err).toBe(0)
  expect(lines.map(({ id }) => id)).toEqual(['right', 'evasive'])
  expect(lines[0]).toMatchObject(dialogues[0] ?? {})
  expect(helpfulness(lines[0])).toBeGreaterThan(helpfulness(lines[1]))
  // the running service stored them
  expect((await services.store.scores.page({ limit: 10 })).data).toHaveLength(4)
  expect(err).toMatch(/score \(http.*2\/2/)
})

test('score: where no server runs the command is one itself, and a row that is wrong is named by its line', async () => {
  const file = join(home, 'rows.jsonl')
  writeFileSync(file, jsonl(dialogues))
  const alone = await libra(['score', file, '--axes', 'helpfulness'], '', {})
  expect(alone.code, alone.err).toBe(0)
  expect(alone.lines[0]?.['score']).not.toHaveProperty('safety')
  // text of another encoding is no text of question marks
  writeFileSync(file, Buffer.from([0x7b, 0x7d, 0x0a, 0xc4, 0xe3, 0xba, 0xc3]))
  const bytes = await libra(['score', file], '', {})
  expect(bytes.code).toBe(1)
  expect(bytes.err).toMatch(/rows\.jsonl, line 2: these bytes are not UTF-8 text/)
  expect(alone.err).toContain('an engine of its own')

  const wrong = await libra(['score'], `${jsonl(dialogues)}{"prompt": 7}\n`, { LIBRA_URL: url })
  expect(wrong.code).toBe(1)
  expect(wrong.err).toMatch(/stdin, line 3/)
  expect(wrong.out).toBe('')
  const half = await libra(['score'], `\n${jsonl([{ prompt: 'hi' }])}`, { LIBRA_URL: url })
  expect(half.err).toMatch(/stdin, line 2, response: /)
  const long = { prompt: 'hi', response: '长'.repeat(2000) }
  const far = await libra(['score'], `\n${jsonl([...dialogues, long])}`, { LIBRA_URL: url })
  expect(far.err).toMatch(/stdin, line 4: the conversation has/)
  const nobody = await libra(['score'], jsonl(dialogues), { LIBRA_URL: 'http://127.0.0.1:1' })
  expect(nobody.err).toContain('(not_ready)')
})

test('rank and judge: the straight answer before the evasive one', async () => {
  const candidates = ['谁来告诉我呀', '七大洲。']
  const prompt = [{ role: 'user', content: '世界上有几大洲？' }]
  const rank = await libra(['rank', '--by', 'judge'], jsonl([{ prompt, candidates }]), {
    LIBRA_URL: url,
  })
  expect(rank.lines[0]?.['rank'], rank.err).toMatchObject([{ index: 1, rank: 1 }, { index: 0 }])
  const [b, a] = candidates
  const judge = await libra(['judge'], jsonl([{ prompt, a, b, note: 'mine' }]), { LIBRA_URL: url })
  expect(judge.lines[0], judge.err).toMatchObject({ note: 'mine', judge: { ok: true } })
  expect((judge.lines[0]?.['judge'] as { probability: number }).probability).toBeGreaterThan(0.5)
})

test('eval: figures of a judge on pairs that are piped in, and a failure that says why', async () => {
  const prompt = [{ role: 'user', content: '世界上有几大洲？' }]
  const pair = { axis: 'helpfulness', prompt, chosen: '七大洲。', rejected: '谁来告诉我呀' }
  const args = ['eval', '-', '--target', 'judge', '--axis', 'helpfulness']
  const { code, lines, err } = await libra(
    args,
    jsonl([pair, { ...pair, rejected: '问这个干嘛' }]),
    {
      LIBRA_URL: url,
    },
  )
  expect(code, err).toBe(0)
  expect(lines[0]).toMatchObject({ figure: 'accuracy', value: 1, n: 2 })
  // a file or a pipe at stdin is taken without being asked for; an open socket is not waited for
  const file = join(home, 'pairs.jsonl')
  writeFileSync(file, jsonl([pair]))
  const unnamed = ['eval', '--target', 'judge', '--axis', 'helpfulness']
  const stdin = openSync(file, 'r')
  const taken = await libra(unnamed, stdin, { LIBRA_URL: url })
  closeSync(stdin)
  expect(taken.lines[0], taken.err).toMatchObject({ figure: 'accuracy', n: 1 })
  const stored = await libra(unnamed, OPEN, { LIBRA_URL: url })
  expect(stored.err).toContain('(empty_data)')
  // what the run warns of is said
  const several = join(home, 'several.jsonl')
  const other = (i: number) => ({ ...pair, chosen: `${i} 大洲。`, rejected: `不知道${i}` })
  writeFileSync(several, jsonl(Array.from({ length: 16 }, (_, i) => other(i))))
  const probed = ['eval', several, '--target', 'certificate', '--budget', '100']
  const { err: said } = await libra(probed, '', { LIBRA_URL: url })
  expect(said).toContain('warning: no judge was asked')
  const wrong = await libra(args, jsonl([pair, { ...pair, chosen: 3 }]), { LIBRA_URL: url })
  expect(wrong.code).toBe(1)
  expect(wrong.err).toMatch(/line 2, chosen/)
})

test('eval: a run that was cancelled is a failure, also where it had not begun', async () => {
  let release = (): void => {}
  const blocked = new Promise<void>((done) => (release = done))
  const work = () => blocked.then(() => ({}))
  await services.runner.submit({ kind: 'sft', config: {}, seed: 1 }, work)
  const prompt = [{ role: 'user', content: '世界上有几大洲？' }]
  const pair = { axis: 'helpfulness', prompt, chosen: '七大洲。', rejected: '谁来告诉我呀' }
  const args = ['eval', '-', '--target', 'judge', '--axis', 'helpfulness']
  const asked = libra(args, jsonl([pair]), { LIBRA_URL: url })
  const queued = async () =>
    (await services.store.pageRuns({ limit: 1 }, { kinds: ['evaluation'], state: 'queued' })).data
  await expect.poll(queued, { timeout: 60_000 }).toHaveLength(1)
  const [run] = await queued()
  await services.runner.cancel(run?.id ?? '')
  release()
  const { code, out, err } = await asked
  expect([code, out], err).toEqual([1, ''])
  expect(err).toContain(`${run?.id} cancelled`)
  expect(err).toContain('(cancelled)')
})
