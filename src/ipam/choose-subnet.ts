import { addressBits, type IpPrefix, lastAddress, networkAddress, prefixesOverlap } from '../wire/ip-address.ts'

/**
 * Chooses the subnet of a network whose configuration names none.
 * @param pool Where to look, in this order; entries too small for the wish are passed over.
 * @param prefixLength Of the wanted subnet.
 * @param taken What the host uses: other networks, routes, addresses of interfaces.
 * @returns The first subnet of the pool that shares no address with what is taken, or undefined.
 */
export function chooseSubnet(pool: readonly IpPrefix[], prefixLength: number, taken: readonly IpPrefix[]): IpPrefix | undefined {
  for (const part of pool) {
    const { family } = part.address
    const bits = addressBits(family)
    if (prefixLength < part.prefixLength || prefixLength > bits) continue
    const size = 1n << BigInt(bits - prefixLength)
    const end = lastAddress(part).value
    let value = networkAddress(part).value
    while (value <= end) {
      const candidate = { address: { family, value }, prefixLength }
      const obstacle = taken.find((prefix) => prefix.address.family === family && prefixesOverlap(prefix, candidate))
      if (obstacle === undefined) return candidate
      // Past the whole obstacle at once: a taken 10.0.0.0/8 costs one step.
      const past = lastAddress(obstacle).value + 1n
      value = past > value + size ? ((past + size - 1n) / size) * size : value + size
    }
  }
  return undefined
}
