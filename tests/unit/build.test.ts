import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative, resolve } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { codeOf, SCORING, sourcesBehind } from '../../src/engine/build.ts'

const folder = mkdtempSync(join(tmpdir(), 'libra-build-'))
afterAll(() => rmSync(folder, { recursive: true }))

test('what scores, loads and tokenizes decides a score; training and the service do not', () => {
  const src = resolve(import.meta.dirname, '../../src')
  const paths = [...sourcesBehind(SCORING.map((name) => join(src, 'engine', name))).keys()]
  const names = paths.map((path) => relative(src, path))
  for (const name of ['engine/scores.ts', 'model/llama.ts', 'model/resident.ts', 'tensor/ops.ts'])
    expect(names).toContain(name)
  for (const name of ['text/template.ts', 'text/tokenizer.ts', 'weights/lora.ts'])
    expect(names).toContain(name)
  expect(names.filter((name) => /^(training|services|http|cli|judging|web)\//.test(name))).toEqual(
    [],
  )
})

test('the hash follows what an entry imports, not what its types name, wherever it lies', () => {
  const write = (name: string, text: string) => writeFileSync(join(folder, name), text)
  mkdirSync(join(folder, 'room'))
  write(
    'room/entry.ts',
    [
      "import { one } from '../one.ts'",
      "import type { Two } from '../two.ts'",
      "import {\n  three,\n} from './three.ts'",
      "import './four.ts'",
    ].join('\n'),
  )
  write('one.ts', "export { five } from './five.ts'")
  write('two.ts', 'export type Two = 2')
  for (const name of ['room/three.ts', 'room/four.ts', 'five.ts', 'six.ts']) write(name, '// as is')
  const hash = () => codeOf(join(folder, 'room'), ['entry.ts'])
  const before = hash()
  for (const name of ['two.ts', 'six.ts']) {
    write(name, '// otherwise')
    expect(hash(), name).toBe(before)
  }
  for (const name of ['room/three.ts', 'room/four.ts', 'five.ts']) {
    write(name, '// otherwise')
    expect(hash(), name).not.toBe(before)
    write(name, '// as is')
    expect(hash(), name).toBe(before)
  }
  rmSync(join(folder, 'five.ts'))
  expect(hash).toThrow(/five/)
})
