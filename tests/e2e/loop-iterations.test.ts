import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { PROBES } from '../../src/schemas/checks.ts'
import { LoopRequest } from '../../src/schemas/run.ts'
import { frozenReferences } from '../../src/services/catalog.ts'
import { iterationPlans } from '../../src/services/loop-plan.ts'
import type { Run } from '../../src/store/store.ts'
import { prompts } from '../../src/starter/world.ts'
import { hashesOf } from '../helpers/hashes.ts'
import { service } from '../helpers/service.ts'

// Loops of two iterations on the real engine, small: paused, resumed, changed and branched.
const { api, services } = await service()
const { store } = services

const small = {
  override: ['staleness', ...PROBES],
  options: {
    ...{ iterations: 2, dialogues: 48, pairs: 40, evaluation_prompts: 12 },
    sft: { epochs: 1, batch_size: 16 },
    reward_model: { epochs: 1, batch_size: 16 },
    ppo: { rounds: 4, prompts_per_round: 12, mini_batch_size: 6, max_new_tokens: 12 },
    guard: { every: 2, prompts: 6 },
  },
}
type Json = Record<string, unknown>
const post = async (path: string, body?: Json): Promise<{ status: number; body: Json }> =>
  api.post(path).send(body)
const start = async (more: Json = {}): Promise<string> => {
  const { status, body } = await post('/v1/rlaif/loops', { ...small, ...more })
  expect(status, JSON.stringify(body)).toBe(202)
  return body['id'] as string
}
/** Waits until a loop does not run any more. */
async function rested(id: string): Promise<Run> {
  await api.get(`/v1/runs/${id}/events`)
  const run = await store.runs.get(id)
  if (run === null) throw new Error(`no run ${id}`)
  return run
}
async function ended(id: string): Promise<Run> {
  const run = await rested(id)
  expect(run.error).toBeNull()
  expect(run.state).toBe('succeeded')
  return run
}
const sleep = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms))
const folderOf = (run: string): string => join(services.dataDir, 'runs', run)
const partNames = async (id: string): Promise<string[]> =>
  (await store.partsOf(id)).map(({ part }) => part ?? '')

/** All that must be the same: every part's metrics but for the clock, and the bytes of its weights. */
async function traceOf(id: string): Promise<unknown[]> {
  const parts = await store.partsOf(id)
  return Promise.all(
    parts.map(async ({ id: run, part, kind, output }) => ({
      part,
      metrics: (await store.metricEvents(run)).map(({ data }) => [
        data['step'],
        Object.entries(data['metrics'] as object).filter(([name]) => !name.startsWith('time/')),
      ]),
      bytes: kind === 'label' ? readFileSync(output ?? '', 'utf8') : weightsOf(output ?? ''),
    })),
  )
}
const weightsOf = (folder: string): string[] =>
  Object.entries(hashesOf(folder)).flatMap(([file, hash]) =>
    file.endsWith('.safetensors') ? [`${file} ${hash}`] : [],
  )

const rewards = [
  'reward-helpfulness',
  'reward-safety',
  'reward-twin-helpfulness',
  'reward-twin-safety',
]
const iteration = (k: number): string[] => [
  ...['label', ...rewards, `ppo-${4 * k - 2}`, `ppo-${4 * k}`].map((name) => `${k}/${name}`),
]
const begun = ['sft', ...iteration(1)]
const all = [...begun, ...iteration(2)]

test('a loop that is paused in the middle of a round and resumed ends as one that was left alone; a branch shares what came before it', async () => {
  const whole = await start()
  const run = await ended(whole)
  expect(await partNames(whole)).toEqual(all)
  expect(run.summary).toMatchObject({ iterations: { done: 2, planned: 2 } })
  // here all prompts that were answered are shown
  const report = (await api.get(`/v1/runs/${whole}/report.json`)).body as Json
  expect(report['samples']).toHaveLength(12)
  expect(report['samples_in_all']).toBe(12)
  // every policy that the guard looked at is measured, those in the catalogue under their names
  const looked = await post('/v1/evaluations', {
    options: { target: 'policy', checkpoints_of: whole, limit: 4, max_new_tokens: 4 },
  })
  expect(looked.status, JSON.stringify(looked.body)).toBe(202)
  const { plane } = (await ended(looked.body['id'] as string)).summary as { plane: Json[] }
  const places = plane.map(({ name }) => String(name).replaceAll(whole.slice(4), 'x'))
  expect(places).toHaveLength(1 + 1 + 4)
  expect(places.slice(0, 2)).toEqual(['starter-sft', expect.stringMatching(/sft/)])
  expect(places.filter((name) => / [12].ppo-[2468]$/.test(name)).length).toBeGreaterThan(1)
  const models = (await store.modelsOf(whole)).map(({ id }) => id.replace(whole.slice(4), 'x'))
  expect(models.sort()).toEqual([
    ...['helpfulness-x', 'helpfulness-x-1', 'helpfulness-x-2', 'policy-x', 'policy-x-1'],
    ...['policy-x-2', 'safety-x', 'safety-x-1', 'safety-x-2', 'sft-x'],
  ])
  // scores of both iterations are held against the same answers, those of the model in the role
  const rewards = (await store.partsOf(whole)).filter(({ part }) => part?.includes('helpfulness'))
  const [first, second] = rewards.map(({ summary }) => summary?.['calibration'] as Json)
  expect(second?.['references']).toEqual(first?.['references'])
  expect(first?.['references']).toEqual(await frozenReferences(store))
  expect(second?.['anchors']).not.toEqual(first?.['anchors'])
  // scales are those of the reward models of the iteration
  const state = (part: string): Json => {
    const output = join(folderOf(whole), part, 'trainer_state.json')
    return JSON.parse(readFileSync(output, 'utf8')) as Json
  }
  const [one, two] = [state('iteration-1/policy-4'), state('iteration-2/policy-6')]
  expect(two['scales']).not.toEqual(one['scales'])
  expect(two['round']).toBe(6)

  // 1. paused within a round
  const halting = await start()
  while (!(await partNames(halting)).includes('1/ppo-4')) await sleep(5)
  const [update] = (await store.partsOf(halting)).slice(-1)
  while ((await store.metricEvents(update?.id ?? '')).length < 1) await sleep(2)
  expect((await post(`/v1/runs/${halting}/pause`)).status).toBe(200)
  expect((await rested(halting)).state).toBe('paused')
  expect((await store.partsOf(halting)).at(-1)?.state).toBe('paused')
  expect((await post(`/v1/runs/${halting}/resume`)).status).toBe(202)
  await ended(halting)
  // it says which part it was in, and how far: three times the same is a crash loop
  const again = (await store.events(halting, 0)).find(({ type }) => type === 'resumed')
  expect(again?.data['at']).toEqual({ '1/ppo-4': expect.any(Number) })
  expect(await traceOf(halting)).toEqual(await traceOf(whole))
  const told = async (id: string): Promise<unknown[]> =>
    (await store.events(id, 0)).filter(({ type }) => type === 'guard').map(({ data }) => data)
  expect(await told(halting)).toEqual(await told(whole))

  // 2. branched from its first iteration, with another β
  const other = await post(`/v1/rlaif/loops/${whole}/branch`, {
    ...{ iteration: 2, options: { ppo: { kl_coef: 0.9 } } },
  })
  expect(other.status, JSON.stringify(other.body)).toBe(202)
  const branch = other.body['id'] as string
  await ended(branch)
  expect(await partNames(branch)).toEqual(iteration(2))
  const [was, is] = [await traceOf(whole), await traceOf(branch)]
  expect(is.slice(0, 5)).toEqual(was.slice(begun.length, begun.length + 5)) // labels and reward models do not know of β
  expect(is[5]).not.toEqual(was[begun.length + 5])
  const update6 = (await store.partsOf(branch)).find(({ part }) => part === '2/ppo-6')
  const [round] = await store.metricEvents(update6?.id ?? '')
  expect((round?.data['metrics'] as Json)['policy/kl_coef']).toBe(0.9)
  expect(update6?.parentCheckpoint).toContain(whole)
  // a branch asked for by hand must agree with what it goes on from
  const wrong = await post('/v1/rlaif/loops', {
    ...small,
    options: { ...small.options, dialogues: 47 },
    branch: { run: whole, iteration: 1 },
  })
  expect([wrong.status, wrong.body['code']]).toEqual([422, 'conflicting_options'])
}, 300_000)

test('a loop that waits after an iteration is changed and goes on', async () => {
  const id = await start({ pause_after: 'each' })
  // changed in the middle of an iteration: fewer rounds to come alter no schedule that is under way
  while (!(await partNames(id)).includes('1/ppo-2')) await sleep(5)
  expect((await post(`/v1/runs/${id}/pause`)).status).toBe(200)
  expect((await rested(id)).state).toBe('paused')
  expect(await partNames(id)).not.toContain('1/ppo-4')
  const shorter = await post(`/v1/rlaif/loops/${id}/changes`, {
    ...{ iteration: 2, options: { ppo: { rounds: 2 } } },
  })
  expect(shorter.status, JSON.stringify(shorter.body)).toBe(200)
  expect((await post(`/v1/runs/${id}/resume`)).status).toBe(202)
  expect((await rested(id)).state).toBe('paused')
  expect(await partNames(id)).toEqual(begun)
  const planned = async (): Promise<unknown[]> =>
    (await store.partsOf(id))
      .filter(({ kind }) => kind === 'policy_update')
      .map(({ part, config }) => [part, (config as Json)['total_rounds']])
  expect(await planned()).toEqual([
    ['1/ppo-2', 8],
    ['1/ppo-4', 8],
  ])
  const refused = async (change: Json, code: string): Promise<string> => {
    const { body } = await post(`/v1/rlaif/loops/${id}/changes`, change)
    expect(body['code'], JSON.stringify(body)).toBe(code)
    return body['detail'] as string
  }
  expect(await refused({ iteration: 1, options: { pairs: 20 } }, 'conflicting_options')).toMatch(
    /iteration 1 has begun/u,
  )
  expect(await refused({ iteration: 2, options: { seed: 2 } }, 'conflicting_options')).toMatch(
    /options.seed: is settled/u,
  )
  expect(
    await refused({ iteration: 2, options: { ppo: { rounds: -1 } } }, 'invalid_request'),
  ).toMatch(/options\.ppo\.rounds/u)
  expect(await refused({ iteration: 3, options: { pairs: 20 } }, 'conflicting_options')).toMatch(
    /2 iterations/u,
  )
  const changed = await post(`/v1/rlaif/loops/${id}/changes`, {
    ...{ iteration: 2, options: { replay: 0, pairs: 30 } },
  })
  expect(changed.status, JSON.stringify(changed.body)).toBe(200)
  expect((await post(`/v1/runs/${id}/resume`)).status).toBe(202)
  await ended(id)
  // the second iteration asks what comes after the 40 prompts of the first
  const asked = (k: number): string[] =>
    readFileSync(join(folderOf(id), `iteration-${k}`, 'answers.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.stringify((JSON.parse(line) as Json)['prompt']))
  expect(asked(2).length).toBeGreaterThan(20)
  expect(asked(2).filter((prompt) => asked(1).includes(prompt))).toEqual([])
  expect(await partNames(id)).toEqual(all.slice(0, -1))
  expect((await planned()).slice(2)).toEqual([['2/ppo-6', 6]])
  const rows = (part: string): number =>
    readFileSync(join(folderOf(id), part), 'utf8').split('\n').length
  const rewards = ['iteration-1', 'iteration-2'].map((each) => rows(`${each}/pairs-safety.jsonl`))
  expect(rewards[1]).toBeLessThanOrEqual(32) // 40 pairs at most, a fifth held out, none again
  const late = await post(`/v1/rlaif/loops/${id}/changes`, { iteration: 2 })
  expect([late.status, late.body['code']]).toEqual([409, 'already_ended'])
}, 240_000)

test('what can’t be paused or changed is told so', async () => {
  const evaluation = { target: 'policy', limit: 1, max_new_tokens: 2 }
  const { body } = await post('/v1/runs', { kind: 'evaluation', options: evaluation })
  const id = body['id'] as string
  const code = async (path: string, sent: Json = {}): Promise<unknown> =>
    (await post(path, sent)).body['code']
  expect(await code(`/v1/runs/${id}/pause`)).toBe('not_resumable')
  expect(await code(`/v1/rlaif/loops/${id}/pause`)).toBe('wrong_run_kind')
  expect(await code(`/v1/rlaif/loops/${id}/branch`, { iteration: 1 })).toBe('wrong_run_kind')
  expect(await code('/v1/rlaif/loops/run_none/pause')).toBe('not_found')
  await api.get(`/v1/runs/${id}/events`)
})

test('changes hold from their iteration on, and may add iterations', () => {
  const request = LoopRequest.parse({
    kind: 'rlaif',
    options: { iterations: 2, pairs: 10 },
    changes: [
      { iteration: 2, options: { pairs: 20, iterations: 4, ppo: { kl_coef: 0.5 } } },
      { iteration: 4, options: { pairs: 30 }, judge: 'another' },
    ],
  })
  const plans = iterationPlans(request)
  expect(plans.map(({ options }) => options.pairs)).toEqual([10, 20, 20, 30])
  expect(plans.map(({ options }) => options.ppo.kl_coef)).toEqual([0.3, 0.5, 0.5, 0.5])
  expect(plans.map(({ judge }) => judge)).toEqual(['default', 'default', 'default', 'another'])
})

test('a loop on prompts of one’s own, from two files with shares: what is held out and looked at is not trained on', async () => {
  const asked = prompts('train', 3).map(({ messages }) => ({ messages }))
  const upload = async (rows: readonly unknown[]): Promise<string> => {
    const text = rows.map((row) => JSON.stringify(row)).join('\n')
    const file = Buffer.from(text)
    const { body } = await api
      .post('/v1/files')
      .field('purpose', 'fine-tune')
      .attach('file', file, 'prompts.jsonl')
    return body.id as string
  }
  const [first, second] = [
    await upload(asked.slice(0, 30)),
    await upload(asked.slice(25, 55)), // five are in the first file too
  ]
  const { iterations: _, ...options } = small.options
  const ppo = { ...small.options.ppo, rounds: 2 }
  const id = await start({
    ...{ options: { ...options, ppo }, audit_judge: 'starter-audit-judge' },
    prompts_file: [
      { file: first, share: 3 },
      { file: second, share: 1 },
    ],
  })
  await ended(id)
  // 30 of the first are three quarters of 40, so ten of the second's 25
  const told = (await store.events(id, 0)).find(({ type }) => type === 'prompts')
  expect(told?.data['sets']).toEqual([
    { file: first, share: 0.75, prompts: 30 },
    { file: second, share: 0.25, prompts: 10 },
  ])
  const read = (file: string) =>
    readFileSync(join(folderOf(id), file), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.stringify((JSON.parse(line) as { messages: unknown }).messages))
  const trained = read('iteration-1/prompts.jsonl')
  expect(new Set(trained).size).toBe(40 - 8 - 4) // a fifth is held out, a tenth is for the guard
  const { samples } = (await api.get(`/v1/runs/${id}/report.json`)).body as {
    samples: { prompt: string }[]
  }
  expect(samples.length).toBe(8)
  for (const { prompt } of samples)
    expect(trained).not.toContain(JSON.stringify([{ role: 'user', content: prompt }]))
  const nothing = { prompts_file: [{ file: first, share: 0 }] }
  expect((await post('/v1/rlaif/loops', { ...small, ...nothing })).status).toBe(422)
})
