// The sum over a workgroup of 256 of numbers of 64 bits, each in two words, low and high: all invocations get it.
var<workgroup> low: array<u32, 256>;
var<workgroup> high: array<u32, 256>;

fn wide_sum(index: u32, own: vec2u) -> vec2u {
  low[index] = own.x;
  high[index] = own.y;
  workgroupBarrier();
  for (var half = 128u; half > 0u; half /= 2u) {
    if (index < half) {
      let sum = wide_add(vec2u(low[index], high[index]), vec2u(low[index + half], high[index + half]));
      low[index] = sum.x;
      high[index] = sum.y;
    }
    workgroupBarrier();
  }
  return vec2u(low[0], high[0]);
}

fn wide_add(a: vec2u, b: vec2u) -> vec2u {
  let sum = a.x + b.x;
  return vec2u(sum, a.y + b.y + u32(sum < b.x));
}
