import type { Config, JudgeKeys } from '../config.ts'
import type { Engine } from '../engine/engine.ts'
import type { Line } from '../judging/openai-judge.ts'
import type { Store } from '../store/store.ts'
import { createAdmission } from './admission.ts'
import type { Admission } from './admission.ts'
import { registerStarter } from './catalog.ts'
import { withEventFiles } from './event-file.ts'
import { createFiles } from './files.ts'
import type { Files } from './files.ts'
import { createRunner } from './runs.ts'
import type { Runner } from './runs.ts'

/** Everything a use case may need. */
export type Services = {
  store: Store
  /** scores, samples and judges; always there */
  serving: Engine
  /** an engine that exists while a run needs it */
  startTraining(): Promise<Engine>
  files: Files
  runner: Runner
  dataDir: string
  judges: Judges
  /** for what HTTP clients ask of the serving engine */
  admission: Admission
  lines: Lines
}
/** Conversations and answers in work or waiting, over all clients. */
const MOST_WAITING = 1024

/** What the environment says of judges on servers. */
export type Judges = { default: Config['judge']; keyOf: JudgeKeys }
/** What all who use a judge's profile share: its server is never asked faster than the profile says. */
export type Lines = Map<string, Line>

export async function createServices(parts: {
  store: Store
  serving: Engine
  startTraining(): Promise<Engine>
  dataDir: string
  judges?: Judges
}): Promise<Services> {
  const store = withEventFiles(parts.store, parts.dataDir)
  await registerStarter(store)
  const files = createFiles(store, parts.dataDir)
  const judges = parts.judges ?? { default: null, keyOf: () => null }
  const admission = createAdmission(MOST_WAITING)
  const lines: Lines = new Map()
  return { ...parts, store, judges, lines, admission, files, runner: await createRunner(store) }
}

/** Lends a training engine to some work and ends it afterwards, whatever happened. */
export async function withTraining<T>(
  services: Services,
  work: (engine: Engine) => Promise<T>,
): Promise<T> {
  const engine = await services.startTraining()
  try {
    return await work(engine)
  } finally {
    await engine.close().catch(() => {}) // it may be gone already: the work's error says so
  }
}
