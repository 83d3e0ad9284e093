import { z } from 'zod'
import { LibraError } from '../../errors.ts'
import { Page } from '../../schemas/http.ts'
import { FileList, FileReply } from '../../schemas/openai.ts'
import type { Services } from '../../services/services.ts'
import { route } from '../contract.ts'
import type { Route } from '../contract.ts'
import { presentFile, presentPage } from '../present.ts'

const tag = 'files'
const MAX_FILE = 512 * 1024 * 1024

export const fileRoutes = (services: Services): Route[] => [
  route(
    {
      method: 'post',
      path: '/v1/files',
      tag,
      summary: 'Upload a data set as JSON Lines (multipart: file, purpose)',
      reply: FileReply,
      upload: true,
    },
    async ({ c }) => {
      const form = await c.req.parseBody().catch(() => ({}) as Record<string, unknown>)
      const { file, purpose } = form
      if (!(file instanceof File))
        throw new LibraError('invalid_request', 'file: send multipart/form-data with a file', {
          details: { field: 'file' },
        })
      if (typeof purpose !== 'string' || purpose === '')
        throw new LibraError('invalid_request', 'purpose: say what it is for, e.g. fine-tune', {
          details: { field: 'purpose' },
        })
      if (file.size === 0 || file.size > MAX_FILE)
        throw new LibraError(
          file.size === 0 ? 'empty_data' : 'body_too_large',
          `file: ${file.size} bytes; 1 to ${MAX_FILE} are taken`,
        )
      const bytes = new Uint8Array(await file.arrayBuffer())
      return presentFile(await services.files.save(file.name, purpose, bytes))
    },
  ),
  route(
    { method: 'get', path: '/v1/files', tag, summary: 'Files', query: Page, reply: FileList },
    async ({ query }) => {
      const { data, hasMore } = await services.store.files.page(query)
      return presentPage(data.map(presentFile), hasMore)
    },
  ),
  route(
    { method: 'get', path: '/v1/files/{id}', tag, summary: 'One file', reply: FileReply },
    async ({ id }) => presentFile(await services.files.get(id)),
  ),
  route(
    {
      method: 'get',
      path: '/v1/files/{id}/content',
      tag,
      summary: 'The bytes of a file',
      reply: 'application/jsonl',
    },
    async ({ c, id }) =>
      c.body(await services.files.read(id), 200, { 'content-type': 'application/jsonl' }),
  ),
  route(
    {
      method: 'delete',
      path: '/v1/files/{id}',
      tag,
      summary: 'Delete a file',
      reply: z.object({ id: z.string(), object: z.literal('file'), deleted: z.literal(true) }),
    },
    async ({ id }) => {
      await services.files.remove(id)
      return { id, object: 'file', deleted: true }
    },
  ),
]
