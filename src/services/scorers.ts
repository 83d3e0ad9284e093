import { createHash } from 'node:crypto'
import { CODE_VERSION } from '../config.ts'
import type { Engine, ModelInfo } from '../engine/engine.ts'
import type { Calibration } from '../schemas/model.ts'
import type { ModelRow, Store } from '../store/store.ts'
import { filesOf } from './catalog.ts'

/** What gave a score: the files of a model, and the build that ran them. */

type World = { serving: Engine; store: Store }
type Build = { device: string; tensorflow: string; codeVersion: string }
type Scorer = NonNullable<Awaited<ReturnType<Store['scorers']['get']>>>

const builds = new WeakMap<Engine, Promise<Build>>()
/** Of an engine, which is asked once. */
function buildOf(serving: Engine): Promise<Build> {
  const known =
    builds.get(serving) ??
    serving
      .status()
      .then(({ device, tensorflow }) => ({ device, tensorflow, codeVersion: CODE_VERSION }))
  builds.set(serving, known)
  known.catch(() => builds.delete(serving))
  return known
}

/** Notes what gives a score, the first time that this build does it with these files; the id that rows name it by. */
export async function rememberScorer(
  { serving, store }: World,
  model: ModelRow,
  version: string,
  calibration: Calibration | null,
): Promise<string> {
  const build = await buildOf(serving)
  const named = [version, build.device, build.tensorflow, build.codeVersion]
  const id = createHash('sha256').update(named.join('\n')).digest('hex')
  if ((await store.scorers.get(id)) !== null) return id
  const { files } = await serving.describe(filesOf(model))
  const { base, adapters } = model
  const row = { id, version, files, model: model.id, base, adapters, calibration, ...build }
  await store.scorers.insert([{ ...row, createdAt: Date.now() }]).catch(async (error: unknown) => {
    if ((await store.scorers.get(id)) === null) throw error // else another request was faster
  })
  return id
}

/** The version of the files that a score's row names. */
export async function versionOf(store: Store, scorer: string): Promise<string> {
  return (await store.scorers.get(scorer))?.version ?? scorer
}

/** What is otherwise now than when a scorer was noted, in words: its files by name, TensorFlow, the device, this program. */
export async function movedSince(
  serving: Engine,
  scorer: Scorer,
  now: Pick<ModelInfo, 'files'>,
): Promise<string[]> {
  const build = await buildOf(serving)
  const files = scorer.files ?? {}
  const names = [...new Set([...Object.keys(files), ...Object.keys(now.files)])].sort()
  const changed = (what: string, before: string, after: string): string[] =>
    before === after ? [] : [`${what}: ${before} → ${after}`]
  return [
    ...(scorer.files === null
      ? []
      : names.flatMap((name) => {
          const [before, after] = [files[name], now.files[name]]
          if (before === after) return []
          return [
            `${name} ${before === undefined ? 'is new' : after === undefined ? 'is gone' : 'has changed'}`,
          ]
        })),
    ...changed('device', scorer.device, build.device),
    ...changed('TensorFlow', scorer.tensorflow, build.tensorflow),
    ...changed('Libra', scorer.codeVersion, build.codeVersion),
  ]
}
