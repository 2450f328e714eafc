// Loads the addon. Where that fails, the first use says what to do about it. Importing does not fail: an error thrown
// here while an ES module is being loaded would end the process on Node 20, caught or not.
try {
  module.exports = require('./binding.cjs')
} catch (cause) {
  const isBuilt = require('node:fs').existsSync(`${__dirname}/binding.cjs`)
  const message = isBuilt
    ? `the native addon of binary-autoencoder could not be loaded on ${process.platform}-${process.arch}: ` +
      'in a clone run `npm run build`, in a project install the package again'
    : 'the native addon of binary-autoencoder is not built yet: run `npm run build`'
  module.exports = new Proxy(
    {},
    {
      get(_, name) {
        // what module loaders ask of any module
        if (typeof name === 'symbol' || name === '__esModule' || name === 'default' || name === 'then')
          return undefined
        throw Object.assign(new Error(message, { cause }), { code: 'IO' })
      },
    },
  )
}
