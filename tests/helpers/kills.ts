import { hashesOf } from './hashes.ts'
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, watch } from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join, resolve } from 'node:path'
import { RunReply } from '../../src/schemas/http.ts'

const main = resolve(import.meta.dirname, '../../src/main.ts')
const sleep = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms))

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address() as AddressInfo
  await new Promise((done) => server.close(done))
  return port
}

type Ends = 'server' | 'engine'
/** Where in a run it is killed: so far into the phase of a round, or while a folder is written or when it is there. */
export type Kill = {
  ends: Ends
  phase: 'start' | 'sample' | 'measure' | 'score' | 'learn' | 'write' | 'commit'
  /** of the checkpoint or, for phases, of the one before the round */
  step?: number
  fraction?: number
  /** a folder of the run, instead of a checkpoint */
  folder?: string
}

/** `libra serve` as a process of its own over a data folder, to be ended without notice. */
export function server(data: string) {
  let child: ChildProcess | null = null
  let url = ''
  const start = async (): Promise<void> => {
    const port = await freePort()
    url = `http://127.0.0.1:${port}`
    const env = { ...process.env, LIBRA_DATA_DIR: data, LIBRA_PORT: String(port) }
    const own = spawn(process.execPath, ['--import', 'tsx', main, 'serve'], {
      ...{ env, stdio: ['ignore', 'pipe', 'pipe'] },
    })
    child = own
    let said = ''
    await new Promise<void>((ready, failed) => {
      const hear = (chunk: Buffer): void => {
        said += chunk.toString()
        if (said.includes('libra listens')) ready()
      }
      own.stdout.on('data', hear)
      own.stderr.on('data', hear)
      own.once('exit', (code, signal) => failed(new Error(`serve: ${code ?? signal}: ${said}`)))
    })
  }
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    if (child === null || child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise((done) => child?.once('exit', done))
    child.kill(signal)
    await ended
  }
  /** The training engine of the server, by its place among the server's children; null: it has ended. */
  const trainingPid = (): number | null => {
    const pid = String(child?.pid)
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')
    const found = children.find((one) => commandOf(one).includes('training'))
    return found === undefined ? null : Number(found)
  }
  const call = async (path: string, body?: object): Promise<Response> =>
    fetch(`${url}${path}`, {
      ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
      headers: { 'content-type': 'application/json' },
    })

  return {
    start,
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
    call,
    async upload(rows: readonly unknown[]): Promise<string> {
      const form = new FormData()
      form.set('purpose', 'fine-tune')
      const text = rows.map((row) => JSON.stringify(row)).join('\n')
      form.set('file', new Blob([text]), 'rows.jsonl')
      const reply = await fetch(`${url}/v1/files`, { method: 'POST', body: form })
      return ((await reply.json()) as { id: string }).id
    },
    /** Starts a run and follows it to its end, killed on the way where a kill is given. */
    async run(request: object, kill?: Kill, phases?: Phases): Promise<Ended> {
      for (let [tries, times] = [3, phases]; ; tries--) {
        const reply = await call('/v1/runs', request)
        if (reply.status !== 202) throw new Error(await reply.text())
        const { id } = (await reply.json()) as { id: string }
        const killed = kill === undefined || (await strike(id, kill, times))
        const run = await followed(id)
        if (killed) return run
        if (tries === 1) throw new Error('the run was over before its moment, three times')
        times = run.phases // it was faster than the one that the times are of
      }
    },
  }

  /** Kills at the moment of a run; false: that was over. */
  async function strike(id: string, kill: Kill, phases?: Phases): Promise<boolean> {
    await moment(join(data, 'runs', id), kill, phases)
    if (kill.ends === 'engine') {
      const engine = trainingPid()
      if (engine === null) return false
      process.kill(engine, 'SIGKILL')
    } else {
      await end('SIGKILL')
      await start()
    }
    if (phases === undefined || !PHASES.includes(kill.phase)) return true
    const rounds = await (await call(`/v1/runs/${id}/metrics`)).text()
    return rounds.trim().split('\n').length < phases.length
  }

  async function followed(id: string): Promise<Ended> {
    for (;;) {
      const { state, error } = RunReply.parse(await (await call(`/v1/runs/${id}`)).json())
      if (['succeeded', 'failed', 'cancelled'].includes(state)) {
        if (error !== null) throw new Error(JSON.stringify(error))
        return ended(id, await (await call(`/v1/runs/${id}/events`)).text())
      }
      await sleep(50)
    }
  }

  function ended(id: string, stream: string): Ended {
    const events = [...stream.matchAll(/^event: (\w+)\ndata: (.*)$/gm)].map(([, type, text]) => ({
      ...{ type: type ?? '', data: JSON.parse(text ?? '') as Record<string, unknown> },
    }))
    const of = (type: string) => events.filter((e) => e.type === type).map(({ data }) => data)
    const folder = join(data, 'runs', id, 'model')
    return {
      metrics: of('metrics').map((event) => withoutClock(event)),
      rollouts: of('rollouts'),
      resumed: of('resumed').map(({ step }) => Number(step)),
      phases: of('metrics').map((event) => event['metrics'] as Record<string, number>),
      left: readdirSync(join(data, 'runs', id)),
      hashes: hashesOf(folder),
    }
  }
}

/** A process's command line by its words; a process that has ended has none. */
function commandOf(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
  } catch {
    return []
  }
}

type Phases = readonly Record<string, number>[]
export type Ended = {
  metrics: unknown[]
  rollouts: unknown[]
  resumed: number[]
  phases: Phases
  left: string[]
  hashes: Record<string, string>
}
const withoutClock = (event: Record<string, unknown>) => ({
  ...event,
  metrics: Object.fromEntries(
    Object.entries(event['metrics'] as object).filter(([name]) => !name.startsWith('time/')),
  ),
})

/** The phases of a round, whose times another run tells. */
const PHASES: readonly string[] = ['sample', 'measure', 'score', 'learn']

/** Waits for the moment of a kill, which the files of a run tell to the millisecond. */
async function moment(run: string, kill: Kill, phases: Phases = []): Promise<void> {
  const { phase, step = 1, fraction = 0, folder } = kill
  if (phase === 'start') return sleep(2000 * fraction)
  const checkpoints = join(run, 'checkpoints')
  mkdirSync(checkpoints, { recursive: true })
  const name = folder ?? `step-${String(step).padStart(8, '0')}`
  await appears(folder === undefined ? checkpoints : run, (seen) =>
    phase === 'write' ? seen.startsWith(`.${name}.`) : seen === name,
  )
  const at = PHASES.indexOf(phase)
  if (at < 0) return
  const times = phases[step] ?? {}
  const seconds = (of: string): number => times[`time/${of}_s`] ?? 0
  const before = PHASES.slice(0, at).reduce((sum, of) => sum + seconds(of), 0)
  await sleep(1000 * (before + fraction * seconds(phase)))
}

const appears = (folder: string, wanted: (name: string) => boolean): Promise<void> =>
  new Promise((done) => {
    const watcher = watch(folder, (_, name) => {
      if (name === null || !wanted(name)) return
      watcher.close()
      done()
    })
  })
