type Json = Record<string, unknown>
const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** `over` on top of `under`, objects inside them likewise: what is not named stays. */
export const merge = (under: Json, over: Json): Json => ({
  ...under,
  ...Object.fromEntries(
    Object.entries(over).map(([key, value]) => {
      const before = under[key]
      return [key, isObject(before) && isObject(value) ? merge(before, value) : value]
    }),
  ),
})
