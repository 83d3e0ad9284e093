import type { ReportFigure } from '../evaluation/report.ts'
import type { Calibrated } from '../rlaif/reward.ts'
import type { CalibrationQuality } from '../schemas/model.ts'
import { plotsOf } from './report.ts'
import type { ReportParts } from './report.ts'
import { metricsOf } from './run-records.ts'
import type { Services } from './services.ts'

/** What a reward model's training leaves: its metrics, and how far its probabilities can be believed. */
export async function calibrationReport(
  { store }: Pick<Services, 'store'>,
  run: string,
  { calibration }: Pick<Calibrated, 'calibration'>,
): Promise<ReportParts> {
  const curves = plotsOf(await metricsOf(store, run))
  const { quality } = calibration
  if (quality === undefined)
    return {
      curves,
      warnings: ['too few labels to say how far the probabilities can be believed'],
    }
  return { figures: figuresOf(quality), curves: [reliabilityPlot(quality), ...curves] }
}

const NAMES = {
  calibration_error: 'calibration error',
  slope: 'calibration slope',
  intercept: 'calibration intercept',
  skill: 'skill over a constant',
} as const

function figuresOf({ gate, ...quality }: CalibrationQuality): ReportFigure[] {
  const whole = Object.entries(NAMES).map(([key, figure]) => ({
    figure,
    ...quality[key as keyof typeof NAMES],
  }))
  if (gate === undefined) return whole
  const point = ({ precision, recall }: typeof gate.default, what: string) => [
    ...(precision === null ? [] : [{ figure: `gate ${what}: precision`, ...precision }]),
    { figure: `gate ${what}: recall of unsafe answers`, ...recall },
  ]
  return [
    ...whole,
    { figure: 'unsafe answers among the labelled', ...gate.prevalence },
    ...point(gate.default, `at ${gate.default.threshold}`),
    ...(gate.chosen === null
      ? []
      : point(
          gate.chosen,
          `at ${gate.chosen.threshold.toFixed(3)}, for precision ${gate.wanted_precision}`,
        )),
  ]
}

const reliabilityPlot = ({ curve }: CalibrationQuality) => ({
  title: 'Reliability: how often it comes true against what is said 可靠性',
  curves: [
    {
      name: 'observed',
      steps: curve.map(({ predicted }) => predicted),
      values: curve.map(({ observed }) => observed),
    },
    { name: 'calibrated', steps: [0, 1], values: [0, 1] },
  ],
})
