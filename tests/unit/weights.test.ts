import {
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, expect, test } from 'vitest'
import { commitFolder, verifyFolder } from '../../src/weights/atomic.ts'
import { readAdapter } from '../../src/weights/folder.ts'
import {
  fromFloat32,
  openSafetensors,
  widenInto,
  writeSafetensors,
} from '../../src/weights/safetensors.ts'

const folder = mkdtempSync(join(tmpdir(), 'libra-weights-'))
afterAll(() => rmSync(folder, { recursive: true }))
const fixture = (name: string): string =>
  fileURLToPath(new URL(`../../fixtures/parity/llama/${name}`, import.meta.url))

test('what transformers wrote is read and written back byte for byte', async () => {
  const source = fixture('rm/model.safetensors')
  const file = openSafetensors(source)
  const copy = join(folder, 'copy.safetensors')
  await writeSafetensors(
    copy,
    Object.fromEntries(file.names.map((name) => [name, file.read(name)])),
  )
  expect(readFileSync(copy).equals(readFileSync(source))).toBe(true)
})

test('a cut file is refused by name', () => {
  const file = join(folder, 'cut.safetensors')
  writeFileSync(file, readFileSync(fixture('rm/model.safetensors')))
  truncateSync(file, 60_000)
  expect(() => openSafetensors(file)).toThrow(/cut\.safetensors.*60000 bytes/)
})

// IEEE 754 binary16 and bfloat16 by their definitions
test.each([
  ['F16', 1, 0x3c00],
  ['F16', -2, 0xc000],
  ['F16', 65504, 0x7bff],
  ['F16', 65520, 0x7c00],
  ['F16', 2 ** -24, 0x0001],
  ['F16', 2 ** -25, 0x0000],
  ['F16', 2 ** -14, 0x0400],
  ['F16', 1 + 2 ** -11, 0x3c00],
  ['F16', 1 + 3 * 2 ** -11, 0x3c02],
  ['F16', Infinity, 0x7c00],
  ['F16', 1023 * 2 ** -24, 0x03ff],
  ['BF16', 1, 0x3f80],
  ['BF16', 1 + 2 ** -8, 0x3f80],
  ['BF16', 1 + 3 * 2 ** -8, 0x3f82],
  ['BF16', -Infinity, 0xff80],
] as const)('%s of %s', (dtype, value, bits) => {
  const stored = new Uint16Array(fromFloat32(Float32Array.of(value), dtype).buffer)
  expect(stored[0]).toBe(bits)
  const back = new Float32Array(1)
  widenInto(back, stored, dtype)
  const exact = dtype === 'F16' ? bits !== 0x7c00 && value !== 2 ** -25 : false
  if (exact && ![1 + 2 ** -11, 1 + 3 * 2 ** -11].includes(value)) expect(back[0]).toBe(value)
})

test('an adapter that lost its head is refused', async () => {
  const broken = join(folder, 'nohead')
  await commitFolder(broken, async (target) => {
    const file = openSafetensors(fixture('mini/adapter_model.safetensors'))
    const kept = file.names.filter((name) => !name.includes('score'))
    await writeSafetensors(
      join(target, 'adapter_model.safetensors'),
      Object.fromEntries(kept.map((name) => [name, file.read(name)])),
    )
    writeFileSync(
      join(target, 'adapter_config.json'),
      readFileSync(fixture('mini/adapter_config.json')),
    )
  })
  await expect(readAdapter(broken)).rejects.toThrow(/score\.weight is missing/)
})

test('a folder is written all or nothing, and damage is named', async () => {
  const target = join(folder, 'whole')
  await expect(commitFolder(target, () => Promise.reject(new Error('stop')))).rejects.toThrow(
    'stop',
  )
  expect(existsSync(target)).toBe(false)
  expect(readdirSync(folder).filter((name) => name.includes('partial'))).toEqual([])
  await commitFolder(target, (path) => Promise.resolve(writeFileSync(join(path, 'a.txt'), 'a')))
  await verifyFolder(target)
  writeFileSync(join(target, 'a.txt'), 'b')
  await expect(verifyFolder(target)).rejects.toThrow(/a\.txt/)
  await expect(commitFolder(target, () => Promise.resolve())).rejects.toMatchObject({
    code: 'already_exists',
  })
})
