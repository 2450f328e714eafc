// Makes a clone ready to run: packages, native addon, JavaScript; whatever is up to date is left alone.
// This file only looks at the Node it runs on, in syntax that old ones understand; setup.mjs does the work.
import process from 'node:process'

const needed = [20, 19]
const found = process.versions.node.split('.').map(Number)
if (found[0] < needed[0] || (found[0] === needed[0] && found[1] < needed[1])) {
  console.error(
    `Node ${needed.join('.')} or newer is needed, this is ${process.versions.node}: install it from https://nodejs.org`,
  )
  process.exit(1)
}
import('./setup.mjs').then(setup => setup.ready(process.argv.slice(2)))
