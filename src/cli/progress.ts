import process from 'node:process'
import { Presets, SingleBar } from 'cli-progress'
import type { RowsProgress } from '../index.js'
import { count, duration } from './text.js'

/** Time between two lines where stderr is no terminal, in milliseconds. */
const LINE_EVERY = 5000

/** Progress on stderr: a bar on a terminal, a line now and then otherwise. */
export class Progress {
  readonly #shown: boolean
  #bar: SingleBar | undefined
  /** Where what is under way began, and when: a resumed training does not begin at 0. */
  #from: { done: number; total: number; at: number } | undefined
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

  /** `done` of `total`, with what there is to say beside it; `perSecond` is how much of that is one of `done`. */
  update(done: number, total: number, text: string, perSecond?: { each: number; unit: string }): void {
    if (!this.#shown || total === 0) return
    const now = performance.now()
    if (this.#from?.total !== total || done < this.#from.done) this.#from = { done, total, at: now }
    const pace = (done - this.#from.done) / ((now - this.#from.at) / 1000)
    const rate = perSecond && pace > 0 ? `, ${count(pace * perSecond.each)} ${perSecond.unit}/s` : ''
    const left = pace > 0 ? `${duration((total - done) / pace)} left` : ''
    if (process.stderr.isTTY) {
      this.#bar ??= started(total)
      this.#bar.setTotal(total)
      this.#bar.update(done, { text: `${text}${rate}`, left })
    } else if (now - this.#said >= LINE_EVERY) {
      this.#said = now
      const percentage = `${Math.floor((100 * done) / total)} %`
      process.stderr.write(`${[percentage, `${text}${rate}`, left].filter(Boolean).join(', ')}\n`)
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
      format: '{bar} {percentage} % | {text} | {left}',
      stream: process.stderr,
      clearOnComplete: true,
      // an interrupted command must leave the terminal as it was, and stops the bar itself
      hideCursor: false,
      gracefulExit: false,
    },
    Presets.shades_classic,
  )
  bar.start(total, 0, { text: '', left: '' })
  return bar
}
