import { Command } from 'commander'
import { expect, test } from 'vitest'
import { count, json, partOf } from '../../src/cli/flags.ts'
import { rlaifOnData } from '../../src/cli/rlaif.ts'

/** What becomes of a command line with one option. */
function read(reader: (text: string) => unknown, text: string): unknown {
  const said: string[] = []
  const command = new Command()
    .option('--it <value>', 'it', reader)
    .exitOverride()
    .configureOutput({ writeErr: (line) => said.push(line) })
  try {
    return command.parse(['node', 'libra', '--it', text]).opts<{ it: unknown }>().it
  } catch {
    return said.join()
  }
}

test('options are read, or named with what is wrong', () => {
  expect(read(partOf, '2/3')).toEqual({ part: 2, parts: 3 })
  expect(read(json, '{"a": {"b": 1}}')).toEqual({ a: { b: 1 } })
  expect(read(count, '3')).toBe(3)
  for (const wrong of ['3/2', '0/2', '1', '1/2/3', 'a/b', ''])
    expect(read(partOf, wrong), wrong).toMatch(/'--it <value>' argument '.*' is invalid. part/)
  for (const wrong of ['{a: 1}', '[1]', '3', 'null'])
    expect(read(json, wrong), wrong).toMatch(/'--it <value>' argument '.*' is invalid/)
  for (const wrong of ['0', '1.5', 'three']) expect(read(count, wrong)).toMatch(/whole number/)
})

test('a probe that there is not is named before anything is read or trained', async () => {
  await expect(rlaifOnData('nowhere', null, {}, {}, ['doubled', 'dubbed'])).rejects.toMatchObject({
    issues: [{ path: ['override', 1] }],
  })
})
