/** Limits of bandwidth in a configuration. @see containernetworking/plugins plugins/meta/bandwidth/README.md; CNI CONVENTIONS.md, "bandwidth" */
import type { RateLimit, RateLimits } from '../bridge/shaper.ts'
import { field, type JsonObject, optionalInteger, optionalObject } from '../cni/json.ts'
import type { RawConfig } from '../cni/request.ts'
import { CNI_CODE, TsnetError } from '../error.ts'

const KEYS = ['ingressRate', 'ingressBurst', 'egressRate', 'egressBurst']
/** Bytes of a burst are a number of 32 bits in the kernel. */
const LARGEST_BURST_BYTES = 0xffffffff

/** @returns The definition's limits, else the runtime's. @throws TsnetError TSNET_CONFIG, CNI code 7, for a bad number or half a pair */
export function parseBandwidth({ raw, runtimeConfig }: Pick<RawConfig, 'raw' | 'runtimeConfig'>): RateLimits {
  if (KEYS.some((key) => field(raw, key) !== undefined)) return limitsIn(raw, '')
  return limitsIn(optionalObject(runtimeConfig, 'bandwidth', 'runtimeConfig.') ?? {}, 'runtimeConfig.bandwidth.')
}

function limitsIn(object: JsonObject, path: string): RateLimits {
  const ingress = limitOf(object, 'ingress', path)
  const egress = limitOf(object, 'egress', path)
  return { ...(ingress && { ingress }), ...(egress && { egress }) }
}

function limitOf(object: JsonObject, direction: 'ingress' | 'egress', path: string): RateLimit | undefined {
  const number = (key: string) => optionalInteger(object, key, { min: 0, max: Number.MAX_SAFE_INTEGER, path }) ?? 0
  const [rateKey, burstKey] = [`${direction}Rate`, `${direction}Burst`]
  const [rate, burst] = [number(rateKey), number(burstKey)]
  if (rate === 0 && burst === 0) return undefined
  if (burst === 0) throw refuse(`"${path}${rateKey}" is set, so "${path}${burstKey}" must be set too`)
  if (rate === 0) throw refuse(`"${path}${burstKey}" is set, so "${path}${rateKey}" must be set too`)
  if (rate < 8) throw refuse(`"${path}${rateKey}" is less than a byte a second`)
  if (burst / 8 >= LARGEST_BURST_BYTES) throw refuse(`"${path}${burstKey}" must be less than 4 GiB`)
  return { rate, burst }
}

function refuse(why: string): TsnetError {
  return new TsnetError('TSNET_CONFIG', `Cannot limit the bandwidth: ${why}`, { cniCode: CNI_CODE.invalidConfig })
}
