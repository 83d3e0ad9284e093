import { execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { renderOpenApi } from '../../src/cli/openapi.ts'

const root = resolve(import.meta.dirname, '../..')
const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .map((name) => ({ name, text: readFileSync(join(root, 'src', name), 'utf8') }))

test('openapi/openapi.json is what the contracts say (npm run openapi)', () => {
  expect(readFileSync(join(root, 'openapi/openapi.json'), 'utf8')).toBe(renderOpenApi())
})

test('migrations/ is what the tables say (npm run migrations)', () => {
  const out = mkdtempSync(join(tmpdir(), 'libra-migrations-'))
  try {
    cpSync(join(root, 'migrations'), join(out, 'migrations'), { recursive: true })
    const kit = join(root, 'node_modules/.bin/drizzle-kit')
    const schema = join(root, 'src/store/schema.ts')
    const options = ['generate', '--dialect', 'sqlite', '--schema', schema]
    execFileSync(kit, [...options, '--out', relative(root, join(out, 'migrations'))], { cwd: root })
    expect(readdirSync(join(out, 'migrations')).sort()).toEqual(
      readdirSync(join(root, 'migrations')).sort(),
    )
  } finally {
    rmSync(out, { recursive: true })
  }
}, 30_000)

/** What each room may import of ours. Rooms not named may be imported by nobody but main. */
const MAY: Record<string, readonly string[]> = {
  schemas: [],
  text: ['weights', 'schemas'],
  weights: ['schemas'],
  tensor: [],
  model: ['tensor', 'weights', 'text', 'schemas'],
  training: ['model', 'tensor', 'weights', 'text', 'schemas', 'evaluation'],
  engine: ['training', 'model', 'tensor', 'weights', 'text', 'schemas'],
  judging: ['engine', 'schemas'],
  evaluation: ['engine', 'schemas'],
  rlaif: ['judging', 'evaluation', 'engine', 'text', 'weights', 'schemas'],
  starter: ['judging', 'evaluation', 'engine', 'schemas'],
  store: ['schemas'],
  services: [
    'rlaif',
    'judging',
    'evaluation',
    'engine',
    'starter',
    'store',
    'weights',
    'text',
    'schemas',
  ],
  web: ['services', 'evaluation', 'store', 'schemas'],
  http: ['web', 'services', 'store', 'engine', 'schemas'],
  cli: ['weights', 'http', 'services', 'store', 'engine', 'starter', 'text', 'schemas'],
}
const COMMON = ['errors.ts', 'config.ts', 'random.ts']

test('imports go one way', () => {
  const wrong: string[] = []
  for (const { name, text } of sources) {
    const [room = ''] = name.split('/')
    if (!name.includes('/')) continue
    for (const [, path = ''] of text.matchAll(/from '(\.[^']*)'/g)) {
      const target = relative(join(root, 'src'), resolve(root, 'src', name, '..', path))
      const [other = ''] = target.split('/')
      if (other === room || COMMON.includes(target)) continue
      if (!(MAY[room] ?? []).includes(other)) wrong.push(`${name} imports ${target}`)
    }
  }
  expect(wrong).toEqual([])
})

test('only tensor/ knows tfjs, only engine/ knows training and model, only starter/evaluate and the judge’s data know gold', () => {
  const importers = (pattern: RegExp): string[] =>
    sources.filter(({ text }) => pattern.test(text)).map(({ name }) => name)
  expect(importers(/@tensorflow/)).toEqual(['tensor/backend.ts'])
  expect(importers(/from '\.\/gold\.ts'|starter\/gold/).sort()).toEqual([
    'starter/evaluate.ts',
    'starter/judge-data.ts',
  ])
  expect(importers(/process\.env\b/).filter((name) => !name.startsWith('engine/process'))).toEqual([
    'config.ts',
  ])
})

test('packages stand at or above the versions without known advisories', () => {
  const floors: Record<string, string> = {
    hono: '4.12.21',
    'drizzle-orm': '0.45.2',
  }
  for (const [name, floor] of Object.entries(floors)) {
    const path = join(root, 'node_modules', name, 'package.json')
    const { version } = JSON.parse(readFileSync(path, 'utf8')) as { version: string }
    expect(version.localeCompare(floor, 'en', { numeric: true }), name).toBeGreaterThanOrEqual(0)
  }
})
