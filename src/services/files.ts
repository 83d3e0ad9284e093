import { createHash } from 'node:crypto'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { LibraError } from '../errors.ts'
import type { FileRow, Store } from '../store/store.ts'
import { decodeUtf8 } from '../text/rows.ts'
import { newId } from './runs.ts'

/** Uploaded data sets: bytes in a folder, one row each. */
export type Files = {
  save(filename: string, purpose: string, bytes: Uint8Array): Promise<FileRow>
  /** throws `file_not_found` */
  get(id: string): Promise<FileRow & { path: string }>
  read(id: string): Promise<Uint8Array<ArrayBuffer>>
  /** its text, with what messages call it: its id (its name); throws `file_not_found`, `invalid_data` */
  text(id: string): Promise<{ text: string; source: string }>
  remove(id: string): Promise<void>
}

export function createFiles(store: Store, dataDir: string): Files {
  const folder = join(dataDir, 'files')
  const get: Files['get'] = async (id) => {
    const row = await store.files.get(id)
    if (row === null)
      throw new LibraError('file_not_found', `no file ${id}: upload it with POST /v1/files`, {
        details: { field: 'file' },
      })
    return { ...row, path: join(folder, row.id) }
  }
  const read: Files['read'] = async (id) => new Uint8Array(await readFile((await get(id)).path))
  return {
    ...{ get, read },
    async text(id) {
      const source = `${id} (${(await get(id)).filename})`
      return { text: decodeUtf8(await read(id), source), source }
    },
    async save(filename, purpose, bytes) {
      const id = newId('file').replace('_', '-')
      const sha256 = createHash('sha256').update(bytes).digest('hex')
      await mkdir(folder, { recursive: true })
      const path = join(folder, id)
      await writeFile(`${path}.partial`, bytes, { flush: true })
      await rename(`${path}.partial`, path)
      const row = { id, filename, purpose, bytes: bytes.length, sha256, createdAt: Date.now() }
      await store.files.insert([row])
      return row
    },
    async remove(id) {
      const { path } = await get(id)
      await store.files.remove(id)
      await rm(path, { force: true })
    },
  }
}
