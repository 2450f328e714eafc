import process from 'node:process'
import { BaeError, describe } from './errors.js'
import { type CallOptions, checked, runJob } from './job.js'
import native from './native.js'

/**
 * Where to compute: `auto` takes a GPU if there is a real one, else the CPU; `cpu`; `gpu` takes the best device, be it
 * software; an index as {@link devices} lists it; or a part of a device's name.
 */
export type DeviceChoice = 'auto' | 'cpu' | 'gpu' | number | (string & {})

/** A device that a GPU driver offers. */
export interface DeviceInfo {
  /** Position in the list, the best first. */
  index: number
  /** As the driver says. */
  name: string
  /** `software` is a program that stands for a GPU: right, and slow. */
  kind: 'discrete' | 'integrated' | 'virtual' | 'other' | 'software'
  /** What it is reached through. */
  backend: 'vulkan' | 'metal' | 'dx12' | 'other'
  /** Name and version of the driver. */
  driver: string
  /** Bytes that one buffer may have. */
  maxBufferBytes: number
  /** Bytes that a shader may see of one buffer: larger parameters are split. */
  maxBindingBytes: number
  /** Bytes of memory that the invocations of a workgroup share. */
  workgroupBytes: number
  /** Whether it computes with half floats: `precision` `f16`. */
  halfFloats: boolean
  /** Whether the time of a step can be taken by stages. */
  timestamps: boolean
}

/** The devices there are. */
export interface DevicesReport {
  devices: DeviceInfo[]
  /** Index of the device that `auto` takes; null for the CPU. */
  automatic: number | null
  /** Why `auto` takes the CPU. */
  reason: string | null
}

/** Finds the devices that models can be trained on beside the CPU. Without a driver there are none. */
export async function devices(options: CallOptions = {}): Promise<DevicesReport> {
  const { signal } = checked(options)
  quietDrivers()
  const { json } = await runJob(on => native.startDevices(on), { signal })
  return JSON.parse(json) as DevicesReport
}

/** @internal The device as the addon takes it. */
export function deviceOf(device: DeviceChoice = 'cpu'): string {
  const valid =
    typeof device === 'string' ? device.trim() !== '' : Number.isSafeInteger(device) && device >= 0
  if (!valid) {
    const what = 'auto, cpu, gpu, or a device by its index or name'
    throw new BaeError('INVALID_ARGUMENT', `device must be ${what}, not ${describe(device)}`)
  }
  if (device !== 'cpu') quietDrivers()
  return String(device)
}

/** Mesa's layer that chooses a default device complains on stderr where there is no desktop; the default is not used here. */
function quietDrivers(): void {
  process.env.NODEVICE_SELECT ??= '1'
}
