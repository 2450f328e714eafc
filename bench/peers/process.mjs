// A peer as a process of its own that answers JSON lines.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import process from 'node:process'
import { createInterface } from 'node:readline'

export class Peer {
  #child
  #lines
  #ended

  /** Starts the process of an entry of `list.mjs`. */
  constructor(name, { command, args }, threads) {
    this.name = name
    const env = { ...process.env, OMP_NUM_THREADS: `${threads}`, MKL_NUM_THREADS: `${threads}` }
    this.#child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], env })
    this.#lines = createInterface(this.#child.stdout)[Symbol.asyncIterator]()
    let said = ''
    this.#child.stderr.on('data', text => {
      said = (said + text).slice(-4000)
    })
    // a peer that ends on its own breaks the pipe; the reason is its last line on stderr
    this.#child.stdin.on('error', () => {})
    this.#ended = new Promise(resolve => {
      this.#child.on('error', error => resolve(error.message))
      this.#child.on('close', (status, signal) => {
        const error = said.match(/^\w*(Error|error)\b.*$/gm)?.at(-1) ?? said.trim().split('\n').at(-1)
        resolve(error || `ended with ${signal ?? status}`)
      })
    })
  }

  /** Sends a command and gives the answer; throws what the peer reports as an error. */
  async ask(command) {
    this.#child.stdin.write(`${JSON.stringify(command)}\n`)
    const answer = await Promise.race([this.#lines.next(), this.#ended.then(reason => ({ reason }))])
    if (!answer.value) throw new Error(answer.reason ?? (await this.#ended))
    const given = JSON.parse(answer.value)
    if (given.error) throw new Error(given.error)
    return given
  }

  /** Stops the whole process, so that threads that spin while they wait cost the others nothing. */
  pause() {
    if (process.platform !== 'win32') this.#child.kill('SIGSTOP')
  }

  resume() {
    if (process.platform !== 'win32') this.#child.kill('SIGCONT')
  }

  /** Ends the process; does not throw if it has ended already. */
  async close() {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null || !this.#child.pid) return
    const closed = once(this.#child, 'close')
    this.resume()
    this.#child.stdin.end('{"cmd":"close"}\n')
    const late = setTimeout(() => this.#child.kill('SIGKILL'), 5000)
    await closed
    clearTimeout(late)
  }
}
