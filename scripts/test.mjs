// Runs vitest and closes with the plain line `N passed, N failed`. Arguments go on to vitest.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const folder = mkdtempSync(join(tmpdir(), 'libra-test-'))
const file = join(folder, 'report.json')
const run = spawnSync(
  process.execPath,
  [
    'node_modules/vitest/vitest.mjs',
    'run',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${file}`,
    ...process.argv.slice(2),
  ],
  { stdio: ['ignore', 'inherit', 'inherit'] },
)
let report = { numPassedTests: 0, numFailedTests: 0, success: false }
try {
  report = JSON.parse(readFileSync(file, 'utf8'))
} catch {
  console.error('vitest left no report')
}
rmSync(folder, { recursive: true, force: true })
const files = (report.testResults ?? []).filter(
  (f) => f.status === 'failed' && f.assertionResults.every((a) => a.status !== 'failed'),
)
console.log(`${report.numPassedTests} passed, ${report.numFailedTests + files.length} failed`)
process.exit(run.status === 0 && report.success && report.numPassedTests > 0 ? 0 : 1)
