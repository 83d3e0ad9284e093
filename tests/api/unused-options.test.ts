import { expect, test } from 'vitest'
import { service } from '../helpers/service.ts'

const { api } = await service()
const upload = async (name: string, text: string): Promise<string> => {
  const { body } = await api
    .post('/v1/files')
    .field('purpose', 'evals')
    .attach('file', Buffer.from(text), name)
  return (body as { id: string }).id
}

test('an option that a target of an evaluation does not use is refused by name', async () => {
  const send = async (options: object) =>
    (await api.post('/v1/evaluations').send({ options })).body as Record<string, unknown>
  const file = await upload('prompts.txt', 'What is the capital of France?')
  const arena = { target: 'arena', models: ['policy', 'reference'], file, limit: 1 }
  for (const [options, field] of [
    [{ ...arena, tax: 'file-nope' }, 'tax'],
    [{ ...arena, audit_file: 'file-nope' }, 'audit_file'],
    [{ ...arena, training_files: ['file-nope'] }, 'training_files'],
    [{ ...arena, checkpoints_of: 'run_nope' }, 'checkpoints_of'],
    [{ ...arena, baselines: ['best_of_n'] }, 'baselines'],
    [{ ...arena, against: 'reference' }, 'against'],
    [{ ...arena, model: 'policy' }, 'model'],
    [{ target: 'policy', rationale: {}, limit: 1 }, 'rationale'],
    [{ target: 'policy', self: 'me', limit: 1 }, 'self'],
    [{ target: 'judge', models: ['policy'] }, 'models'],
    [{ target: 'reward_model', judge: 'default' }, 'judge'],
    [{ target: 'probes', format: 'text', file }, 'format'],
    [{ target: 'certificate', baseline_file: file }, 'baseline_file'],
    // what a file is like says nothing where there is none
    [{ target: 'policy', format: 'text', limit: 1 }, 'format'],
  ] as const) {
    const body = await send(options)
    expect([options, body['code'], body['field']]).toEqual([
      ...[options, 'conflicting_options', `options.${field}`],
    ])
    expect(body['detail']).toContain(options.target)
  }
  // none asked for is none that is not used
  const { id } = await send({ ...arena, baselines: [], format: 'text', max_new_tokens: 1 })
  expect(id).toMatch(/^run_/)
  await api.post(`/v1/runs/${String(id)}/cancel`)
})

test('a reward model is no policy: it is neither sampled nor trained as one', async () => {
  const messages = [{ role: 'user', content: 'What is 2 plus 3?' }]
  for (const more of [{}, { best_of: 2 }, { stream: true }]) {
    const body = { model: 'starter-safety', messages, max_tokens: 2, ...more }
    const chat = await api.post('/v1/chat/completions').send(body)
    expect(chat.body).toMatchObject({ code: 'wrong_model_kind', field: 'model' })
  }
  const training_file = await upload('prompts.jsonl', `${JSON.stringify({ messages })}\n`)
  const round = { policy: 'starter-safety', training_file, override: ['staleness'] }
  const options = { rounds: 1, prompts_per_round: 1, critic_warmup_rounds: 0 }
  const { status, body } = await api.post('/v1/ppo/rounds').send({ ...round, options })
  expect(status, JSON.stringify(body)).toBe(422)
  expect(body).toMatchObject({ code: 'wrong_model_kind', field: 'policy' })
})

test('nor does it write answers that are labelled, revised, compared or attacked with', async () => {
  const training_file = await upload('asked.jsonl', `${JSON.stringify({ messages: [] })}\n`)
  const evaluation = (options: object) => ['/v1/evaluations', { options }] as const
  for (const [[path, body], field] of [
    [['/v1/preferences/label', { model: 'safety', training_file }], 'model'],
    [
      ['/v1/runs', { kind: 'revision', model: 'safety', training_file, constitution: 'file-no' }],
      'model',
    ],
    [['/v1/runs', { kind: 'sft', model: 'safety', training_file }], 'model'],
    [['/v1/runs', { kind: 'dpo', model: 'safety', training_file }], 'model'],
    [evaluation({ target: 'certificate', axis: 'safety', against: 'safety' }), 'options.against'],
    [evaluation({ target: 'policy', model: 'safety' }), 'options.model'],
    [evaluation({ target: 'policy', models: ['safety'] }), 'options.models'],
    [evaluation({ target: 'policy', against: 'safety' }), 'options.against'],
  ] as const) {
    const { body: told } = await api.post(path).send(body)
    expect([path, body, told]).toMatchObject([path, body, { code: 'wrong_model_kind', field }])
  }
  const missing = { options: { target: 'policy', against: 'nonesuch' } }
  const { body: none } = await api.post('/v1/evaluations').send(missing)
  expect(none).toMatchObject({ code: 'model_not_found', field: 'options.against' })
})
