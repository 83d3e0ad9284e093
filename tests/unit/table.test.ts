import { expect, test } from 'vitest'
import { tableOf } from '../../src/cli/table.ts'

test('a table that goes to a file or a pipe has no colours, whatever the environment says of them', () => {
  const table = tableOf(['figure', 'n'])
  // standard output is no terminal here; what colours a table is its style alone
  expect(table.options.style).toMatchObject({ head: [], border: [] })
  table.push(['safe and helpful', 1600])
  expect(table.toString()).toMatch(/^┌─+┬─+┐\n│ figure +│ n +│\n/)
})
