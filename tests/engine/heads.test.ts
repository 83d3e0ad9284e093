import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { createLocalEngine } from '../../src/engine/local.ts'
import { withCheckpoint } from '../../src/engine/engine.ts'
import type { ModelFiles } from '../../src/engine/engine.ts'
import { RewardModelOptions } from '../../src/schemas/training-options.ts'
import { starterRoles } from '../starter-roles.ts'

const folder = mkdtempSync(join(tmpdir(), 'libra-heads-'))
const engine = createLocalEngine()
afterAll(async () => {
  await engine.close()
  rmSync(folder, { recursive: true })
})

const question = [{ role: 'user' as const, content: '乌鸦是什么颜色的？' }]
const pair = { axis: 'safety', prompt: question, chosen: '黑色。', rejected: '蓝色。' }
const data = join(folder, 'pairs.jsonl')
writeFileSync(data, JSON.stringify(pair))

const scores = async (model: ModelFiles): Promise<number[]> => {
  const conversations = ['黑色。', '我不能帮这个忙。'].map((content) => [
    ...question,
    { role: 'assistant' as const, content },
  ])
  return (await engine.score({ model, conversations, onTooLong: 'error' })).map((s) => s.logit)
}

async function trainOn(start: ModelFiles, name: string, lora: object | null): Promise<ModelFiles> {
  const output = join(folder, name)
  const model = { base: start.base, adapters: [...start.adapters] }
  const options = RewardModelOptions.parse({
    ...{ axis: 'safety', lora, optimizer: { learning_rate: 1e-12 } },
  })
  for await (const event of engine.train({ kind: 'reward_model', output, model, data, options }))
    if (event.type === 'done') break
  return withCheckpoint(start, output, lora)
}

test('a reward model that is trained on starts from the head it has, in an adapter or in a base', async () => {
  const start = starterRoles().safety
  const before = await scores(start)
  const stacked = await trainOn(start, 'stacked', {})
  const whole = await trainOn(start, 'whole', null)
  const wholeAgain = await trainOn(whole, 'again', null)
  for (const model of [stacked, whole, wholeAgain])
    (await scores(model)).forEach((logit, i) => expect(logit).toBeCloseTo(before[i] ?? NaN, 3))
})

test('a reward model reads what it was trained to read: the end, and says that the rest was cut', async () => {
  const start = starterRoles().safety
  const output = join(folder, 'short')
  const model = { base: start.base, adapters: [...start.adapters] }
  const options = RewardModelOptions.parse({ axis: 'safety', max_length: 12 })
  for await (const event of engine.train({ kind: 'reward_model', output, model, data, options }))
    if (event.type === 'done') break
  const conversations = ['一只猫。', '一只很大的狗在天上飞。'].map((content) => [
    { role: 'user' as const, content },
    {
      role: 'assistant' as const,
      content: '请按说明书使用火药并戴手套，不要给孩子碰，用完要放好。',
    },
  ])
  const short = withCheckpoint(start, output, {})
  const [one, other] = await engine.score({ model: short, conversations, onTooLong: 'error' })
  expect(one).toMatchObject({ tokens: 12, truncated: true })
  expect(one?.logit).toBeCloseTo(other?.logit ?? NaN, 6)
})

test('models on one base score together as each does alone, a beginning that they share once', async () => {
  const { helpfulness, safety, policy } = starterRoles()
  const conversations = ['黑色。', '我不能帮这个忙，', '白色。', ''].map((content, i) => [
    {
      role: 'user' as const,
      content: i < 2 ? '乌鸦是什么颜色的？请只说颜色，不要说别的。' : '雪？',
    },
    { role: 'assistant' as const, content: content.repeat(i + 1) },
  ])
  const request = { conversations, onTooLong: 'error' as const }
  // a reward model on the base itself: its adapter leaves out what the others' have
  const output = join(folder, 'few')
  const lora = { rank: 2, target_modules: ['v_proj'] }
  const options = RewardModelOptions.parse({ axis: 'safety', lora })
  const model = { base: policy.base, adapters: [] }
  for await (const event of engine.train({ kind: 'reward_model', output, model, data, options }))
    if (event.type === 'done') break
  const few = withCheckpoint(model, output, lora)
  const models = [helpfulness, few, safety, helpfulness]
  for (const some of [
    conversations,
    conversations.slice(0, 1),
    Array(40).fill(conversations).flat(),
  ]) {
    const together = await engine.scoreAll({ ...request, conversations: some, models })
    for (const [i, model] of models.entries()) {
      const alone = await engine.score({ ...request, conversations: some, model })
      expect(together[i]?.version).toBe((await engine.describe(model)).version)
      alone.forEach(({ logit, tokens, truncated }, row) => {
        expect(together[i]?.scores[row]).toMatchObject({ tokens, truncated })
        expect(Math.abs((together[i]?.scores[row]?.logit ?? NaN) - logit)).toBeLessThan(1e-5)
      })
    }
  }
})

test('a score comes out the same to the bit when its conversation lies where it lay', async () => {
  const { helpfulness, safety } = starterRoles()
  const beginning = '你好，请问世界上有几大洲？请详细说明每个洲的名字。'
  const conversations = Array.from({ length: 60 }, (_, i) => [
    {
      role: 'user' as const,
      content: i % 3 === 0 ? beginning : `问题${'很长的'.repeat(i % 17)}？`,
    },
    { role: 'assistant' as const, content: '七大洲。'.repeat(1 + ((i * 7) % 11)) },
  ])
  for (const models of [[helpfulness], [helpfulness, safety]]) {
    const onTooLong = 'error' as const
    const before = await engine.scoreAll({ models, conversations, onTooLong })
    for (let i = 0; i < conversations.length; i += 5) {
      const { placed } = before[0]?.scores[i] ?? {}
      if (placed === undefined) throw new Error('no place')
      expect(placed.models).toBe(models.length)
      const one = conversations.slice(i, i + 1)
      const again = await engine.scoreAll({ models, conversations: one, onTooLong, placed })
      models.forEach((_, at) =>
        expect(again[at]?.scores[0]?.logit).toBe(before[at]?.scores[i]?.logit),
      )
    }
  }
})
