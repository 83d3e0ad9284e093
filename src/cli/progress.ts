import { SingleBar } from 'cli-progress'

/** One progress line per stage on stderr, with rate and time left; plain lines where stderr is no terminal. */
export function createProgress(): {
  update(stage: string, done: number, total: number, note?: string): void
  stop(): void
} {
  let stage = ''
  let bar: SingleBar | null = null
  let started = 0
  let before = 0
  let said = 0
  const stop = (): void => {
    bar?.stop()
    bar = null
  }
  return {
    stop,
    update(name, done, total, note = '') {
      if (name !== stage) {
        stop()
        stage = name
        started = Date.now()
        before = done
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
      const speed = (done - before) / ((Date.now() - started) / 1000)
      const known = done > before && Number.isFinite(speed)
      const rate = known ? speed.toFixed(1) : '?'
      const left = known ? `${Math.round((total - done) / speed)} s` : '?'
      bar?.update(done, { stage: name, rate, left, note })
      if (bar === null && (done === total || Date.now() - said > 2000)) {
        said = Date.now()
        console.error(
          `${name} ${done}/${total} · ${rate}/s · ${left} left${note === '' ? '' : ` · ${note}`}`,
        )
      }
      if (done === total) stop()
    },
  }
}
