// What every JavaScript peer does alike, once per feature and so cheap: the entropy term, and Adam's numbers.

const EPSILON = 1e-10

/** Entropy of features that are on in `ones` of `n` rows, summed, in bits, and its slope by p for each. */
export function entropy(ones, n) {
  let bits = 0
  const slopes = new Float32Array(ones.length)
  for (let j = 0; j < ones.length; j++) {
    const p = ones[j] / n
    const q = 1 - p
    const [logP, logQ] = [Math.log2(p + EPSILON), Math.log2(q + EPSILON)]
    bits -= p * logP + q * logQ
    slopes[j] = logQ - logP + (q / (q + EPSILON) - p / (p + EPSILON)) / Math.LN2
  }
  return { bits, slopes }
}

export const BETA1 = 0.9
export const BETA2 = 0.999
export const ADAM_EPSILON = 1e-8
