import { SingleBar } from 'cli-progress'

/** One progress line per stage on stderr, with rate and time left; plain lines where stderr is no terminal. */
export function createProgress(): {
  update(stage: string, done: number, total: number, note?: string): void
  stop(): void
} {
  let stage = ''
  let bar: SingleBar | null = null
  let [last, lastDone, said] = [0, 0, 0]
  // what each stage has done and how long it took, for one that is left for another and comes again
  const paces = new Map<string, { items: number; ms: number }>()
  const stop = (): void => {
    bar?.stop()
    bar = null
  }
  return {
    stop,
    update(name, done, total, note = '') {
      const now = Date.now()
      const pace = paces.get(name) ?? { items: 0, ms: 0 }
      paces.set(name, pace)
      if (name === stage && done > lastDone) {
        pace.items += done - lastDone
        pace.ms += now - last
      }
      const isNew = name !== stage
      ;[last, lastDone] = [now, done]
      if (isNew) {
        stop()
        stage = name
        said = 0
        if (process.stderr.isTTY) {
          bar = new SingleBar({
            format: '{stage} [{bar}] {value}/{total} · {rate}/s · {left} left · {note}',
            stream: process.stderr,
            hideCursor: true,
            etaBuffer: 20,
          })
          bar.start(total, 0, { stage: name, rate: '0', left: '?', note })
        }
      }
      // what was done before the first word of a stage took a time that nobody knows
      const speed = pace.items / (pace.ms / 1000)
      const known = pace.items > 0 && Number.isFinite(speed)
      const rate = known ? speed.toFixed(1) : '?'
      const left = known ? `${Math.round((total - done) / speed)} s` : '?'
      bar?.setTotal(total) // another part of the stage may have begun
      bar?.update(done, { stage: name, rate, left, note })
      if (bar === null && (done === total || now - said > 2000)) {
        said = now
        console.error(
          `${name} ${done}/${total} · ${rate}/s · ${left} left${note === '' ? '' : ` · ${note}`}`,
        )
      }
      if (done === total) stop()
    },
  }
}
