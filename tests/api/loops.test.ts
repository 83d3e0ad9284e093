import { expect, test } from 'vitest'
import { LoopRequest } from '../../src/schemas/run.ts'
import { iterationPlans, openJudges } from '../../src/services/loop-plan.ts'
import { service } from '../helpers/service.ts'

// What a loop is told before it begins, or while it waits: nothing here trains.
const { api, services } = await service()
const { store } = services

type Json = Record<string, unknown>
const refusal = async (path: string, sent: Json): Promise<Json> => {
  const { status, body } = (await api.post(path).send(sent)) as { status: number; body: Json }
  return { status, code: body['code'], field: body['field'], detail: body['detail'] }
}
const loop = (sent: Json): Promise<Json> => refusal('/v1/rlaif/loops', sent)

/** A loop that waits, with as many iterations behind it as are said. */
async function waiting(id: string, done: number, sent: Json): Promise<void> {
  const config = LoopRequest.parse({ kind: 'rlaif', ...sent })
  const row = { kind: 'rlaif' as const, state: 'paused' as const, seed: 1, codeVersion: '0' }
  await store.runs.insert([{ id, config, ...row, createdAt: Date.now() }])
  await store.appendEvents(
    Array.from({ length: done }, (_, i) => ({
      ...{ run: id, seq: i + 1, type: 'part', at: Date.now() },
      data: { part: `${i + 1}/evaluate`, result: {} },
    })),
  )
}

test('a loop starts from a base: neither adapters nor a reward model are dropped in silence', async () => {
  const whole = { kind: 'reward_model' as const, axis: 'safety' as const, adapters: [] }
  const [{ base } = { base: '' }] = (await store.models.page({ limit: 1 })).data
  await store.models.insert([{ id: 'whole-safety', ...whole, base, createdAt: 1 }])
  for (const field of ['base', 'twin_base'])
    for (const name of ['policy', 'starter-sft', 'starter-safety', 'whole-safety'])
      expect(await loop({ [field]: name }), `${field} ${name}`).toEqual({
        ...{ status: 422, code: 'wrong_model_kind', field },
        detail: expect.stringMatching(/give a model without adapters/u) as string,
      })
})

test('options that the policy’s method cannot use are told before anything is labelled', async () => {
  const conflict = (field: string) => ({ status: 422, code: 'conflicting_options', field })
  for (const [ppo, field] of [
    [{ method: 'rloo' }, 'samples_per_prompt'],
    [{ method: 'dpo', samples_per_prompt: 2, target_kl: 0.1 }, 'target_kl'],
    [{ safety_limit: 2 }, 'safety_limit'],
  ] as const)
    expect(await loop({ options: { ppo } })).toMatchObject(conflict(`options.ppo.${field}`))
  // of a change too, which says from which iteration on
  const change = { iteration: 2, options: { ppo: { method: 'rloo' } } }
  const named = {
    ...conflict('changes.0.options.ppo.samples_per_prompt'),
    detail: expect.stringMatching(/iteration 2/u) as string,
  }
  const two = { options: { iterations: 2 } }
  expect(await loop({ ...two, changes: [change] })).toMatchObject(named)
  await waiting('run_methods', 1, two)
  expect(await refusal('/v1/rlaif/loops/run_methods/changes', change)).toMatchObject(named)
  expect((await store.runs.get('run_methods'))?.config).toMatchObject({ changes: [] })
  // the adapter that the first update has made goes on, and what reward models can't learn by is told at once
  const lora = { iteration: 2, options: { ppo: { lora: { rank: 8 } } } }
  expect(await loop({ ...two, changes: [lora] })).toMatchObject(
    conflict('changes.0.options.ppo.lora'),
  )
  const { ppo } = LoopRequest.parse({ kind: 'rlaif' }).options
  const same = { iteration: 2, options: { ppo: { lora: ppo.lora } } }
  const kept = LoopRequest.parse({ kind: 'rlaif', options: { iterations: 2 }, changes: [same] })
  expect(iterationPlans(kept)).toHaveLength(2)
  expect(await loop({ options: { reward_model: { centering: 0.01 } } })).toMatchObject(
    conflict('options.reward_model.centering'),
  )
  // what a branch takes from the record is not done again
  const { options, ...rest } = LoopRequest.parse({ kind: 'rlaif', ...two })
  const old = { ...rest, options: { ...options, ppo: { ...options.ppo, safety_limit: 2 } } }
  const more = { ...change, options: { ppo: { combiner: 'lagrangian' as const } } }
  const branch = { run: 'run_methods', iteration: 1 }
  expect(iterationPlans({ ...old, changes: [more], branch })).toHaveLength(2)
  expect(() => iterationPlans({ ...old, changes: [more] })).toThrow(/^options\.ppo\.safety_limit/u)
})

test('a mix that names what no judge of the loop labels is told before anything is labelled', async () => {
  const none = (field: string) => ({ status: 422, code: 'empty_data', field })
  const mix = (helpfulness: Json | null) => ({ mix: { helpfulness } })
  expect(await loop({ options: mix({ default: 1, nobody: 1 }) })).toMatchObject({
    ...none('options.mix.helpfulness'),
    detail: expect.stringMatching(/"nobody"; there are default$/u) as string,
  })
  const two = { iterations: 2 }
  const plan = async (options: Json, change: Json, judge = 'default') => {
    const changes = [{ iteration: 2, options: change, judge }]
    const request = LoopRequest.parse({ kind: 'rlaif', options, changes })
    await openJudges(services, request, iterationPlans(request))
    return iterationPlans(request).map(({ options: { mix } }) => mix)
  }
  const named = mix({ default: 1, strict: 1 })
  const profile = { kind: 'local', model: 'starter-judge', id: 'strict' }
  expect((await api.post('/v1/judges').send(profile)).status).toBe(201)
  // what an earlier judge has labelled is there where it is learned again, and people may name their labels as they like
  await expect(plan(two, named, 'strict')).resolves.toHaveLength(2)
  await expect(plan({ ...two, replay: 0 }, named, 'strict')).rejects.toMatchObject({
    ...{ code: 'empty_data', details: { field: 'changes.0.options.mix.helpfulness' } },
  })
  await expect(plan({ ...two, people: 0.1 }, mix({ ann: 1 }))).resolves.toHaveLength(2)
  await expect(
    plan({ ...two, people: 0.1 }, { people: 0, ...mix({ ann: 1 }) }),
  ).resolves.toHaveLength(2)
  const alone = { people: 0, replay: 0, ...mix({ ann: 1 }) }
  await expect(plan({ ...two, people: 0.1 }, alone)).rejects.toMatchObject({ code: 'empty_data' })
  // a change takes a source out, or all of the mix
  const begun = { ...two, people: 1, ...mix({ ann: 1, default: 1 }) }
  const { helpfulness } = (await plan(begun, mix({ ann: 0 })))[1] ?? {}
  expect(helpfulness).toEqual({ ann: 0, default: 1 })
  expect((await plan(begun, mix(null)))[1]).toEqual({ helpfulness: null })
  for (const wrong of [{}, { default: 0 }, { default: -1 }])
    expect(await loop({ options: mix(wrong) })).toMatchObject({ status: 422 })
})

test('too few prompts of one’s own are refused before anything is trained', async () => {
  const upload = async (count: number): Promise<string> => {
    const rows = Array.from({ length: count }, (_, i) =>
      JSON.stringify({ messages: [{ role: 'user', content: `question ${i}` }] }),
    )
    const { body } = await api
      .post('/v1/files')
      .field('purpose', 'fine-tune')
      .attach('file', Buffer.from(rows.join('\n')), 'prompts.jsonl')
    return (body as { id: string }).id
  }
  const audit_judge = 'starter-audit-judge'
  for (const [count, more, needed] of [
    [1, {}, 3],
    [2, {}, 3],
    [3, { audit_judge }, 4],
  ] as const)
    expect(await loop({ prompts_file: await upload(count), ...more })).toMatchObject({
      ...{ status: 422, code: 'too_little_data', field: 'prompts_file' },
      detail: expect.stringContaining(`at least ${needed}`) as string,
    })
})

test('a change of a loop names a judge that is there, and changes something', async () => {
  await waiting('run_change', 1, { options: { iterations: 3 }, pause_after: 2 })
  const change = (sent: Json): Promise<Json> =>
    refusal('/v1/rlaif/loops/run_change/changes', { iteration: 2, ...sent })
  expect(await change({ judge: 'nope' })).toMatchObject({
    ...{ status: 404, code: 'judge_not_found', field: 'judge' },
  })
  // who audits can't label
  expect(await change({ judge: 'starter-audit-judge' })).toMatchObject({
    ...{ status: 422, code: 'conflicting_options', field: 'audit_judge' },
  })
  for (const nothing of [{}, { options: {} }])
    expect(await change(nothing)).toMatchObject({
      ...{ status: 422, code: 'invalid_request', field: 'options' },
      detail: expect.stringMatching(/options, judge, override or freshness_floor/u) as string,
    })
  // it would wait after what is now the end
  expect(await change({ options: { iterations: 2 } })).toMatchObject({
    ...{ status: 422, code: 'conflicting_options', field: 'pause_after' },
  })
  expect((await store.runs.get('run_change'))?.config).toMatchObject({ changes: [] })
  expect(await change({ freshness_floor: 0 })).toMatchObject({ status: 200 })
  expect(await change({ judge: 'default' })).toMatchObject({ status: 200 })
})

test('a loop waits after iterations that are to come, but not after the last', async () => {
  await waiting('run_pause', 1, { options: { iterations: 4 } })
  const pause = (after: unknown, id = 'run_pause'): Promise<Json> =>
    refusal(`/v1/rlaif/loops/${id}/pause`, { after })
  for (const after of [1, 4, 7])
    expect(await pause(after)).toMatchObject({
      ...{ status: 422, code: 'conflicting_options', field: 'after' },
      detail: expect.stringMatching(/2 to 3, "each" or null/u) as string,
    })
  for (const after of [2, 3, 'each', null])
    expect(await pause(after)).toMatchObject({ status: 200 })
  await waiting('run_last', 1, { options: { iterations: 2 } })
  expect((await pause(1, 'run_last'))['detail']).toMatch(/one of "each" or null/u)
  for (const after of [1, 5])
    expect(await loop({ pause_after: after })).toMatchObject({
      ...{ status: 422, code: 'conflicting_options', field: 'pause_after' },
    })
})

test('a judge that labels only from a later iteration on is audited too', async () => {
  await api.post('/v1/judges').send({ id: 'new', kind: 'local', model: 'starter-policy' })
  const people = { judge: 'new', options: { iterations: 2, people: 1 } }
  const changes = [{ iteration: 2, options: { people: 0 } }]
  expect(await loop({ ...people, changes })).toMatchObject({
    ...{ status: 409, code: 'judge_not_audited' },
  })
})

test('a guard that a change alone asks for has its judge', async () => {
  const opened = (guard: object | null) => {
    const changes = [{ iteration: 2, options: { guard } }]
    const options = { iterations: 2, guard: null }
    const request = LoopRequest.parse({ kind: 'rlaif', options, changes })
    return openJudges(services, request, iterationPlans(request))
  }
  expect((await opened({ every: 1, prompts: 8 })).auditor?.name).toBe('starter-audit-judge')
  expect((await opened(null)).auditor).toBeNull()
})
