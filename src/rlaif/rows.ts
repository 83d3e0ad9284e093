import { createHash } from 'node:crypto'
import { writeFile } from 'node:fs/promises'

/** Rows as a file that training reads, with the hash of its bytes. */
export async function writeRows(
  path: string,
  rows: readonly unknown[],
): Promise<{ path: string; dataHash: string }> {
  const text = rows.map((row) => JSON.stringify(row)).join('\n')
  await writeFile(path, text)
  return { path, dataHash: createHash('sha256').update(text).digest('hex') }
}
