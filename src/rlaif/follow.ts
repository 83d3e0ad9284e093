import type { RolloutRow, TrainEvent } from '../schemas/training.ts'

export type Emit = (event: { type: string } & Record<string, unknown>) => Promise<void>
/** Figures of a round's rollouts that only the caller can know, such as the truth of a made world. */
export type Grade = (rows: readonly RolloutRow[]) => Record<string, number>
type Follow = {
  onStep?(done: number, steps: number, metrics: Record<string, number>): void
  grade?: Grade | undefined
}

/** Rollouts of a round that stay in its run's log; all of them would outgrow everything else there. */
const KEPT_ROLLOUTS = 8

/** Follows one training run to its end, every event recorded; returns the metrics of every step. */
export async function follow(
  events: AsyncIterable<TrainEvent>,
  emit: Emit,
  { onStep, grade }: Follow = {},
): Promise<Record<string, number>[]> {
  const all: Record<string, number>[] = []
  let [steps, before, graded]: [number, number, Record<string, number>] = [1, 0, {}]
  for await (const event of events) {
    if (event.type === 'metrics') {
      const metrics = { ...event.metrics, ...graded }
      all.push(metrics)
      await emit({ ...event, metrics })
      onStep?.(before + all.length, steps, metrics)
      continue
    }
    if (event.type === 'started' || event.type === 'resumed') steps = event.steps
    if (event.type === 'resumed') before = event.done
    if (event.type === 'rollouts') graded = grade?.(event.rows) ?? {}
    await emit(
      event.type === 'rollouts' ? { ...event, rows: event.rows.slice(0, KEPT_ROLLOUTS) } : event,
    )
  }
  return all
}
