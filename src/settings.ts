import { type DeviceChoice, deviceOf } from './devices.js'
import { BaeError, describe } from './errors.js'
import { threadsOf } from './job.js'

/** @internal What a setting is: a type, or the words to choose from. */
export type Kind = 'finite number' | 'whole number' | 'string' | 'boolean' | 'device' | 'strings' | string[]

/** @internal What each setting of a call is. */
export type Kinds<T> = Record<keyof T, Kind>

/** @internal Settings as the addon takes them, once each is what it must be. */
export function settingsJson<T extends { threads?: number | undefined; device?: DeviceChoice | undefined }>(
  settings: T,
  kinds: Kinds<T>,
  usualDevice: 'auto' | 'cpu',
): string {
  for (const [name, value] of Object.entries(settings)) {
    if (value === undefined) continue
    if (!Object.hasOwn(kinds, name)) {
      const known = Object.keys(kinds).join(', ')
      throw new BaeError('INVALID_ARGUMENT', `there is no setting ${name}; there are ${known}`)
    }
    const expected: Kind = kinds[name as keyof T]
    if (fits(value, expected)) continue
    const what = Array.isArray(expected) ? `one of ${expected.join(', ')}` : NAMED[expected]
    const shown =
      typeof value === 'number' ? value : typeof value === 'string' ? JSON.stringify(value) : describe(value)
    throw new BaeError('INVALID_ARGUMENT', `${name} must be ${what}, not ${shown}`)
  }
  threadsOf(settings.threads)
  const { device = usualDevice } = settings
  return JSON.stringify({ ...settings, device: deviceOf(device) })
}

const NAMED = {
  'finite number': 'a finite number',
  'whole number': 'a whole number',
  string: 'a string',
  boolean: 'a boolean',
  device: 'a device',
  strings: 'an array of strings',
}

function fits(value: unknown, expected: Kind): boolean {
  if (Array.isArray(expected)) return expected.some(each => each === value)
  // deviceOf judges it
  if (expected === 'device') return true
  if (expected === 'strings') return Array.isArray(value) && value.every(each => typeof each === 'string')
  if (expected === 'finite number') return Number.isFinite(value)
  if (expected === 'whole number') return Number.isSafeInteger(value) && (value as number) >= 0
  return typeof value === expected
}
