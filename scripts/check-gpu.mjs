// All that is to be known about a machine with an NVIDIA GPU, in one command: parity with PyTorch and transformers
// (TF32 off), a real training of both reward models at 30 million parameters, and the benches beside PyTorch.
//   npm run check:gpu -- --data <folder of human pairs> [--log <file>]
import { spawn } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { parseArgs } from 'node:util'

const { values } = parseArgs({ options: { data: { type: 'string' }, log: { type: 'string' } } })
if (values.data === undefined) {
  console.error(
    'check-gpu: --data names the folder of human pairs, as for `npm run rlaif -- --data`',
  )
  process.exit(2)
}
const log = createWriteStream(values.log ?? 'check-gpu.log')
const env = { ...process.env, NVIDIA_TF32_OVERRIDE: '0', LIBRA_DEVICE: 'gpu' }
const size = {
  hidden_size: 512,
  layers: 8,
  heads: 8,
  kv_heads: 4,
  intermediate_size: 1408,
  context: 256,
}
const steps = {
  'what there is': ['scripts/setup-native.mjs', '--gpu'],
  'the device': ['bin/libra.js', 'doctor'],
  parity: ['node_modules/vitest/vitest.mjs', 'run', 'tests/parity', 'tests/unit/decoder.test.ts'],
  'both reward models on human pairs': [
    ...['bin/libra.js', 'rlaif', '--data', values.data],
    ...['--sizes', JSON.stringify({ architecture: size })],
  ],
  bench: ['--import', 'tsx', 'bench/run.ts', '--data', values.data, '--sizes', '7M,30M,125M'],
  scaling: ['--import', 'tsx', 'bench/scaling.ts', '--sizes', '7M,30M,125M'],
}

const failed = []
for (const [name, command] of Object.entries(steps)) {
  const tell = (text) => {
    process.stdout.write(text)
    log.write(text)
  }
  tell(`\n## ${name}\n\n`)
  const child = spawn(process.execPath, command, { env, stdio: ['ignore', 'pipe', 'pipe'] })
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (part) => tell(String(part)))
  const code = await new Promise((resolve) => child.on('close', resolve))
  if (code !== 0) failed.push(name)
  if (code !== 0 && name === 'what there is') break
}
log.end()
if (failed.length > 0) {
  console.error(`check-gpu: failed: ${failed.join(', ')}`)
  process.exitCode = 1
}
