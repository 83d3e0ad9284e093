import Table from 'cli-table3'

/** An empty table under these heads; a file or a pipe gets it without colours. */
export const tableOf = (head: string[]): Table.Table =>
  new Table({ head, ...(process.stdout.isTTY ? {} : { style: { head: [], border: [] } }) })
