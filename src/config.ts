import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The only reader of the environment. */
export type Config = { host: string; port: number; dataDir: string; modelsDir: string }

export function readConfig(env: NodeJS.ProcessEnv = process.env): Config {
  return {
    host: env['LIBRA_HOST'] ?? '127.0.0.1',
    port: Number(env['LIBRA_PORT'] ?? 8080),
    dataDir: resolve(env['LIBRA_DATA_DIR'] ?? './data'),
    modelsDir: resolve(env['LIBRA_MODELS_DIR'] ?? './models'),
  }
}

/** The models and texts that come with the project. */
export const starterFolder = fileURLToPath(new URL('../fixtures/starter/models', import.meta.url))

export const CODE_VERSION = '0.1.0'
