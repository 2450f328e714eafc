// Loads the addon and, where that fails, says what to do about it. Beside it lie the generated `binding.cjs` and
// the built `bae.*.node`.
try {
  module.exports = require('./binding.cjs')
} catch (cause) {
  const built = require('node:fs').existsSync(`${__dirname}/binding.cjs`)
  throw Object.assign(
    new Error(
      built
        ? `the native addon of binary-autoencoder could not be loaded on ${process.platform}-${process.arch}: ` +
            'in a clone run `npm run build`, in a project install the package again'
        : 'the native addon of binary-autoencoder is not built yet: run `npm run build`',
      { cause },
    ),
    { code: 'ADDON_MISSING' },
  )
}
