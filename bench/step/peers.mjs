// The peers' side of a run: opening, checking against our figures, taking turns, closing.
import { fileURLToPath } from 'node:url'
import { readFixture } from '../peers/fixture.mjs'
import { PRODUCT } from '../peers/list.mjs'
import { Peer } from '../peers/process.mjs'

/** How far a peer's losses may be from ours, relative. */
const LOSS_TOLERANCE = 1e-4
/** And its gradients, by Frobenius norm: a pre-activation near 0 may round to the other bit. */
const GRADIENT_TOLERANCE = 2e-2

/** Peers whose processes run. */
export const open = new Set()

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

const say = line => console.error(line)

/** What is wrong with a peer's check, or null. */
function wrong(check, losses, { lossTolerance = LOSS_TOLERANCE, gradientTolerance = GRADIENT_TOLERANCE }) {
  for (const [name, ours] of Object.entries(losses)) {
    const error = Math.abs(check[name] - ours) / Math.max(Math.abs(ours), 1e-12)
    if (!(error <= lossTolerance)) return `${name} is ${check[name]}, ours is ${ours}`
  }
  for (const [name, error] of Object.entries(check.errors)) {
    if (!(error <= gradientTolerance)) return `the gradient of ${name} differs by ${error.toExponential(1)}`
  }
  return null
}

/** Opens the peers on the fixture and checks those that do whole steps; gives those that can be timed, paused. */
export async function openPeers(entries, fixture, threads, missing) {
  const { losses } = readFixture(fixture)
  const peers = []
  for (const [name, entry] of entries) {
    const peer = new Peer(name, entry, threads)
    open.add(peer)
    try {
      Object.assign(peer, { told: await peer.ask({ cmd: 'open', fixture, threads }) })
      if (entry !== PRODUCT[name]) {
        const check = await peer.ask({ cmd: 'check' })
        const errors = Object.entries(check.errors).map(
          ([tensor, error]) => `${tensor} ${error.toExponential(1)}`,
        )
        say(`${name}: loss ${check.loss} (ours ${losses.loss}); gradients differ by ${errors.join(', ')}`)
        const reason = wrong(check, losses, entry)
        if (reason) throw new Error(`wrong: ${reason}`)
        peer.check = check
      }
      peer.pause()
      peers.push(peer)
    } catch (error) {
      await drop(peer, missing, error)
    }
  }
  return peers
}

async function drop(peer, missing, error) {
  // the report is committed, and where the tree lies on this machine is nobody's business
  const reason = error.message.replaceAll(ROOT, '')
  missing.push({ name: peer.name, reason })
  say(`${peer.name} is not timed: ${reason}`)
  await peer.close()
  open.delete(peer)
}

/** Ends the peers' processes. */
export async function closePeers(peers) {
  for (const peer of peers) {
    await peer.close()
    open.delete(peer)
  }
}

/** A runner for `rounds` of a peer, which sleeps outside its turns. */
export function turns(peer, command) {
  return {
    name: peer.name,
    async time(count, warmUp) {
      peer.resume()
      try {
        if (warmUp) await peer.ask(command(warmUp))
        const { ms, peakBytes } = await peer.ask(command(count))
        peer.peakBytes = peakBytes
        return ms
      } finally {
        peer.pause()
      }
    },
  }
}

/** A peer as the tables name it. */
export const label = ({ name, version, variant }) =>
  `${name} (${[version, variant].filter(Boolean).join(', ')})`
