import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { LibraError } from '../errors.ts'

export type Dtype = 'F32' | 'F16' | 'BF16'
export type Array32 = { shape: number[]; data: Float32Array }
type Entry = { dtype: string; shape: number[]; data_offsets: [number, number] }

const BYTES: Record<string, number> = { F32: 4, F16: 2, BF16: 2 }
const MAX_HEADER = 100_000_000

const damaged = (path: string, what: string): LibraError =>
  new LibraError('damaged_checkpoint', `${path}: ${what}`, { details: { file: path } })

export type Safetensors = {
  names: string[]
  shape(name: string): number[]
  /** One tensor as float32, whatever it is stored as. */
  read(name: string): Array32
  close(): void
}

/**
 * Opens a .safetensors file and checks its header: sizes, order, no holes, nothing missing at the end.
 * Throws `damaged_checkpoint` naming the file and the tensor.
 */
export function openSafetensors(path: string): Safetensors {
  let fd: number
  try {
    fd = openSync(path, 'r')
  } catch (cause) {
    throw new LibraError('damaged_checkpoint', `${path}: cannot be opened`, { cause })
  }
  try {
    const { entries, base } = readHeader(fd, path)
    const entry = (name: string): Entry => {
      const found = entries.get(name)
      if (found === undefined) throw damaged(path, `tensor ${name} is missing`)
      return found
    }
    return {
      names: [...entries.keys()],
      shape: (name) => entry(name).shape,
      read(name) {
        const { dtype, shape, data_offsets } = entry(name)
        const data = new Float32Array(shape.reduce((a, b) => a * b, 1))
        readFloats(fd, base + data_offsets[0], dtype, data, () =>
          damaged(path, `tensor ${name} is cut off`),
        )
        return { shape, data }
      },
      close: () => closeSync(fd),
    }
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

function readHeader(fd: number, path: string): { entries: Map<string, Entry>; base: number } {
  const { size } = fstatSync(fd)
  const length = Buffer.alloc(8)
  if (size < 8 || readSync(fd, length, 0, 8, 0) !== 8)
    throw damaged(path, 'shorter than its header')
  const n = Number(length.readBigUInt64LE(0))
  if (n > MAX_HEADER || 8 + n > size)
    throw damaged(path, `header of ${n} bytes in a file of ${size}`)
  const text = Buffer.alloc(n)
  readSync(fd, text, 0, n, 8)
  let header: Record<string, Entry>
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(text)) as Record<
      string,
      Entry
    >
  } catch (cause) {
    throw new LibraError('damaged_checkpoint', `${path}: the header is not JSON`, { cause })
  }
  delete header['__metadata__']
  const entries = Object.entries(header).sort((a, b) => a[1].data_offsets[0] - b[1].data_offsets[0])
  let at = 0
  for (const [name, { dtype, shape, data_offsets }] of entries) {
    const width = BYTES[dtype]
    if (width === undefined)
      throw damaged(path, `tensor ${name} has type ${dtype}; F32, F16 and BF16 are read`)
    const [begin, end] = data_offsets
    const expected = shape.reduce((a, b) => a * b, 1) * width
    if (begin !== at || end - begin !== expected)
      throw damaged(path, `tensor ${name} lies at ${begin}–${end}, expected ${at}–${at + expected}`)
    at = end
  }
  if (8 + n + at !== size) throw damaged(path, `${size} bytes, its header says ${8 + n + at}`)
  return { entries: new Map(entries), base: 8 + n }
}

const CHUNK = 2 ** 22

/** Fills `data` from a file, chunk by chunk: halves widen exactly, and nothing but one chunk is held beside it. */
function readFloats(
  fd: number,
  position: number,
  dtype: string,
  data: Float32Array,
  cutOff: () => Error,
): void {
  const width = BYTES[dtype] ?? 4
  for (let at = 0; at < data.length; at += CHUNK) {
    const part = data.subarray(at, at + CHUNK)
    const stored = width === 4 ? part : new Uint16Array(part.length)
    if (readSync(fd, stored, 0, stored.byteLength, position + at * width) !== stored.byteLength)
      throw cutOff()
    if (stored instanceof Uint16Array) widenInto(part, stored, dtype)
  }
}

/** Widens float16 or bfloat16 bit patterns. */
export function widenInto(data: Float32Array, stored: Uint16Array, dtype: string): void {
  const bits = new Uint32Array(data.buffer, data.byteOffset, data.length)
  if (dtype === 'BF16') for (let i = 0; i < bits.length; i++) bits[i] = (stored[i] ?? 0) << 16
  else for (let i = 0; i < bits.length; i++) bits[i] = widenHalf(stored[i] ?? 0)
}

function widenHalf(h: number): number {
  const sign = (h & 0x8000) << 16
  const exponent = (h >> 10) & 31
  const fraction = h & 0x3ff
  if (exponent === 31) return sign | 0x7f800000 | (fraction << 13)
  if (exponent > 0) return sign | ((exponent + 112) << 23) | (fraction << 13)
  if (fraction === 0) return sign
  const shift = Math.clz32(fraction) - 21 // denormal: move its first bit to the implicit place
  return sign | ((113 - shift) << 23) | (((fraction << shift) & 0x3ff) << 13)
}

/** float32 → stored bytes; halves round to nearest even. */
export function fromFloat32(data: Float32Array, dtype: Dtype): Uint8Array {
  if (dtype === 'F32') return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  const bits = new Uint32Array(data.buffer, data.byteOffset, data.length)
  const out = new Uint16Array(data.length)
  if (dtype === 'BF16') for (let i = 0; i < out.length; i++) out[i] = narrowBfloat(bits[i] ?? 0)
  else for (let i = 0; i < out.length; i++) out[i] = narrowHalf(bits[i] ?? 0)
  return new Uint8Array(out.buffer)
}

function narrowBfloat(x: number): number {
  if ((x & 0x7fffffff) > 0x7f800000) return (x >>> 16) | 0x40 // NaN stays NaN
  return ((x + 0x7fff + ((x >>> 16) & 1)) >>> 16) & 0xffff
}

function narrowHalf(x: number): number {
  const sign = (x >>> 16) & 0x8000
  const magnitude = x & 0x7fffffff
  if (magnitude > 0x7f800000) return sign | 0x7e00
  if (magnitude >= 0x477ff000) return sign | 0x7c00 // rounds to infinity
  const exponent = (magnitude >>> 23) - 112
  const fraction = (magnitude & 0x7fffff) | 0x800000
  const shift = exponent > 0 ? 13 : 14 - exponent
  if (shift > 24) return sign
  const base = exponent > 0 ? (exponent - 1) << 10 : 0
  const half = (fraction >>> shift) + base
  const rest = fraction & ((1 << shift) - 1)
  const middle = 1 << (shift - 1)
  return sign | (half + (rest > middle || (rest === middle && (half & 1) === 1) ? 1 : 0))
}

/** A tensor that is made when its turn comes, so that a checkpoint is written without being held. */
export type LazyArray = { shape: number[]; data(): Float32Array }

/** Writes a .safetensors file (names sorted, header padded to eight bytes) and syncs it to disk. */
export async function writeSafetensors(
  path: string,
  tensors: Readonly<Record<string, Array32 | LazyArray>>,
  dtype: Dtype = 'F32',
): Promise<void> {
  const entries = Object.entries(tensors).sort(([a], [b]) => (a < b ? -1 : 1))
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } }
  let at = 0
  for (const [name, { shape }] of entries) {
    const end = at + storedBytes(shape, dtype)
    header[name] = { dtype, shape, data_offsets: [at, end] }
    at = end
  }
  let text = Buffer.from(JSON.stringify(header))
  text = Buffer.concat([text, Buffer.alloc((8 - (text.length % 8)) % 8, 0x20)])
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  const file = await open(path, 'w')
  try {
    await file.writeFile(Buffer.concat([length, text]))
    for (const [, { data }] of entries) {
      const values = typeof data === 'function' ? data() : data
      for (let i = 0; i < values.length; i += CHUNK)
        await file.writeFile(fromFloat32(values.subarray(i, i + CHUNK), dtype))
    }
    await file.sync()
  } finally {
    await file.close()
  }
}

export const storedBytes = (shape: readonly number[], dtype: Dtype): number =>
  shape.reduce((a, b) => a * b, 1) * (BYTES[dtype] ?? 4)
