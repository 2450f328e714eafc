import type { DeviceChoice } from './devices.js'
import { abortError } from './errors.js'
import {
  type CancelledEvent,
  defined,
  type EpochEvent,
  EventLog,
  type TrainEvent,
  type ValidationEvent,
  type ValidationFigures,
} from './events.js'
import { type CallOptions, checked, onAbort, runJob, taken, tell } from './job.js'
import { type BinaryAutoencoder, wrapModel } from './model.js'
import native, { type KeptFiles } from './native.js'
import { type Kinds, settingsJson } from './settings.js'
import { conditionsOf, type StatesInput, type StatesOptions, withTarget } from './states.js'

/** How a model is trained. Names not listed here are refused. What is left out is decided by the preset. */
export interface TrainSettings {
  /**
   * `default`: the recipe that docs/training.md justifies; `minimal`: the same at an entropy weight of 5e-3, for few bits and none for
   * noise; `reference`: the published one on raw input.
   */
  preset?: 'default' | 'minimal' | 'reference' | undefined
  /**
   * What is trained: `bae`, the Binary Autoencoder, by default; or one of its peers and relatives, which
   * {@link architectures} lists and docs/architectures.md explains. Its name is in the model's `config.training.architecture`.
   */
  architecture?: string | undefined
  /** Features that are on in a row, of architectures that fix it: `topk` and its kin. Default 32. */
  k?: number | undefined
  /** Bits of a feature's code, of `kbit`. Default 2. */
  bits?: number | undefined
  /** Weight of the sparsity penalty, in units of normalised squared error, of `relu`, `jumprelu` and `gated`. */
  sparsityWeight?: number | undefined
  /** Features as a multiple of the values a row. Default 4. Not together with `dSae`. */
  expansion?: number | undefined
  /** Features. Not together with `expansion`. */
  dSae?: number | undefined
  /** What stands for the derivative of the step function. */
  estimator?: 'identity' | 'sigmoid' | 'rectangle' | 'reference-sigmoid' | 'squarewave' | undefined
  /** Width of the estimator: `sigmoid` and `rectangle`, or that of an architecture; in units of the pre-activation. */
  gradientWidth?: number | undefined
  /** Passes over the training rows. Not together with `steps`. */
  epochs?: number | undefined
  /** Batches to train on. Not together with `epochs`. */
  steps?: number | undefined
  /** Rows a step. Default 512. */
  batchSize?: number | undefined
  /** Peak step size of Adam. */
  learningRate?: number | undefined
  /** Weight of the marginal entropy: what a bit costs, in units of the (normalised) squared error. */
  entropyWeight?: number | undefined
  /** Weight of the absolute covariance between features. */
  covarianceWeight?: number | undefined
  /** Epoch from which the entropy weight counts. */
  entropyStartEpoch?: number | undefined
  /** Share of the rows that is held out to be validated on, in [0, 1). Default 0.2. */
  validationFraction?: number | undefined
  /** Whether rows are shuffled, by `seed`. Default true. */
  shuffle?: boolean | undefined
  /**
   * What is done to the input. Folded into the weights, so that the saved model takes raw hidden states: `default` centres and
   * scales by the ordinary ones among (a sample of) the training rows; `mean-norm` divides by one number, so that the mean norm is √dIn, and
   * `standardize` brings each dimension to mean 0 and variance 1, both measured over all training rows; `none`. `layer-norm` brings each
   * row to mean 0 and variance 1, which no weights can do: the model says so and `encode` does it, but `decode` then gives normalised rows.
   */
  normalize?: 'default' | 'none' | 'mean-norm' | 'layer-norm' | 'standardize' | undefined
  /** How the learning rate goes down after the warm-up. Default `cosine`; `constant` with the preset `reference`. */
  lrSchedule?: 'constant' | 'linear' | 'cosine' | undefined
  /** Steps over which the learning rate goes up. Default a tenth of all; 0 with the preset `reference`. */
  warmUpSteps?: number | undefined
  /** Steps over which the weights of entropy and covariance go up. Default 0. */
  penaltyWarmUpSteps?: number | undefined
  /** Largest norm of a step's gradient, all parameters together; longer ones are scaled down to it. Default none. */
  clipNorm?: number | undefined
  /** Steps after which features that were on in none of them are drawn anew, from rows that are badly reconstructed. Default never. */
  resampleEvery?: number | undefined
  /** Steps between two measurements of the held-out rows. Default an epoch. */
  validateEvery?: number | undefined
  /** Measurements without a better model after which training ends. Default never. */
  patience?: number | undefined
  /** Whole number that decides initialisation, split and shuffling: same seed, same bits. */
  seed?: number | undefined
  /** Where to train. Default `auto`. */
  device?: DeviceChoice | undefined
  /** CPU threads, at most 1024; by default one for each physical core. The result does not depend on it. */
  threads?: number | undefined
  /** Precision of the products in a step. `bf16` (on the CPU) rounds their factors to bfloat16, `f16` (on
   * a GPU) to half floats; everything else stays f32. Default `f32`. */
  precision?: 'f32' | 'bf16' | 'f16' | undefined
  /**
   * Bytes for hidden states that wait for their turn and all that reading takes. Default 2 ** 30. What is larger is shuffled in two
   * levels, in an order that depends on it.
   */
  memory?: number | undefined
  /** Folder to save the model to, with `metrics.jsonl` and checkpoints; a cancelled run leaves its best model so far there. */
  out?: string | undefined
  /** Replace a model or a training that `out` already holds. Default false. */
  overwrite?: boolean | undefined
  /**
   * Go on from the last checkpoint in `out`, to the same bits as if the training had never stopped; from the start where there is none.
   * Settings and data must be those of then. Default false.
   */
  resume?: boolean | undefined
  /** Steps between two checkpoints. Default none; see `checkpointMinutes`. */
  checkpointEvery?: number | undefined
  /** Minutes between two checkpoints. Default 30, or none where `checkpointEvery` is given. A run that is cancelled or fails writes one too. */
  checkpointMinutes?: number | undefined
  /** Checkpoints that are kept, beside the best model of each. Default 3. */
  keepCheckpoints?: number | undefined
  /** Write TensorBoard event files to `out`/tensorboard. Default false. */
  tensorboard?: boolean | undefined
}

/** Options of {@link train}. */
export interface TrainOptions extends TrainSettings, StatesOptions, CallOptions {
  /**
   * Trains a transcoder: what is to be made of the data, a row for each of its rows, in the same order. Accepted as the data is; arrays bring
   * their shape. Where both say of which tokens their rows are (`sequence`, `position`, `token`), they must agree. Conditions are on the data; with
   * `skipInvalid` a row is left out if it or its target is not finite.
   */
  target?: StatesInput | undefined
  /** Called with every event. What it throws is ignored. */
  onEvent?: ((event: TrainEvent) => void) | undefined
}

/** The figures of a finished training. */
export interface TrainResult {
  /** The folder the model was saved to, where `out` was given. */
  model: string | null
  /** `cpu` or `gpu`. */
  device: string
  /** Name of the GPU; null on the CPU. */
  adapter: string | null
  /** Why `auto` took the CPU; null otherwise. */
  reason: string | null
  threads: number
  steps: number
  epochs: number
  seconds: number
  /** Over all training rows; `loss` is the objective at its final weights; `explainedVariance` NaN where they are all alike. */
  train: { loss: number; mse: number; explainedVariance: number; entropyBits: number; covariance: number }
  /** Over all held-out rows; null where none were held out. */
  validation: ValidationFigures | null
  /** The same before the first step. */
  before: ValidationFigures | null
  /** Steps after which the model that is kept was measured: the best on the held-out rows. */
  bestStep: number
  /** Whether the training ended because nothing got better any more (`patience`). */
  endedEarly: boolean
}

/** What a {@link TrainRun} resolves to. */
export interface TrainOutcome {
  model: BinaryAutoencoder
  /** The epoch and validation events, in order. */
  history: (EpochEvent | ValidationEvent)[]
  result: TrainResult
}

/**
 * Trains a Binary Autoencoder on hidden states. Starts at once, on threads of its own; never throws synchronously.
 *
 * ```ts
 * const run = train('states/*.safetensors', { epochs: 20, signal })
 * for await (const event of run) if (event.type === 'validation') console.log(event.explainedVariance)
 * const { model, result } = await run
 * ```
 *
 * @param data see {@link StatesInput} for what is accepted and what is copied.
 * @returns a run that can be awaited, iterated, or both. It rejects with a {@link BaeError}
 *   (`INVALID_ARGUMENT`, `SHAPE_MISMATCH`, `NOT_FINITE`, `UNSUPPORTED_FORMAT`, `CORRUPT_FILE`, `IO`, `OUT_OF_MEMORY`,
 *   `DEVICE_UNAVAILABLE`, `DEVICE_LOST`), or with the signal's reason where it was aborted.
 */
export function train(data: StatesInput, options: TrainOptions = {}): TrainRun {
  return new TrainRun(data, options)
}

/**
 * A training under way: await it for its outcome, iterate it for its events.
 *
 * Every iterator sees the events from the first on, however late it starts; of the step events only the last few
 * thousand are kept. Leaving an iteration early cancels the run, and so does the end of an `await using` block.
 * A failure that nobody awaits does not end the process.
 */
export class TrainRun implements PromiseLike<TrainOutcome>, AsyncIterable<TrainEvent>, AsyncDisposable {
  readonly #log = new EventLog()
  readonly #cancel = new AbortController()
  readonly #kept: KeptFiles | undefined
  readonly #outcome: Promise<TrainOutcome>

  /** @internal `kept` holds bytes of files for the next run. */
  constructor(data: StatesInput, options: TrainOptions, kept?: KeptFiles) {
    this.#kept = kept
    this.#outcome = this.#follow(data, options).finally(() => this.#log.end())
    this.#outcome.catch(() => {})
  }

  /** Ends the run early; it then rejects with an `AbortError`. Does nothing when it has ended. */
  cancel(): void {
    this.#cancel.abort(abortError('the training was cancelled'))
  }

  // biome-ignore lint/suspicious/noThenProperty: it is there to be awaited
  then<A = TrainOutcome, B = never>(
    fulfilled?: ((outcome: TrainOutcome) => A | PromiseLike<A>) | null,
    rejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#outcome.then(fulfilled, rejected)
  }

  catch<B = never>(rejected?: ((reason: unknown) => B | PromiseLike<B>) | null): Promise<TrainOutcome | B> {
    return this.#outcome.catch(rejected)
  }

  finally(settled?: (() => void) | null): Promise<TrainOutcome> {
    return this.#outcome.finally(settled)
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<TrainEvent, void, void> {
    try {
      for (let number = 0; ; ) {
        const entry = await this.#log.next(number)
        if (!entry) break
        number = entry.number
        yield entry.event
      }
      await this.#outcome
    } finally {
      if (!this.#log.ended) this.cancel()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cancel()
    await this.#outcome.catch(() => {})
  }

  /** Runs, and ends when the caller's signal says so. */
  async #follow(data: StatesInput, given: TrainOptions): Promise<TrainOutcome> {
    const { signal, ...options } = checked(given)
    signal?.throwIfAborted()
    const unwatch = onAbort(signal, () => this.#cancel.abort(signal?.reason))
    try {
      return await this.#run(data, options)
    } finally {
      unwatch()
    }
  }

  async #run(
    data: StatesInput,
    { dIn, target, onEvent, where, skipInvalid, ...settings }: Omit<TrainOptions, 'signal'>,
  ): Promise<TrainOutcome> {
    const { signal } = this.#cancel
    // part of what a checkpoint is of: chosen by the training itself
    const chosen = { where: conditionsOf(where), skipInvalid }
    const json = settingsJson({ ...settings, ...chosen }, SETTINGS, 'auto')
    let resumedAt = -1
    const say = (event: TrainEvent) => {
      if (event.type === 'resume') resumedAt = event.step
      this.#log.add(event)
      tell(onEvent, event)
    }
    const watch = {
      signal,
      progress: (event: TrainEvent) => say(defined(event)),
      // a run cancelled before its first step has nothing to say
      cancelled: (text: string) => {
        say({
          type: 'cancelled',
          steps: 0,
          bestStep: 0,
          model: null,
          checkpoint: null,
          ...(JSON.parse(text) as Partial<CancelledEvent>),
        })
      },
    }
    const { job, json: done } = await withTarget(
      data,
      target,
      { dIn, signal, memory: spooled(settings.memory), skipInvalid, kept: this.#kept },
      (states, targets) => runJob(on => native.startTrain(states, targets, json, on), watch),
    )
    const { history, ...result } = JSON.parse(done) as TrainResult & Pick<TrainOutcome, 'history'>
    for (const figures of [result.train, result.validation, result.before]) defined(figures)
    for (const event of history) {
      // what was told before the checkpoint is not told again
      if (!this.#log.has(defined(event)) && event.step > resumedAt) say(event)
    }
    return { model: wrapModel(taken(job.takeModel(), 'model')), history, result }
  }
}

/** What an iterable's rows may take of the memory: the quarter that windows leave. */
const spooled = (memory = 2 ** 30) => Math.max(1, Math.floor(memory / 4))

/** @internal What each setting is; ranges and contradictions are the addon's to judge. */
export const TRAIN_SETTINGS: Kinds<TrainSettings> = {
  preset: ['default', 'minimal', 'reference'],
  architecture: 'string',
  k: 'whole number',
  bits: 'whole number',
  sparsityWeight: 'finite number',
  expansion: 'finite number',
  dSae: 'whole number',
  estimator: ['identity', 'sigmoid', 'rectangle', 'reference-sigmoid', 'squarewave'],
  gradientWidth: 'finite number',
  epochs: 'whole number',
  steps: 'whole number',
  batchSize: 'whole number',
  learningRate: 'finite number',
  entropyWeight: 'finite number',
  covarianceWeight: 'finite number',
  entropyStartEpoch: 'whole number',
  validationFraction: 'finite number',
  shuffle: 'boolean',
  normalize: ['default', 'none', 'mean-norm', 'layer-norm', 'standardize'],
  lrSchedule: ['constant', 'linear', 'cosine'],
  warmUpSteps: 'whole number',
  penaltyWarmUpSteps: 'whole number',
  clipNorm: 'finite number',
  resampleEvery: 'whole number',
  validateEvery: 'whole number',
  patience: 'whole number',
  seed: 'whole number',
  device: 'device',
  threads: 'whole number',
  precision: ['f32', 'bf16', 'f16'],
  memory: 'whole number',
  out: 'string',
  overwrite: 'boolean',
  resume: 'boolean',
  checkpointEvery: 'whole number',
  checkpointMinutes: 'finite number',
  keepCheckpoints: 'whole number',
  tensorboard: 'boolean',
}

/** @internal The same, and which rows are taken. */
export const SETTINGS: Kinds<TrainSettings & { where: string[]; skipInvalid: boolean | undefined }> = {
  ...TRAIN_SETTINGS,
  where: 'strings',
  skipInvalid: 'boolean',
}
