import { fromNative } from './errors.js'
import { type CallOptions, checked, pathOf, runJob } from './job.js'
import native from './native.js'

/** What a path holds; the fields depend on `kind`. */
export interface Description {
  kind: string
  [field: string]: unknown
}

/**
 * Says what a file or folder is (a model, codes, hidden states) and what is in it, from its headers alone.
 *
 * @throws BaeError `INVALID_ARGUMENT` (no path), `IO`, `CORRUPT_FILE`, `UNSUPPORTED_FORMAT`.
 */
export async function inspect(path: string, options: CallOptions = {}): Promise<Description> {
  const { signal } = checked(options)
  pathOf('path', path)
  const { json } = await runJob(on => native.startInspect(path, on), { signal })
  return JSON.parse(json) as Description
}

/** What the CPU can do, and what is used of it. */
export interface CpuInfo {
  /** Architecture that the addon is built for, as `x86_64` or `aarch64`. */
  arch: string
  /** The instruction set in use: the last of `available`, or the one that the environment variable `BAE_SIMD` names. */
  simd: string
  /** Instruction sets that this CPU has and the kernels know, slowest first. Results do not depend on which is used. */
  available: string[]
  cores: {
    /** Hardware threads that this process may use. */
    logical: number
    /** Cores of the machine. */
    physical: number
  }
  /** Threads used where an option does not say. */
  threads: number
}

/**
 * Says which instruction set and how many threads training, encoding and so on use on this machine.
 *
 * @throws BaeError `INVALID_ARGUMENT` (`BAE_SIMD` names an instruction set that this CPU does not have).
 */
export function cpu(): CpuInfo {
  try {
    return native.cpu()
  } catch (error) {
    throw fromNative(error)
  }
}
