import process from 'node:process'
import { Presets, SingleBar } from 'cli-progress'
import type { RowsProgress } from '../index.js'
import { count } from './text.js'

/** Time between two lines where stderr is no terminal, in milliseconds. */
const LINE_EVERY = 5000

/** Progress on stderr: a bar on a terminal, a line now and then otherwise. */
export class Progress {
  readonly #shown: boolean
  #bar: SingleBar | undefined
  #said = performance.now()

  constructor(shown: boolean) {
    this.#shown = shown
  }

  /** Says a line at once. */
  note(line: string): void {
    if (!this.#shown) return
    this.stop()
    process.stderr.write(`${line}\n`)
  }

  /** `done` of `total`, with what there is to say beside it. */
  update(done: number, total: number, text: string): void {
    if (!this.#shown || total === 0) return
    if (process.stderr.isTTY) {
      this.#bar ??= started(total)
      this.#bar.update(done, { text })
    } else if (performance.now() - this.#said >= LINE_EVERY) {
      this.#said = performance.now()
      process.stderr.write(`${Math.floor((100 * done) / total)} %, ${text}\n`)
    }
  }

  /** For the calls that go through rows. */
  readonly rows = ({ rows, total }: RowsProgress): void => {
    this.update(rows, total, `${count(rows)} of ${count(total)} rows`)
  }

  /** Takes the bar away. */
  stop(): void {
    this.#bar?.stop()
    this.#bar = undefined
  }
}

function started(total: number): SingleBar {
  const bar = new SingleBar(
    {
      format: '{bar} {percentage} % | {text} | {eta_formatted} left',
      stream: process.stderr,
      clearOnComplete: true,
      // an interrupted command must leave the terminal as it was, and stops the bar itself
      hideCursor: false,
      gracefulExit: false,
    },
    Presets.shades_classic,
  )
  bar.start(total, 0, { text: '' })
  return bar
}
