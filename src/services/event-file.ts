import { mkdir, open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { RunEvent, Store } from '../store/store.ts'

/**
 * TensorBoard event files, written without TensorFlow: TFRecord framing (length, masked CRC-32C of the length, data,
 * masked CRC-32C of the data; little-endian) around `Event` messages of tensorflow/core/util/event.proto.
 */

const POLYNOMIAL = 0x82f63b78
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1
  return crc
})
function maskedCrc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff
  for (const byte of bytes) crc = (TABLE[(crc ^ byte) & 0xff] ?? 0) ^ (crc >>> 8)
  crc = ~crc >>> 0
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0
}

function record(data: Uint8Array): Buffer {
  const framed = Buffer.alloc(data.length + 16)
  framed.writeBigUInt64LE(BigInt(data.length), 0)
  framed.writeUInt32LE(maskedCrc32c(framed.subarray(0, 8)), 8)
  framed.set(data, 12)
  framed.writeUInt32LE(maskedCrc32c(data), data.length + 12)
  return framed
}

// protocol buffers: a field is its key (number << 3 | wire type) and its value
const varint = (value: number): number[] => {
  const bytes: number[] = []
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return [...bytes, rest]
    bytes.push((rest % 128) | 128)
  }
}
const bytesField = (field: number, bytes: Uint8Array): Buffer =>
  Buffer.concat([Buffer.from([(field << 3) | 2, ...varint(bytes.length)]), bytes])
const doubleField = (field: number, value: number): Buffer => {
  const bytes = Buffer.alloc(9)
  bytes.writeUInt8((field << 3) | 1)
  bytes.writeDoubleLE(value, 1)
  return bytes
}
const floatField = (field: number, value: number): Buffer => {
  const bytes = Buffer.alloc(5)
  bytes.writeUInt8((field << 3) | 5)
  bytes.writeFloatLE(value, 1)
  return bytes
}

/** The first record of a file. Event: 1 wall_time (seconds), 3 file_version. */
export const eventFileHeader = (at: number): Buffer =>
  record(Buffer.concat([doubleField(1, at / 1000), bytesField(3, Buffer.from('brain.Event:2'))]))

/** One record with every metric of one event. Event: 2 step, 5 summary; Summary: 1 value; Value: 1 tag, 2 simple_value. */
export function eventRecord({ at, data }: Pick<RunEvent, 'at' | 'data'>): Buffer {
  const { step, metrics } = data as { step?: number; metrics?: Record<string, number> }
  const values = Object.entries(metrics ?? {}).map(([tag, value]) =>
    bytesField(1, Buffer.concat([bytesField(1, Buffer.from(tag)), floatField(2, value)])),
  )
  return record(
    Buffer.concat([
      doubleField(1, at / 1000),
      Buffer.from([2 << 3, ...varint(step ?? 0)]),
      bytesField(5, Buffer.concat(values)),
    ]),
  )
}

const FILE = 'events.out.tfevents.0.libra'

/** A store whose runs also leave a TensorBoard event file each, as they go: `tensorboard --logdir <data>/runs`. */
export const withEventFiles = (store: Store, dataDir: string): Store => ({
  ...store,
  async appendEvents(events) {
    await store.appendEvents(events)
    const run = events[0]?.run
    const metrics = events.filter(({ type }) => type === 'metrics')
    if (run === undefined || metrics.length === 0) return
    try {
      await append(join(dataDir, 'runs', run), metrics)
    } catch (error) {
      console.error(`run ${run}: its TensorBoard file could not be written`, error) // the log is in the database
    }
  },
  async rewindEvents(after, event) {
    await store.rewindEvents(after, event)
    const { run } = event
    try {
      await rm(join(dataDir, 'runs', run, FILE), { force: true })
      const left = await store.metricEvents(run)
      if (left.length > 0) await append(join(dataDir, 'runs', run), left)
    } catch (error) {
      console.error(`run ${run}: its TensorBoard file could not be written`, error)
    }
  },
})

async function append(folder: string, events: readonly RunEvent[]): Promise<void> {
  await mkdir(folder, { recursive: true })
  const file = await open(join(folder, FILE), 'a')
  try {
    const { size } = await file.stat()
    const header = size === 0 ? [eventFileHeader(events[0]?.at ?? 0)] : []
    await file.appendFile(Buffer.concat([...header, ...events.map(eventRecord)]))
  } finally {
    await file.close()
  }
}
