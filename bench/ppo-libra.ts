import { createInterface } from 'node:readline'
import { PpoOptions } from '../src/schemas/policy-options.ts'
import { device, tensorflowVersion } from '../src/tensor/backend.ts'
import { policyUpdate } from '../src/training/ppo/round.ts'

/** Libra's side of bench/ppo.ts: one round for each line that comes, its seconds in return. */
const job = JSON.parse(process.argv[2] ?? '') as {
  lm: string
  rm: string
  data: string
  prompts: number
  new: number
  epochs: number
}
const reward = { files: { base: job.rm, adapters: [] }, calibration: null }
const rounds = policyUpdate({
  ...{ kind: 'policy_update', output: '', parent: null, data: job.data },
  ...{ reference: { base: job.lm, adapters: [] }, helpfulness: reward, safety: reward },
  options: PpoOptions.parse({
    ...{ rounds: 1000, prompts_per_round: job.prompts, mini_batch_size: job.prompts },
    ...{ max_new_tokens: job.new, epochs: job.epochs, lora: null, critic_warmup_rounds: 0 },
    ...{ micro_batch_tokens: 16384, reward_normalization: 'none' },
    optimizer: { learning_rate: 1e-5, schedule: 'constant', warmup_fraction: 0, weight_decay: 0 },
  }),
})
const say = (reply: unknown): boolean => process.stdout.write(`${JSON.stringify(reply)}\n`)
await rounds.next() // all is loaded
say({ ready: `TensorFlow ${tensorflowVersion} on ${device}` })
for await (const _ of createInterface({ input: process.stdin })) {
  const start = performance.now()
  for (;;) {
    const { value, done } = await rounds.next()
    if (done) throw new Error('the rounds are over')
    if (value?.type === 'metrics') break
  }
  say({ seconds: (performance.now() - start) / 1000, tokens: job.prompts * job.new })
}
