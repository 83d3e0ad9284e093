import { createHash } from 'node:crypto'
import { CODE_VERSION } from '../config.ts'
import type { Engine, ModelInfo } from '../engine/engine.ts'
import type { Build, Calibration } from '../schemas/model.ts'
import type { ModelRow, Store } from '../store/store.ts'
import { filesOf } from './catalog.ts'

/** What gave a score: the files of a model, and the build that ran them. */

type World = { serving: Engine; store: Store }
type Ran = { device: string; tensorflow: string; codeVersion: string; build: Build }
type Scorer = NonNullable<Awaited<ReturnType<Store['scorers']['get']>>>

const builds = new WeakMap<Engine, Promise<Ran>>()
/** Of an engine, which is asked once. */
function buildOf(serving: Engine): Promise<Ran> {
  const known =
    builds.get(serving) ??
    serving.status().then(({ device, tensorflow, build }) => ({
      ...{ device, tensorflow, codeVersion: CODE_VERSION, build },
    }))
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
  const ran = await buildOf(serving)
  const { code, kernels, processor } = ran.build
  const named = [
    ...[version, ran.device, ran.tensorflow, ran.codeVersion],
    ...[code, kernels, processor],
  ]
  const id = createHash('sha256').update(named.join('\n')).digest('hex')
  if ((await store.scorers.get(id)) !== null) return id
  const { files } = await serving.describe(filesOf(model))
  const { base, adapters } = model
  const row = { id, version, files, model: model.id, base, adapters, calibration, ...ran }
  await store.scorers.insert([{ ...row, createdAt: Date.now() }]).catch(async (error: unknown) => {
    if ((await store.scorers.get(id)) === null) throw error // else another request was faster
  })
  return id
}

/** The version of the files that a score's row names. */
export async function versionOf(store: Store, scorer: string): Promise<string> {
  return (await store.scorers.get(scorer))?.version ?? scorer
}

/**
 * What is otherwise now than when a scorer was noted, in words: its files by name, TensorFlow, the
 * device, this program. What was not noted then has not moved.
 */
export async function movedSince(
  serving: Engine,
  scorer: Scorer,
  now: Pick<ModelInfo, 'files'>,
): Promise<string[]> {
  const ran = await buildOf(serving)
  const files = scorer.files ?? {}
  const names = [...new Set([...Object.keys(files), ...Object.keys(now.files)])].sort()
  const changed = (what: string, before: string, after: string): string[] =>
    before === after ? [] : [`${what}: ${before} → ${after}`]
  const { build: then } = scorer
  const hashes = (what: string, of: 'code' | 'kernels'): string[] =>
    then === null ? [] : changed(what, then[of].slice(0, 12), ran.build[of].slice(0, 12))
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
    ...changed('device', scorer.device, ran.device),
    ...changed('TensorFlow', scorer.tensorflow, ran.tensorflow),
    ...changed('Libra', scorer.codeVersion, ran.codeVersion),
    ...hashes('scoring code', 'code'),
    ...hashes('native kernels', 'kernels'),
    ...(then === null ? [] : changed('processor', then.processor, ran.build.processor)),
  ]
}
