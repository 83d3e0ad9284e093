import { execFile } from 'node:child_process'
import { resolve } from 'node:path'
import { expect, test } from 'vitest'

test('doctor: an engine starts and says what the device reaches; every starter model is read', async () => {
  const bin = resolve(import.meta.dirname, '../../bin/libra.js')
  const out = await new Promise<string>((done) => {
    // the disk of this machine may be full: that is not asked here, so neither is the exit status
    execFile(process.execPath, [bin, 'doctor'], (_error, stdout) => done(stdout))
  })
  const line = (what: string): string => out.split('\n').find((each) => each.includes(what)) ?? ''
  expect(line('✓ device'), out).toMatch(/ [1-9]\d* GFLOP\/s .* \d+ GB\/s/)
  expect(line('✓ starter models'), out).toContain('whole')
})
