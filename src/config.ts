import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { LibraError } from './errors.ts'

/** The only reader of the environment. */
export type Config = {
  host: string
  port: number
  /** where the command line finds a service; null: on this machine, else none */
  url: string | null
  dataDir: string
  /** folder from which models may be imported */
  modelsDir: string
  /** bytes that the weights of resident models may take together; null: half of the memory that is free */
  modelMemory: number | null
  /** days that scores are kept; null: for good */
  scoreDays: number | null
  /** the default OpenAI-compatible judge; null: the local judge */
  judge: { baseUrl: string; apiKey: string | null; model: string } | null
  judgeKey: JudgeKeys
}
/**
 * The key of a judge profile by the name of its environment variable, and the only origin it may be sent to:
 * `LIBRA_JUDGE_KEY_X` with `LIBRA_JUDGE_KEY_X_ORIGIN`. Who may add profiles must not be able to read keys.
 */
export type JudgeKeys = (name: string) => { key: string; origin: string } | null

export function readConfig(env: NodeJS.ProcessEnv = process.env): Config {
  return {
    host: env['LIBRA_HOST'] ?? '127.0.0.1',
    port: readPort(env['LIBRA_PORT'] ?? '8080'),
    url: env['LIBRA_URL'] || null,
    dataDir: resolve(env['LIBRA_DATA_DIR'] ?? './data'),
    modelsDir: resolve(env['LIBRA_MODELS_DIR'] ?? './models'),
    modelMemory: readMemory(env['LIBRA_MODEL_MEMORY'] || null),
    scoreDays: readDays(env['LIBRA_SCORE_DAYS'] || null),
    judge: readJudge(env),
    judgeKey(name) {
      const [key, origin] = [env[name], env[`${name}_ORIGIN`]]
      return /^LIBRA_JUDGE_KEY_\w+$/.test(name) && key && origin ? { key, origin } : null
    },
  }
}

function readPort(text: string): number {
  const port = Number(text)
  if (text !== '' && Number.isInteger(port) && port >= 0 && port <= 65535) return port
  throw new LibraError('invalid_configuration', `LIBRA_PORT: ${text} is no port from 0 to 65535`)
}

function readMemory(text: string | null): number | null {
  const gigabytes = Number(text)
  if (text === null) return null
  if (gigabytes > 0 && Number.isFinite(gigabytes)) return Math.round(gigabytes * 1e9)
  throw new LibraError('invalid_configuration', `LIBRA_MODEL_MEMORY: ${text} is no number of GB`)
}

function readDays(text: string | null): number | null {
  const days = Number(text)
  if (text === null) return null
  if (days > 0 && Number.isFinite(days)) return days
  throw new LibraError('invalid_configuration', `LIBRA_SCORE_DAYS: ${text} is no number of days`)
}

/** An empty variable counts as unset: that is how container files leave one out. */
function readJudge(env: NodeJS.ProcessEnv): Config['judge'] {
  const baseUrl = env['LIBRA_JUDGE_BASE_URL'] || null
  const apiKey = env['LIBRA_JUDGE_API_KEY'] || null
  const model = env['LIBRA_JUDGE_MODEL'] || null
  if (baseUrl !== null && model !== null) return { baseUrl, apiKey, model }
  if (baseUrl === null && model === null) return null
  throw new LibraError(
    'judge_misconfigured',
    `LIBRA_JUDGE_BASE_URL and LIBRA_JUDGE_MODEL belong together: ${baseUrl === null ? 'LIBRA_JUDGE_BASE_URL' : 'LIBRA_JUDGE_MODEL'} is missing (set neither for the local judge)`,
  )
}

/** The models and texts that come with the project. */
export const starterFolder = fileURLToPath(new URL('../fixtures/starter/models', import.meta.url))

export const CODE_VERSION = '0.1.0'
