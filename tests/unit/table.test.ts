import { expect, test } from 'vitest'
import { tableOf } from '../../src/cli/table.ts'

test('a table that goes to a file or a pipe has no colours', () => {
  const table = tableOf(['figure', 'n'])
  table.push(['safe and helpful', 1600])
  expect(process.stdout.isTTY).not.toBe(true)
  expect(table.toString()).toMatch(/^┌─+┬─+┐\n│ figure +│ n +│\n/)
  expect(table.toString()).not.toContain('\u001B')
})
