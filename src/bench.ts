import process from 'node:process'
import type { DeviceChoice } from './devices.js'
import { type CallOptions, checked, runJob } from './job.js'
import native from './native.js'
import { type Kinds, settingsJson } from './settings.js'

/** What a training step is timed on: random hidden states, and a random model whose codes have a given density. */
export interface BenchSettings {
  /** What is trained: `bae`, which is the default, or one of {@link architectures} that is trained by steps. */
  architecture?: string | undefined
  /** Features that are on in a row: `topk` and its kin. Default 32. */
  k?: number | undefined
  /** Weight of the sparsity penalty: `relu`, `jumprelu`, `gated`. Default the architecture's. */
  sparsityWeight?: number | undefined
  /** Width of a hidden state. Default 576. */
  dIn?: number | undefined
  /** Features. Default 2304. */
  dSae?: number | undefined
  /** Rows a step. Default 512. */
  batchSize?: number | undefined
  /** Share of bits that are on, above 0 and below 1; of pre-activations above 0 where codes are no bits. Default 0.1. */
  density?: number | undefined
  /** Share of features that are ever on, or above 0. Default 1. */
  live?: number | undefined
  /** Steps to time. Default 10. */
  steps?: number | undefined
  /** Steps before those. Default 2. */
  warmUp?: number | undefined
  /** Where to compute. Default `cpu`. */
  device?: DeviceChoice | undefined
  /** CPU threads, at most 1024; by default one for each physical core. */
  threads?: number | undefined
  /** Whole number that decides hidden states and model. */
  seed?: number | undefined
  /** The gradient estimator. Default `reference-sigmoid`. */
  estimator?: 'identity' | 'sigmoid' | 'rectangle' | 'reference-sigmoid' | 'squarewave' | undefined
  /** Width of the `sigmoid` and `rectangle` estimators; pre-activations have variance 1. */
  gradientWidth?: number | undefined
  /** Precision of the products. Default `f32`. */
  precision?: 'f32' | 'bf16' | 'f16' | undefined
  /** Weight of the marginal entropy. */
  entropyWeight?: number | undefined
  /** Weight of the absolute covariance. */
  covarianceWeight?: number | undefined
  /** Adam's step size. */
  learningRate?: number | undefined
  /** Largest 2-norm of a step's gradient. Default none. */
  clipNorm?: number | undefined
  /** Rows to encode after the steps, also timed. Default 0. */
  encodeRows?: number | undefined
  /** File (safetensors) for hidden states `x`, the model, and `grad.*`, our gradients of the first step. */
  fixture?: string | undefined
}

/** How far a benchmark has come. */
export interface StepsProgress {
  type: 'steps'
  /** Steps done. */
  steps: number
  /** Steps there are. */
  total: number
}

/** Options of {@link bench}. */
export interface BenchOptions extends BenchSettings, CallOptions {
  /** Called after every step, warm-up included. What it throws is ignored. */
  onProgress?: ((progress: StepsProgress) => void) | undefined
}

/**
 * Seconds of the mean step by stages; together they are the step. On a GPU, Adam is part of the gradients' stages and the
 * estimator of `gradH`, and `adam` is what biases take; all are 0 where it has no time stamps.
 */
export interface StepStages {
  /** Hidden states packed for the products. */
  pack: number
  /** Encoder product, step function, packing of bits. */
  encode: number
  /** Bits turned to feature rows and counted. */
  turn: number
  /** Decoder rows added up. */
  decode: number
  /** Errors and their squared sum. */
  errors: number
  /** Covariance: its loss and signs. */
  covariance: number
  /** Gradient by the codes. */
  gradH: number
  /** Gradients of entropy and covariance. */
  penalties: number
  /** Gradient estimator. */
  estimator: number
  /** Encoder's gradient. */
  gradEncoder: number
  /** Decoder's gradient. */
  gradDecoder: number
  /** Adam. */
  adam: number
}

/** What a GPU's arithmetic allows. */
export interface PeakReport {
  /** Multiply-adds of f32 a second. */
  multiplyAdds: number
  /** Ands of 32 bits whose ones are counted and added, a second. */
  popcounts: number
  /** Seconds of a step that did nothing but its five dense products and its counts, at these rates. */
  floorSeconds: number
}

/** How long steps took. */
export interface BenchReport {
  /** `cpu` or `gpu`. */
  device: string
  /** Name of the GPU; null on the CPU. */
  adapter: string | null
  /** Why `auto` took the CPU; null otherwise. */
  reason: string | null
  /** Instruction set of the CPU's kernels. */
  simd: string
  threads: number
  dIn: number
  dSae: number
  batchSize: number
  /** Share of codes that are on (not 0) before the first step. */
  density: number
  /** Share of features that are on in some rows but not in all. */
  live: number
  /** Share of entries through which the estimator lets gradients; null where codes are no bits. */
  open: number | null
  /** Each timed step; a GPU, which runs a step or two ahead, is timed over all of them. */
  seconds: number[]
  stages: StepStages
  /** What the GPU's arithmetic allows, measured in the same run; null on the CPU. */
  peak: PeakReport | null
  /** Encoding, if asked for: `seconds` for all `rows`. */
  encode: { rows: number; seconds: number } | null
  /** Most memory that the process has had resident so far. */
  peakBytes: number
}

/**
 * Times training steps on this machine.
 *
 * @throws BaeError `INVALID_ARGUMENT`; `OUT_OF_MEMORY` before anything starts; `IO` if the fixture cannot be written.
 */
export async function bench(options: BenchOptions = {}): Promise<BenchReport> {
  const { signal, onProgress, ...settings } = checked(options)
  const given = settingsJson<BenchSettings>(settings, SETTINGS, 'cpu')
  const { json } = await runJob(on => native.startBench(given, on), { signal, progress: onProgress })
  return {
    ...(JSON.parse(json) as Omit<BenchReport, 'peakBytes'>),
    peakBytes: process.resourceUsage().maxRSS * 1024,
  }
}

/** What each setting is; ranges are the addon's to judge. */
const SETTINGS: Kinds<BenchSettings> = {
  architecture: 'string',
  k: 'whole number',
  sparsityWeight: 'finite number',
  dIn: 'whole number',
  dSae: 'whole number',
  batchSize: 'whole number',
  density: 'finite number',
  live: 'finite number',
  steps: 'whole number',
  warmUp: 'whole number',
  device: 'device',
  threads: 'whole number',
  seed: 'whole number',
  estimator: ['identity', 'sigmoid', 'rectangle', 'reference-sigmoid', 'squarewave'],
  gradientWidth: 'finite number',
  precision: ['f32', 'bf16', 'f16'],
  entropyWeight: 'finite number',
  covarianceWeight: 'finite number',
  learningRate: 'finite number',
  clipNorm: 'finite number',
  encodeRows: 'whole number',
  fixture: 'string',
}
