// JSON lines on stdin and stdout for a peer written in JavaScript; `serve.py` is the same in Python.
import { readFileSync } from 'node:fs'
import process from 'node:process'
import { createInterface } from 'node:readline'
import { gradientErrors, readFixture } from './fixture.mjs'

/** Version of a package in bench/node_modules; read as a file, because some packages do not export theirs. */
export function versionOf(name) {
  return JSON.parse(readFileSync(new URL(`../node_modules/${name}/package.json`, import.meta.url), 'utf8'))
    .version
}

/**
 * `open(fixture, threads)` gives `{ version, variant?, lossesAndGradients(), step() }`. The first gives
 * `{ losses: { loss, mse, entropyBits, covariance }, gradients: { W_enc, … } }` and changes no parameter.
 */
export async function serve(name, open) {
  let fixture
  let peer
  const commands = {
    async open({ fixture: path, threads }) {
      fixture = readFixture(path)
      peer = await open(fixture, threads)
      return { ok: true, name, version: peer.version, variant: peer.variant }
    },
    async check() {
      const { losses, gradients } = await peer.lossesAndGradients()
      return { ...losses, errors: gradientErrors(fixture, gradients) }
    },
    async steps({ count }) {
      const ms = []
      for (let step = 0; step < count; step++) {
        const began = performance.now()
        await peer.step()
        ms.push(performance.now() - began)
      }
      return { ms, peakBytes: process.resourceUsage().maxRSS * 1024 }
    },
  }
  // libraries that log must not write between the lines of the protocol
  const answer = process.stdout.write.bind(process.stdout)
  console.log = console.info = console.warn = console.error
  for await (const line of createInterface(process.stdin)) {
    const { cmd, ...given } = JSON.parse(line)
    if (cmd === 'close') break
    try {
      if (!commands[cmd]) throw new Error(`no such command: ${cmd}`)
      answer(`${JSON.stringify(await commands[cmd](given))}\n`)
    } catch (error) {
      answer(`${JSON.stringify({ error: `${error}`.split('\n')[0] })}\n`)
    }
  }
  // worker pools would keep the process
  process.exit(0)
}
