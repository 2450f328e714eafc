import { readFile } from 'node:fs/promises'
import { type Command, Option } from 'commander'
import {
  architectures,
  BaeError,
  type BinaryAutoencoder,
  type CancelledEvent,
  type StartEvent,
  train as start,
  type TrainEvent,
  type TrainOptions,
  type TrainResult,
  type TrainSettings,
  type ValidationFigures,
} from '../index.js'
import { byteCount, choosing, DATA, device, integer, number, overwrite, target, threads } from './options.js'
import { type Context, Interruption, type Run, UsageError } from './output.js'
import {
  bitsOnly,
  count,
  explained,
  figure,
  leftOut,
  percent,
  place,
  plural,
  quoted,
  sparsityRows,
  table,
} from './text.js'

export type Settings = TrainSettings & Pick<TrainOptions, 'where' | 'skipInvalid'>

export type Options = Omit<Settings, 'learningRate'> & {
  lr?: number
  config?: string
}

/** Settings that cannot be given together. */
const CONTRADICTIONS = [
  ['expansion', 'dSae'],
  ['epochs', 'steps'],
  ['resume', 'overwrite'],
] as const

/** The options of training, as `bae sweep` has them too, and `bae synthetic` some of them. */
export const SETTINGS = [
  new Option('--out <dir>', 'folder to save the model to (needed)'),
  overwrite('a model or a training'),
  new Option(
    '--resume',
    'go on from the last checkpoint in the folder, to the same bits; from the start if there is none',
  ),
  new Option(
    '--preset <name>',
    'the recipe: `default`, `minimal` for few bits, or `reference`, the published settings on raw input',
  ).choices(['default', 'minimal', 'reference']),
  new Option(
    '--architecture <name>',
    'what is trained: a Binary Autoencoder, or what it is compared with (default: bae)',
  ).choices(architectures()),
  new Option('--k <n>', 'features that are on in a row: topk and its kin (default: 32)').argParser(
    integer({ above: 0 }),
  ),
  new Option('--bits <n>', "bits of a feature's code: kbit (default: 2)").argParser(integer({ above: 0 })),
  new Option(
    '--sparsity-weight <w>',
    "weight of the sparsity penalty, in units of the normalised squared error: relu, jumprelu, gated (default: the architecture's)",
  ).argParser(number({ atLeast: 0 })),
  new Option('--expansion <x>', 'features as a multiple of the values a row (default: 4)').argParser(
    number({ above: 0 }),
  ),
  new Option('--d-sae <n>', 'features').argParser(integer({ above: 0 })),
  new Option('--epochs <n>', 'passes over the training rows (default: as many as make 420 steps)').argParser(
    integer({ above: 0 }),
  ),
  new Option('--steps <n>', 'batches to train on').argParser(integer({ above: 0 })),
  new Option('--batch-size <rows>', 'rows a step (default: 512)').argParser(integer({ above: 0 })),
  new Option('--lr <rate>', "peak step size of Adam (default: the preset's)").argParser(number({ above: 0 })),
  new Option(
    '--entropy-weight <w>',
    "what a bit of entropy costs, in units of the normalised squared error (default: the preset's)",
  ).argParser(number({ atLeast: 0 })),
  new Option(
    '--covariance-weight <w>',
    "weight of the absolute covariance between features (default: the preset's)",
  ).argParser(number({ atLeast: 0 })),
  new Option(
    '--entropy-start-epoch <n>',
    'epoch, from 0, in which the entropy weight begins (default: 0)',
  ).argParser(integer({ atLeast: 0 })),
  new Option(
    '--estimator <name>',
    "what stands for the derivative of the step function (default: the preset's)",
  ).choices(['identity', 'sigmoid', 'rectangle', 'reference-sigmoid', 'squarewave']),
  new Option(
    '--gradient-width <w>',
    "width of the estimator: sigmoid and rectangle, or an architecture's own; in units of the pre-activation",
  ).argParser(number({ above: 0 })),
  new Option(
    '--lr-schedule <name>',
    "how the learning rate goes down after the warm-up (default: the preset's)",
  ).choices(['constant', 'linear', 'cosine']),
  new Option(
    '--warm-up-steps <n>',
    "steps over which the learning rate goes up (default: the preset's, a tenth of all)",
  ).argParser(integer({ atLeast: 0 })),
  new Option(
    '--penalty-warm-up-steps <n>',
    'steps over which the weights of the penalties go up (default: 0)',
  ).argParser(integer({ atLeast: 0 })),
  new Option('--clip-norm <x>', "largest norm of a step's gradient (default: none)").argParser(
    number({ above: 0 }),
  ),
  new Option(
    '--resample-every <steps>',
    'draw features anew that were on in none of the last so many steps (default: never)',
  ).argParser(integer({ above: 0 })),
  new Option(
    '--normalize <how>',
    "what is done to the input: `default` centres and scales it, outliers left aside; the others are usual in the field (default: the preset's)",
  ).choices(['default', 'none', 'mean-norm', 'layer-norm', 'standardize']),
  new Option(
    '--validation-fraction <x>',
    'share of the rows held out to be measured on (default: 0.2)',
  ).argParser(number({ atLeast: 0, below: 1 })),
  new Option(
    '--validate-every <steps>',
    'steps between two measurements of the held-out rows (default: an epoch)',
  ).argParser(integer({ above: 0 })),
  new Option(
    '--patience <n>',
    'end after so many measurements without a better model (default: never)',
  ).argParser(integer({ above: 0 })),
  ...choosing(),
  new Option('--no-shuffle', 'take the rows in their order'),
  new Option(
    '--memory <size>',
    'for hidden states that wait for their turn and all that reading takes, as 256M; larger data is shuffled in windows (default: 1G)',
  ).argParser(byteCount),
  new Option('--checkpoint-every <steps>', 'steps between two checkpoints').argParser(integer({ above: 0 })),
  new Option('--checkpoint-minutes <x>', 'minutes between two checkpoints (default: 30)').argParser(
    number({ above: 0 }),
  ),
  new Option('--keep-checkpoints <n>', 'checkpoints that are kept (default: 3)').argParser(
    integer({ above: 0 }),
  ),
  new Option('--tensorboard', 'write TensorBoard event files to the folder'),
  new Option(
    '--seed <n>',
    'whole number that decides everything random: same seed, same bits (default: 0)',
  ).argParser(integer({ atLeast: 0 })),
  device('auto'),
  new Option(
    '--precision <p>',
    'precision of the products in a step; bf16 is faster where the CPU has it, f16 is for GPUs (default: f32)',
  ).choices(['f32', 'bf16', 'f16']),
  threads(),
]

/** The settings' names in a configuration file. */
const NAMES = SETTINGS.map(option =>
  option.attributeName() === 'lr' ? 'learningRate' : option.attributeName(),
)

/** `--config` */
export const config = () =>
  new Option(
    '--config <file>',
    'JSON file of these options, named in camelCase (`learningRate` for --lr, `shuffle`, `memory` in bytes); the command line wins',
  )

export function train(program: Command, run: Run): Command {
  const command = program
    .command('train')
    .description('train a Binary Autoencoder, or what it is compared with, on hidden states')
    .argument('<data...>', DATA)
    .addOption(config())
  for (const option of [...SETTINGS, target()]) command.addOption(option)
  return command
    .addHelpText(
      'after',
      '\nEntropy is in bits: the sum over features of the marginal entropy, over all rows of the held-out set.\n' +
        'Ctrl-C, and a request to end, write a checkpoint for --resume and keep the best model so far; a second one ends at once.',
    )
    .action(
      run(async (context, data: string[], { target, ...options }: Options & { target?: string[] }) => {
        const settings = await settingsOf(options, command.getOptionValueSource('shuffle') === 'cli')
        if (!settings.out) throw new UsageError('--out DIR is needed: the folder to save the model to')
        await follow(context, data, target, settings)
      }),
    )
}

/** The command line over the configuration file. */
export async function settingsOf(
  { config, lr, shuffle, ...rest }: Options,
  shuffleGiven: boolean,
): Promise<Settings> {
  const given: Settings = { ...rest }
  if (lr !== undefined) given.learningRate = lr
  if (shuffleGiven) given.shuffle = shuffle
  refuseContradictions(given, name => `--${name.replace(/[A-Z]/g, letter => `-${letter.toLowerCase()}`)}`)
  if (config === undefined) return given
  const settings = await readConfig(config)
  refuseContradictions(settings, name => `${name} in ${config}`)
  for (const pair of CONTRADICTIONS) {
    if (pair.some(name => given[name] !== undefined)) for (const name of pair) delete settings[name]
  }
  return { ...settings, ...given }
}

async function readConfig(path: string): Promise<Settings> {
  const text = await readFile(path, 'utf8').catch(cause => {
    throw new BaeError('IO', `cannot read ${path}: ${cause.message}; give --config a JSON file`, { cause })
  })
  let settings: unknown
  try {
    settings = JSON.parse(text)
  } catch (cause) {
    throw new UsageError(`${path} is no JSON: ${(cause as Error).message}`)
  }
  if (typeof settings !== 'object' || settings === null || Array.isArray(settings)) {
    throw new UsageError(`${path} must hold a JSON object of options`)
  }
  const unknown = Object.keys(settings).filter(name => !NAMES.includes(name))
  if (unknown.length) {
    throw new UsageError(`${path} has unknown options: ${unknown.join(', ')}; there are ${NAMES.join(', ')}`)
  }
  return settings
}

function refuseContradictions(settings: Settings, name: (setting: string) => string): void {
  for (const [one, other] of CONTRADICTIONS) {
    if (settings[one] !== undefined && settings[other] !== undefined) {
      throw new UsageError(`${name(one)} and ${name(other)} contradict each other: give one of them`)
    }
  }
}

/** Trains, and tells about it. */
async function follow(
  { signal, progress, result }: Context,
  data: string[],
  target: string[] | undefined,
  settings: Settings,
): Promise<void> {
  let begun: StartEvent | undefined
  let measured = ''
  const onEvent = (event: TrainEvent) => {
    switch (event.type) {
      case 'start':
        begun = event
        progress.note(
          `training ${plural(event.dSae, 'feature')} on ${plural(event.trainRows, 'row')} of ${count(event.dIn)} values, ${event.dOut === null ? '' : `targets of ${count(event.dOut)}, `}` +
            `${count(event.validationRows)} held out${event.sequences === null ? '' : ' (whole sequences)'}: ` +
            `${event.steps ? plural(event.steps, 'step') : 'fitted, no steps'}, ${place(event)}`,
        )
        for (const line of leftOut(event)) progress.note(line)
        break
      case 'resume':
        progress.note(`going on after step ${count(event.step)} from ${event.path}`)
        break
      case 'warning':
        progress.note(`warning, after step ${count(event.step)}: ${event.message}`)
        break
      case 'reading':
        progress.update(
          event.rows,
          event.total,
          `reading: ${count(event.rows)} of ${count(event.total)} rows`,
        )
        break
      case 'validation':
        measured = `${figure(event.entropyBits)} bits`
        if (!Number.isNaN(event.explainedVariance))
          measured = `${percent(event.explainedVariance)} explained, ${measured}`
        break
      case 'step': {
        const epoch = `epoch ${event.epoch} of ${event.epochs}`
        const each = begun ? (begun.trainRows * event.epochs) / event.steps : 0
        progress.update(event.step, event.steps, measured ? `${epoch}, ${measured}` : epoch, {
          each,
          unit: 'rows',
        })
        break
      }
      case 'cancelled':
        if (signal.reason instanceof Interruption) tellInterruption(signal.reason, event, begun)
    }
  }
  const { model, result: document, history } = await start(data, { ...settings, target, signal, onEvent })
  progress.stop()
  result({ ...document, history }, summary(document, data, target, settings, model, begun?.validationRows))
  model.dispose()
}

function tellInterruption(
  interruption: Interruption,
  { steps, model, checkpoint }: CancelledEvent,
  begun: StartEvent | undefined,
): void {
  interruption.details = { steps, model, checkpoint }
  const after =
    begun?.steps === 0
      ? 'interrupted while fitting'
      : `interrupted after ${count(steps)}${begun ? ` of ${count(begun.steps)}` : ''} steps`
  const kept = model === null ? 'nothing new was saved' : `the best model so far is in ${model}`
  interruption.message = `${after}; ${kept}${checkpoint === null ? '' : ', and --resume goes on'}`
}

function summary(
  result: TrainResult,
  data: string[],
  target: string[] | undefined,
  { where = [], skipInvalid }: Settings,
  trained: BinaryAutoencoder,
  heldOut = 0,
): string[] {
  const { validation, before, model } = result
  const { entropyWeight } = trained.config.training as { entropyWeight: number }
  const fitted = result.steps === 0
  const did = fitted
    ? 'Fitted'
    : `Trained for ${plural(result.steps, 'step')} (${plural(result.epochs, 'epoch')})`
  const lines = [`${did} in ${figure(result.seconds)} s on ${place({ ...result, reason: null })}.`]
  if (result.endedEarly)
    lines.push(`Ended early: nothing had got better since step ${count(result.bestStep)}.`)
  if (validation) {
    const against = (then: string | undefined) =>
      then === undefined || fitted ? '' : `; before training: ${then}`
    lines.push(
      `On the ${plural(heldOut, 'row')} held out:`,
      ...table([
        [
          'reconstruction',
          explained(validation.explainedVariance) +
            against(
              before && !Number.isNaN(before.explainedVariance)
                ? percent(before.explainedVariance)
                : undefined,
            ),
        ],
        [
          'entropy',
          `${figure(validation.entropyBits)} bits${against(before ? figure(before.entropyBits) : undefined)}`,
        ],
        ...sparsityRows(validation, trained.dSae),
      ]),
      ...(entropyWeight > 0 ? tradeOff(before, validation) : []),
      ...failure(validation, fitted),
      ...bitsOnly(trained),
    )
  } else {
    lines.push(
      'On the rows trained on (none were held out):',
      ...table([
        ['squared error', figure(result.train.mse)],
        ['entropy', `${figure(result.train.entropyBits)} bits`],
      ]),
    )
  }
  if (model !== null) {
    const rows = [
      ...[where].flat().map(each => `--where ${quoted(each)}`),
      ...(skipInvalid ? ['--skip-invalid'] : []),
    ]
    const [dir, files] = [quoted(model), [...data.map(quoted), ...rows].join(' ')]
    const targets = target ? ` --target ${target.map(quoted).join(' ')}` : ''
    lines.push(
      `The model is in ${model} (sae_weights.safetensors, cfg.json).`,
      'Next:',
      `  npx bae evaluate ${dir} ${files}${targets}`,
      `  npx bae entropy ${dir} ${files}`,
      `  npx bae encode ${dir} ${files} --out codes.safetensors`,
    )
  }
  return lines
}

/** Says that nothing was learnt, where that is so. What is fitted has no learning rate. */
function failure({ explainedVariance }: ValidationFigures, fitted: boolean): string[] {
  if (!(explainedVariance < 0)) return []
  const help = fitted ? 'fewer features, more rows' : 'a lower --lr, more rows'
  return [`That is worse than the mean of the rows: ${help} or another --normalize may help.`]
}

/** Says that bits were bought with error, where they were: it is what the entropy weight asks for. */
export function tradeOff(before: ValidationFigures | null, after: ValidationFigures): string[] {
  if (!before) return []
  const points = 100 * (before.explainedVariance - after.explainedVariance)
  const bits = 1 - after.entropyBits / before.entropyBits
  if (!(points > 0 && bits > 0)) return []
  return [
    `Training gave ${figure(points)} points of reconstruction for ${percent(bits)} fewer bits; ` +
      'a lower --entropy-weight keeps more of both.',
  ]
}
