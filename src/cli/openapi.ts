import { mkdir, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { allRoutes } from '../http/app.ts'
import { openApiDocument } from '../http/openapi.ts'
import type { Services } from '../services/services.ts'

/** The document as committed under openapi/: the contracts need no service behind them. */
export const renderOpenApi = (): string =>
  `${JSON.stringify(openApiDocument(allRoutes({} as Services, '')), null, 2)}\n`

export async function writeOpenApi(file: string): Promise<void> {
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, renderOpenApi())
}
