import { z } from 'zod'

/** The name of a model, or of a role, which stands for the model that plays it when the run is asked for. */
export const ModelRef = z.string().min(1).max(200)
export const file = z.string().min(1).max(200).describe('id of an uploaded file')
